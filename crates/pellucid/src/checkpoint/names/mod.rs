//! Foreign names and ours. A family is data: which configs it can express, its `config.json` keys, and a table from
//! its tensors to ours. Nothing else in the library asks what a model is called.

mod gpt2;
mod keys;
mod llama;
mod native;

pub(crate) use keys::Keys;

use super::generation::GenerationConfig;
use super::safetensors::StoredType;
use crate::error::{Error, Kind, Result};
use crate::model::config::{ActivationKind, Config};
use serde_json::{Map, Value, json};
use std::ops::Range;

pub(crate) const OPERATION: &str = "load config";

/// Whose names a folder uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `model_type: gpt2`, for `GPT2LMHeadModel`.
    Gpt2,
    /// `model_type: llama`, for `LlamaForCausalLM`.
    Llama,
    /// `model_type: pellucid`: our own names, for every other architecture.
    Native,
}

/// A foreign tensor and its place in our weights.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) name: String,
    /// As stored in the file.
    pub(crate) shape: Vec<usize>,
    pub(crate) place: Place,
}

#[derive(Debug)]
pub(crate) enum Place {
    /// These rows of our parameter, as they lie.
    Rows(String, Range<usize>),
    /// Our whole parameter (r, c), stored as (c, r).
    Transposed(String),
    /// A bias that the family always has and this config has not: written as zeros, refused if anything else.
    Zeros,
    /// A second name of our parameter: never written; if there, it must say the same.
    Alias(String),
}

impl Family {
    /// The family that can express `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        if gpt2::fits(config) {
            Self::Gpt2
        } else if llama::fits(config) {
            Self::Llama
        } else {
            Self::Native
        }
    }

    /// The value of `model_type` in `config.json`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Native => "pellucid",
        }
    }

    /// Every tensor of the family for `config`, in the order it is written.
    pub(crate) fn pieces(self, config: &Config) -> Vec<Piece> {
        match self {
            Self::Gpt2 => gpt2::pieces(config),
            Self::Llama => llama::pieces(config),
            Self::Native => native::pieces(config),
        }
    }

    /// The table's name for a tensor of a file: exporters disagree about prefixes.
    pub(crate) fn canonical(self, name: &str) -> String {
        match self {
            Self::Gpt2 => gpt2::canonical(name),
            Self::Llama | Self::Native => name.into(),
        }
    }

    /// Whether a tensor of a file is a constant that the family computes anew.
    pub(crate) fn ignores(self, canonical: &str) -> bool {
        match self {
            Self::Gpt2 => gpt2::ignores(canonical),
            Self::Llama => llama::ignores(canonical),
            Self::Native => false,
        }
    }
}

/// The text of `config.json`: the family's keys, then ours whole under `"pellucid"`.
pub(crate) fn config_json(
    config: &Config,
    generation: &GenerationConfig,
    stored: StoredType,
) -> Result<String> {
    let map = config_map(Family::of(config), config, generation, stored)?;
    Ok(format!("{:#}\n", Value::Object(map)))
}

/// The keys of `config.json` in the words of `family`.
pub(super) fn config_map(
    family: Family,
    config: &Config,
    generation: &GenerationConfig,
    stored: StoredType,
) -> Result<Map<String, Value>> {
    let (architecture, keys) = match family {
        Family::Gpt2 => ("GPT2LMHeadModel", gpt2::write_keys(config)),
        Family::Llama => ("LlamaForCausalLM", llama::write_keys(config)),
        Family::Native => ("PellucidForCausalLM", json!({"vocab_size": config.vocab})),
    };
    let mut map = Map::new();
    map.insert("model_type".into(), json!(family.model_type()));
    map.insert("architectures".into(), json!([architecture]));
    if let Value::Object(keys) = keys {
        map.extend(keys);
    }
    map.insert("bos_token_id".into(), json!(generation.bos));
    let eos = match generation.eos[..] {
        [] => Value::Null,
        [eos] => json!(eos),
        _ => json!(generation.eos),
    };
    map.insert("eos_token_id".into(), eos);
    map.insert("torch_dtype".into(), json!(stored.torch_name()));
    // Through text, so that 1e-5 stays 1e-5 and does not become the f64 next to the f32.
    let own = serde_json::to_string(config).and_then(|text| serde_json::from_str::<Value>(&text));
    let own = own.map_err(|e| Error::new(Kind::Config, "save config", e.to_string()))?;
    map.insert("pellucid".into(), own);
    Ok(map)
}

