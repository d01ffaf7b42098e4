//! Sizes and choices to keys and back.

use super::container::{Container, refused};
use super::meta::Meta;
use super::value::Value;
use super::writer::Keys;
use super::{EXPORT, rope};
use crate::checkpoint::names::Family;
use crate::error::{Error, Kind, Result};
use crate::model::config::{ActivationKind, Config, RotaryScaling};
use crate::model::weights::{Weights, parameters};

/// What `general.architecture` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gpt2,
}

/// Keys of models that differ from those of the same architecture, and what they say where they do not differ.
const FOREIGN: [(&str, f64); 13] = [
    (".expert_count", 0.0),
    (".attention.causal", 1.0),
    (".attention.scale", 0.0),
    (".attention.clamp_kqv", 0.0),
    (".attention.max_alibi_bias", 0.0),
    (".attn_logit_softcapping", 0.0),
    (".final_logit_softcapping", 0.0),
    (".embedding_scale", 1.0),
    (".residual_scale", 1.0),
    (".logit_scale", 1.0),
    (".use_parallel_residual", 0.0),
    (".nextn_predict_layers", 0.0),
    (".rope.scaling.attn_factor", 1.0),
];

impl Architecture {
    pub(super) const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gpt2];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gpt2 => "gpt2",
        }
    }

    /// Whose table of tensors it has.
    pub(super) fn family(self) -> Family {
        match self {
            Self::Llama => Family::Llama,
            Self::Qwen2 => Family::Qwen2,
            Self::Qwen3 => Family::Qwen3,
            Self::Gpt2 => Family::Gpt2,
        }
    }

    /// That of a file.
    pub(super) fn of_file(file: &Container) -> Result<Self> {
        if let Some(Value::Whole(2..)) = file.values.get("split.count") {
            let message = "one part of a model that is split into several files".into();
            return Err(refused(&file.path, message).hint("join them: llama-gguf-split --merge"));
        }
        let found = match file.values.get("general.architecture") {
            Some(Value::Text(name)) => name,
            Some(other) => &other.brief(),
            None => "",
        };
        Self::ALL.into_iter().find(|a| a.name() == found).ok_or_else(|| {
            let message = format!("general.architecture is {found:?}");
            refused(&file.path, message)
                .hint(format!("{} are read", Self::ALL.map(Self::name).join(", ")))
        })
    }

    /// The one that can say all of `config`.
    pub(super) fn of(config: &Config, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let refuse = |message: String| Error::new(Kind::Config, EXPORT, message);
        if config.adapter.is_some() {
            let message = "the model has an adapter, which a file of weights cannot hold";
            return Err(refuse(message.into()).hint("merge it first"));
        }
        if weights.specs() != parameters(config) {
            return Err(Error::new(Kind::Shape, EXPORT, "the weights belong to another config"));
        }
        let family = Family::of(config);
        let found = match family {
            Family::Gpt2 => Self::Gpt2,
            Family::Llama | Family::Mistral => Self::Llama,
            Family::Qwen2 => Self::Qwen2,
            Family::Qwen3 => Self::Qwen3,
            _ => {
                let message =
                    format!("a {} model has no architecture in GGUF", family.model_type());
                return Err(refuse(message).hint(
                    "models with the layout of GPT-2, Llama, Mistral, Qwen2 and Qwen3 are written",
                ));
            }
        };
        let (name, activation) = (found.name(), found.activation());
        if config.activation != activation {
            let message = format!(
                "activation = {:?}, but {name} is always {activation:?}",
                config.activation
            );
            return Err(refuse(message).hint("other programs would compute something else"));
        }
        match config.rotary_scaling {
            RotaryScaling::Llama3 { .. } if found != Self::Llama => {
                Err(refuse(format!("rotary_scaling = llama3, which {name} does not have there")))
            }
            RotaryScaling::Llama3 { low_frequency, high_frequency, .. }
                if (low_frequency, high_frequency) != rope::USUAL =>
            {
                let (low, high) = rope::USUAL;
                let message =
                    format!("low_frequency = {low_frequency}, high_frequency = {high_frequency}");
                Err(refuse(message).fact(format!("the format's readers assume {low} and {high}")))
            }
            _ => Ok(found),
        }
    }

    fn activation(self) -> ActivationKind {
        if self == Self::Gpt2 { ActivationKind::GeluTanh } else { ActivationKind::Silu }
    }

    /// Sizes and choices of a file; every fault is listed.
    pub(super) fn read(self, file: &Container) -> Result<Config> {
        let mut meta = Meta::new(file, self.name());
        let config = match self {
            Self::Gpt2 => read_gpt2(&mut meta, file),
            _ => self.read_llama(&mut meta, file),
        };
        let config = Config { activation: self.activation(), ..config };
        for (key, harmless) in FOREIGN {
            meta.absent(key, harmless);
        }
        let told = meta.size_opt(".vocab_size");
        if let Some(told) = told.filter(|&told| told != config.vocab) {
            let vocab = config.vocab;
            meta.fault(format!(
                "{}.vocab_size = {told}, but token_embd.weight has {vocab} rows",
                self.name()
            ));
        }
        // Before tables are built for them.
        if config.layers > file.tensors.len() {
            let (layers, tensors) = (config.layers, file.tensors.len());
            meta.fault(format!(
                "{}.block_count = {layers}, but there are {tensors} tensors",
                self.name()
            ));
        }
        meta.finish()?;
        config.validate().map_err(|e| {
            refused(&file.path, "the sizes contradict each other".into()).fact(e.to_string())
        })?;
        Ok(config)
    }

    fn read_llama(self, meta: &mut Meta<'_>, file: &Container) -> Config {
        let (width, heads) = (meta.size(".embedding_length"), meta.size(".attention.head_count"));
        let usual = || width / heads.max(1);
        let head_width = meta.size_opt(".attention.key_length").unwrap_or_else(usual);
        for key in [".attention.value_length", ".rope.dimension_count"] {
            if let Some(other) = meta.size_opt(key).filter(|&other| other != head_width) {
                meta.fault(format!(
                    "{}{key} = {other}, but heads are {head_width} wide",
                    self.name()
                ));
            }
        }
        let rotary_base = meta.real(".rope.freq_base").unwrap_or(10_000.0);
        let biased = file.tensors.contains_key("blk.0.attn_q.bias");
        let context = meta.size(".context_length");
        // Qwen2's converter may write one that is never used.
        let used = |&window: &usize| window > 0 && (self == Self::Llama || window < context);
        let window = meta.size_opt(".attention.sliding_window").filter(used);
        Config {
            vocab: rows(meta, file, "token_embd.weight"),
            context,
            layers: meta.size(".block_count"),
            width,
            heads,
            kv_heads: meta.size_opt(".attention.head_count_kv").unwrap_or(heads),
            head_width,
            hidden: meta.size(".feed_forward_length"),
            window,
            qkv_bias: biased.then_some(true),
            qk_norm: self == Self::Qwen3,
            rotary_base,
            rotary_scaling: rope::read(meta, file, (rotary_base, head_width)),
            norm_epsilon: epsilon(meta, ".attention.layer_norm_rms_epsilon"),
            tied_head: !file.tensors.contains_key("output.weight"),
            ..Config::llama()
        }
    }

    pub(super) fn write(self, config: &Config, keys: &mut Keys) {
        let arch = self.name();
        let name = |key: &str| format!("{arch}.{key}");
        for (key, size) in [
            ("block_count", config.layers),
            ("context_length", config.context),
            ("embedding_length", config.width),
            ("feed_forward_length", config.hidden),
            ("attention.head_count", config.heads),
            ("vocab_size", config.vocab),
        ] {
            keys.size(&name(key), size);
        }
        if self == Self::Gpt2 {
            return keys.single(&name("attention.layer_norm_epsilon"), config.norm_epsilon);
        }
        for (key, size) in [
            ("attention.head_count_kv", config.kv_heads),
            ("attention.key_length", config.head_width),
            ("attention.value_length", config.head_width),
            ("rope.dimension_count", config.head_width),
        ] {
            keys.size(&name(key), size);
        }
        keys.single(&name("attention.layer_norm_rms_epsilon"), config.norm_epsilon);
        keys.single(&name("rope.freq_base"), config.rotary_base as f32);
        if let Some(window) = config.window {
            keys.size(&name("attention.sliding_window"), window);
        }
        match config.rotary_scaling {
            RotaryScaling::None => {}
            RotaryScaling::Linear { factor } => {
                keys.text(&name("rope.scaling.type"), "linear");
                keys.single(&name("rope.scaling.factor"), factor as f32);
            }
            RotaryScaling::Llama3 { original, .. } => {
                keys.size(&name("rope.scaling.original_context_length"), original);
            }
        }
    }
}

