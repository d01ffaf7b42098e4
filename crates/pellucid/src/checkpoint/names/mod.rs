//! Foreign names and ours. A family is data: which configs it can express, its `config.json` keys, and a table from
//! its tensors to ours. Nothing else in the library asks what a model is called.

mod bart;
mod bert;
mod gpt2;
mod keys;
mod llama;
mod native;
mod t5;
mod table;

pub(crate) use keys::Keys;

use super::generation::GenerationConfig;
use super::safetensors::StoredType;
use crate::error::{Error, Kind, Result};
use crate::model::config::{ActivationKind, Config, NormKind, Positions};
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
    /// `model_type: mistral`, for `MistralForCausalLM`.
    Mistral,
    /// `model_type: qwen2`, for `Qwen2ForCausalLM`.
    Qwen2,
    /// `model_type: qwen3`, for `Qwen3ForCausalLM`.
    Qwen3,
    /// `model_type: bert`, for `BertModel`, `BertForMaskedLM` and its classifiers.
    Bert,
    /// `model_type: roberta`, for the same.
    Roberta,
    /// `model_type: marian`, for `MarianMTModel`.
    Marian,
    /// `model_type: bart`, for `BartForConditionalGeneration`.
    Bart,
    /// `model_type: t5`, for `T5ForConditionalGeneration`.
    T5,
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
    /// Every family, those that say more last.
    pub const ALL: [Self; 11] = [
        Self::Gpt2,
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Bert,
        Self::Roberta,
        Self::Marian,
        Self::Bart,
        Self::T5,
        Self::Native,
    ];

    fn fits(self, config: &Config) -> bool {
        if is_bare(config) {
            return self == Self::Native;
        }
        match self {
            Self::Gpt2 => gpt2::fits(config),
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 => llama::fits(config, self),
            Self::Bert | Self::Roberta => bert::fits(config, self),
            Self::Marian | Self::Bart => bart::fits(config, self),
            Self::T5 => t5::fits(config),
            Self::Native => true,
        }
    }

    /// The family that can express `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::ALL.into_iter().find(|family| family.fits(config)).unwrap_or(Self::Native)
    }

    /// The value of `model_type` in `config.json`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::Marian => "marian",
            Self::Bart => "bart",
            Self::T5 => "t5",
            Self::Native => "pellucid",
        }
    }

    /// The class of `transformers` that opens it.
    fn architecture(self, config: &Config) -> &'static str {
        match self {
            Self::Gpt2 => "GPT2LMHeadModel",
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Bert | Self::Roberta => bert::architecture(config, self),
            Self::Marian => "MarianMTModel",
            Self::Bart => "BartForConditionalGeneration",
            Self::T5 => "T5ForConditionalGeneration",
            Self::Native => "PellucidForCausalLM",
        }
    }

    /// Every tensor of the family for `config`, in the order it is written.
    pub(crate) fn pieces(self, config: &Config) -> Vec<Piece> {
        match self {
            Self::Gpt2 => gpt2::pieces(config),
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 => llama::pieces(config),
            Self::Bert | Self::Roberta => bert::pieces(config, self),
            Self::Marian | Self::Bart => bart::pieces(config, self),
            Self::T5 => t5::pieces(config),
            Self::Native => native::pieces(config),
        }
    }

    /// The table's name for a tensor of a file: exporters disagree about prefixes.
    pub(crate) fn canonical(self, name: &str) -> String {
        match self {
            Self::Gpt2 => gpt2::canonical(name),
            Self::Bert | Self::Roberta => bert::canonical(name, self),
            _ => name.into(),
        }
    }

    /// Whether a tensor of a file is a constant that the family computes anew, or that nothing uses.
    pub(crate) fn ignores(self, canonical: &str) -> bool {
        match self {
            Self::Gpt2 => gpt2::ignores(canonical),
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 => llama::ignores(canonical),
            Self::Bert | Self::Roberta => bert::ignores(canonical),
            Self::Marian | Self::Bart => bart::ignores(canonical, self),
            Self::T5 => t5::ignores(canonical),
            Self::Native => false,
        }
    }

    fn write_keys(self, config: &Config, generation: &GenerationConfig) -> Value {
        match self {
            Self::Gpt2 => gpt2::write_keys(config),
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 => {
                llama::write_keys(config, self)
            }
            Self::Bert | Self::Roberta => bert::write_keys(config),
            Self::Marian | Self::Bart => bart::write_keys(config, generation, self),
            Self::T5 => t5::write_keys(config, generation),
            Self::Native => json!({"vocab_size": config.vocab}),
        }
    }

    /// The sizes that a foreign `config.json` tells; none of our own.
    fn read_keys(self, keys: &mut Keys) -> Option<Config> {
        Some(match self {
            Self::Gpt2 => gpt2::read_keys(keys),
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 => llama::read_keys(keys, self),
            Self::Bert | Self::Roberta => bert::read_keys(keys, self),
            Self::Marian | Self::Bart => bart::read_keys(keys, self),
            Self::T5 => t5::read_keys(keys),
            Self::Native => return None,
        })
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
    let (architecture, keys) = (family.architecture(config), family.write_keys(config, generation));
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
    let known = Family::ALL.into_iter().find(|family| family.model_type() == model_type);
    let Some(family) = known else {
        let message = format!("{name}: model_type {model_type:?} is not one this library knows");
        let known = Family::ALL.map(Family::model_type).join(", ");
        return Err(Error::new(Kind::Format, OPERATION, message)
            .hint(format!("{known} are; convert the checkpoint to one of them")));
    };
    let foreign = family.read_keys(&mut keys);
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
    if family != Family::Native && is_bare(&config) {
        let message = format!("{name}: a {model_type} model has feed-forwards and norms");
        return Err(Error::new(Kind::Config, OPERATION, message).hint("its sizes say it has none"));
    }
    Ok((family, config))
}

/// Whether blocks lack what those of every foreign family have.
fn is_bare(config: &Config) -> bool {
    !config.has_feed_forward() || config.norm == NormKind::None
}

/// Our own entry and the family's keys must tell of one model: a stale one would compute something else, silently.
fn agree(own: &Config, foreign: &Config, family: Family, name: &str) -> Result<()> {
    // What the family's keys cannot say is taken from ours.
    let mut told = Config {
        bias: own.bias,
        norm_bias: own.norm_bias,
        dropout: own.dropout,
        initial_std: own.initial_std,
        pooling: own.pooling,
        ..foreign.clone()
    };
    if own.positions != Positions::Rotary {
        told.rotary_base = own.rotary_base;
    }
    if matches!(family, Family::Marian | Family::Bart) {
        // A missing bias is written as zeros.
        told.head_bias = own.head_bias;
    }
    if told.has_qkv_bias() == own.has_qkv_bias() {
        told.qkv_bias = own.qkv_bias;
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
        initial_std: config.initial_std,
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