/// Family and config from the text of a `config.json`, ours or foreign; `name` is for messages.
///
/// # Errors
/// Not JSON, an unknown `model_type`, missing or unsupported keys (all listed), sizes that contradict each other, our
/// own entry contradicting the family's keys.
pub fn parse_config(text: &str, name: &str) -> Result<(Family, Config)> {
    let mut keys = Keys::parse(text, name, OPERATION)?;
    let own = keys.own()?;
    let model_type = keys.text("model_type", "");
    let (family, foreign) = match model_type.as_str() {
        "gpt2" => (Family::Gpt2, Some(gpt2::read_keys(&mut keys))),
        "llama" => (Family::Llama, Some(llama::read_keys(&mut keys))),
        "pellucid" => (Family::Native, None),
        other => {
            let message = format!("{name}: model_type {other:?} is not one this library knows");
            return Err(Error::new(Kind::Format, OPERATION, message)
                .hint("gpt2, llama and pellucid are; convert the checkpoint to one of them"));
        }
    };
    keys.finish(Kind::Format, "only what is listed stands in the way")?;
    let config = match (own, foreign) {
        (Some(own), None) => own,
        (None, Some(foreign)) => foreign,
        (Some(own), Some(foreign)) => {
            agree(&own, &foreign, family, name)?;
            own
        }
        (None, None) => {
            let message = format!("{name}: the entry \"pellucid\" with the sizes is missing");
            return Err(Error::new(Kind::Format, OPERATION, message));
        }
    };
    config.validate().map_err(|e| {
        Error::new(e.kind(), OPERATION, format!("{name}: the sizes contradict each other"))
            .fact(e.to_string())
    })?;
    Ok((family, config))
}

/// Our own entry and the family's keys must tell of one model: a stale one would compute something else, silently.
fn agree(own: &Config, foreign: &Config, family: Family, name: &str) -> Result<()> {
    // What the family's keys cannot say is taken from ours.
    let mut told = Config {
        bias: own.bias,
        norm_bias: own.norm_bias,
        dropout: own.dropout,
        ..foreign.clone()
    };
    if family == Family::Gpt2 {
        told.rotary_base = own.rotary_base;
    }
    if told == *own {
        return Ok(());
    }
    let message =
        format!("{name}: the entry \"pellucid\" and the keys of {} disagree", family.model_type());
    let mut error = Error::new(Kind::Config, OPERATION, message)
        .hint("correct one of them; or delete \"pellucid\" if the file was changed on purpose");
    let fields = |c: &Config| match serde_json::to_value(c) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    for ((field, ours), (_, theirs)) in fields(own).into_iter().zip(fields(&told)) {
        if ours != theirs {
            error = error.fact(format!("{field}: {ours} and {theirs}"));
        }
    }
    Err(error)
}

fn activation_name(kind: ActivationKind, gpt2: bool) -> &'static str {
    match kind {
        ActivationKind::Gelu => "gelu",
        ActivationKind::GeluTanh if gpt2 => "gelu_new",
        ActivationKind::GeluTanh => "gelu_pytorch_tanh",
        ActivationKind::Relu => "relu",
        ActivationKind::ReluSquared => "relu2",
        ActivationKind::Silu => "silu",
    }
}

fn read_activation(keys: &mut Keys, key: &str, default: &str) -> ActivationKind {
    match keys.text(key, default).as_str() {
        "gelu" | "gelu_python" => ActivationKind::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" => {
            ActivationKind::GeluTanh
        }
        "relu" => ActivationKind::Relu,
        "relu2" => ActivationKind::ReluSquared,
        "silu" | "swish" => ActivationKind::Silu,
        other => {
            keys.fault(format!("{key} = {other:?} is not supported"));
            ActivationKind::Gelu
        }
    }
}

/// A whole parameter under a foreign name.
fn whole(name: String, shape: Vec<usize>, ours: String) -> Piece {
    let rows = 0..shape[0];
    Piece { name, shape, place: Place::Rows(ours, rows) }
}

/// Whether a config is a decoder's with nothing that only some families have.
fn is_plain(config: &Config) -> bool {
    let plain = Config::gpt2();
    let told = Config {
        qkv_bias: plain.qkv_bias,
        pooling: plain.pooling,
        architecture: config.architecture,
        core: config.core,
        output: config.output,
        position_offset: config.position_offset,
        embedding_norm: config.embedding_norm,
        segments: config.segments,
        qk_norm: config.qk_norm,
        attention_scale: config.attention_scale,
        rotary_scaling: config.rotary_scaling,
        window_from: config.window_from,
        scaled_head: config.scaled_head,
        head_bias: config.head_bias,
        head_transform: config.head_transform,
        ..plain.clone()
    };
    told == plain && config.qkv_bias.is_none_or(|bias| bias == config.bias)
}