fn read_gpt2(meta: &mut Meta<'_>, file: &Container) -> Config {
    let (width, heads) = (meta.size(".embedding_length"), meta.size(".attention.head_count"));
    if heads == 0 || !width.is_multiple_of(heads) {
        meta.fault(format!("gpt2.attention.head_count = {heads} does not divide {width}"));
    }
    let (has, vocab) =
        (|name| file.tensors.contains_key(name), rows(meta, file, "token_embd.weight"));
    let context = meta.size(".context_length");
    Config {
        vocab,
        context,
        layers: meta.size(".block_count"),
        width,
        heads,
        kv_heads: heads,
        head_width: width / heads.max(1),
        hidden: meta.size(".feed_forward_length"),
        norm_epsilon: epsilon(meta, ".attention.layer_norm_epsilon"),
        tied_head: !has("output.weight"),
        bias: has("blk.0.attn_qkv.bias"),
        norm_bias: has("output_norm.bias"),
        ..Config::gpt2()
    }
}

/// Rows of a matrix.
fn rows(meta: &mut Meta<'_>, file: &Container, name: &str) -> usize {
    let rows = file.tensors.get(name).map(|tensor| tensor.shape[0]);
    rows.unwrap_or_else(|| {
        meta.fault(format!("the tensor {name} is missing"));
        1
    })
}

fn epsilon(meta: &mut Meta<'_>, key: &str) -> f32 {
    let found = meta.real(key);
    if found.is_none() && meta.get(key).is_none() {
        meta.fault(format!("{} is missing", &key[1..]));
    }
    found.unwrap_or(1e-5) as f32
}
