//! Sizes and choices of a sparse autoencoder, and SAELens's `cfg.json` (the layout of its version 6; older ones are
//! read).

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of SAELens whose layout is written.
const LAYOUT: &str = "6.12.1";

/// Which activations remain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaeKind {
    /// Those above 0.
    #[default]
    Standard,
    /// The k largest of each vector.
    TopK,
    /// The k N largest of N vectors, in training.
    BatchTopK,
    /// Those above their threshold.
    JumpReLU,
}

/// What is done to vectors before, and undone after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Nothing.
    #[default]
    None,
    /// A factor for all that is not in the file.
    ExpectedAverageOnlyIn,
    /// Each is made √d_in long.
    ConstantNormRescale,
    /// Each is made of mean 0 and deviation 1.
    LayerNorm,
}

/// What it was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// SAELens treats a file without it as one of an older layout.
    #[serde(default = "layout")]
    pub sae_lens_version: String,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// The site whose vectors it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_name: Option<String>,
    /// Tokens of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_size: Option<usize>,
    /// What it read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_path: Option<String>,
    /// Whether texts began with a start token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepend_bos: Option<bool>,
    /// Whatever else the file says.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

fn layout() -> String {
    LAYOUT.into()
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            sae_lens_version: layout(),
            model_name: None,
            hook_name: None,
            context_size: None,
            dataset_path: None,
            prepend_bos: None,
            more: Map::new(),
        }
    }
}

fn float32() -> String {
    "float32".into()
}

fn cpu() -> String {
    "cpu".into()
}

fn none() -> String {
    "none".into()
}

fn yes() -> bool {
    true
}

/// Sizes and choices; fields as in SAELens's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaeConfig {
    /// Which activations remain.
    pub architecture: SaeKind,
    /// Width of the vectors.
    pub d_in: usize,
    /// Directions.
    pub d_sae: usize,
    /// Activations that remain; of [`SaeKind::TopK`] and [`SaeKind::BatchTopK`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    /// Elements of the file.
    #[serde(default = "float32")]
    pub dtype: String,
    /// Where SAELens computes.
    #[serde(default = "cpu")]
    pub device: String,
    /// Whether the decoder's bias is taken from what is encoded.
    #[serde(default = "yes")]
    pub apply_b_dec_to_input: bool,
    /// What is done to vectors before.
    #[serde(default)]
    pub normalize_activations: Normalize,
    /// `hook_z` where vectors are all heads' outputs side by side.
    #[serde(default = "none")]
    pub reshape_activations: String,
    /// Whether directions count by their length; folded into the matrices where tensors are read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rescale_acts_by_decoder_norm: bool,
    /// What it was made for.
    #[serde(default)]
    pub metadata: Metadata,
}

impl SaeConfig {
    /// For the vectors of a site.
    #[must_use]
    pub fn new(architecture: SaeKind, d_in: usize, d_sae: usize, hook_name: &str) -> Self {
        let hook_name = hook_name.to_owned();
        let reshape = if hook_name.ends_with("_z") { "hook_z" } else { "none" };
        Self {
            architecture,
            d_in,
            d_sae,
            k: None,
            dtype: float32(),
            device: cpu(),
            apply_b_dec_to_input: true,
            normalize_activations: Normalize::None,
            reshape_activations: reshape.into(),
            rescale_acts_by_decoder_norm: false,
            metadata: Metadata { hook_name: Some(hook_name), ..Metadata::default() },
        }
    }

    /// Whether sizes make sense together.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<()> {
        let error = |message: String| Err(Error::new(Kind::Config, "sae", message));
        if self.d_in == 0 || self.d_sae == 0 {
            return error(format!("d_in = {}, d_sae = {}; both at least 1", self.d_in, self.d_sae));
        }
        let needs_k = matches!(self.architecture, SaeKind::TopK | SaeKind::BatchTopK);
        if needs_k && !self.k.is_some_and(|k| k > 0 && k <= self.d_sae) {
            return error(format!("k = {:?}, but it must be in 1..={}", self.k, self.d_sae));
        }
        if self.normalize_activations == Normalize::ExpectedAverageOnlyIn {
            let message = "activations are to be scaled by a factor that the file does not hold";
            return Err(Error::new(Kind::Config, "sae", message)
                .hint("fold the factor into the matrices with SAELens first"));
        }
        Ok(())
    }

    /// `cfg.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and numbers")
    }

    /// Reads `cfg.json` of this layout or an older one.
    ///
    /// # Errors
    /// No such file, or one of a sort that is not known here.
    pub fn from_json(text: &str) -> Result<Self> {
        let error = |e: serde_json::Error| {
            Error::new(Kind::Format, "sae", format!("cfg.json: {e}"))
                .hint("standard, topk, batchtopk and jumprelu of SAELens are read")
        };
        let value: Value = serde_json::from_str(text).map_err(error)?;
        let Value::Object(mut map) = value else {
            return Err(Error::new(Kind::Format, "sae", "cfg.json is no object"));
        };
        if let Some(meta) = map.remove("meta") {
            map.insert("metadata".into(), meta);
        }
        if !map.contains_key("metadata") {
            modernise(&mut map)?;
        }
        let config: Self = serde_json::from_value(Value::Object(map)).map_err(error)?;
        config.check()?;
        Ok(config)
    }
}

/// Layouts before version 6 had everything at the top, and the activation apart from the architecture.
fn modernise(map: &mut Map<String, Value>) -> Result<()> {
    let mut metadata = Map::new();
    metadata.insert("sae_lens_version".into(), LAYOUT.into());
    let names = [
        ("hook_point", "hook_name"),
        ("hook_name", "hook_name"),
        ("model_name", "model_name"),
        ("context_size", "context_size"),
        ("dataset_path", "dataset_path"),
        ("prepend_bos", "prepend_bos"),
        ("hook_head_index", "hook_head_index"),
    ];
    for (old, new) in names {
        if let Some(value) = map.remove(old) {
            metadata.insert(new.into(), value);
        }
    }
    map.insert("metadata".into(), metadata.into());
    let unknown = |what: String| Err(Error::new(Kind::Format, "sae", format!("cfg.json: {what}")));
    if map.get("finetuning_scaling_factor").is_some_and(|v| v == true) {
        return unknown("factors of finetuning are not known here".into());
    }
    let activation = map.remove("activation_fn_str").or_else(|| map.remove("activation_fn"));
    match activation.as_ref().and_then(Value::as_str) {
        None | Some("relu") => {}
        Some("topk") => {
            map.insert("architecture".into(), "topk".into());
        }
        Some(other) => return unknown(format!("activation {other:?} is not known here")),
    }
    if let Some(k) = map.get("activation_fn_kwargs").and_then(|kwargs| kwargs.get("k")).cloned() {
        map.insert("k".into(), k);
    }
    map.entry("architecture").or_insert("standard".into());
    match map.get("normalize_activations") {
        Some(Value::Bool(true)) => {
            map.insert("normalize_activations".into(), "expected_average_only_in".into());
        }
        Some(Value::Bool(false) | Value::Null) => {
            map.remove("normalize_activations");
        }
        _ => {}
    }
    Ok(())
}
