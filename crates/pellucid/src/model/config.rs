//! Every size of a Transformer, validated once, all faults at once.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// How a model knows where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A trained vector for each position (GPT-2).
    Learned,
    /// Fixed sines and cosines added to the embedding (Vaswani et al. 2017).
    Sinusoidal,
    /// Queries and keys are rotated by an angle proportional to the position (RoPE, Su et al. 2021).
    Rotary,
    /// Scores fall linearly with distance (ALiBi, Press et al. 2022).
    Alibi,
    /// Nothing: only the causal mask tells positions apart (NoPE).
    None,
}

/// How a vector is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// To mean 0 and variance 1 (Ba et al. 2016).
    LayerNorm,
    /// To root mean square 1 (Zhang & Sennrich 2019).
    RmsNorm,
}

/// Where the normalisation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// `x + f(norm(x))`, and one more norm before the head (GPT-2 and after).
    Pre,
    /// `norm(x + f(x))` (the original paper).
    Post,
}

/// The feed-forward nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// `x Φ(x)` with the exact error function.
    Gelu,
    /// GELU's tanh approximation (GPT-2's `gelu_new`).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²` (So et al. 2021).
    ReluSquared,
    /// `x σ(x)`, also called swish.
    Silu,
}

/// Sizes and choices of a decoder-only Transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: token ids run from 0 to `vocab - 1`.
    pub vocab: usize,
    /// The most positions a sequence may have.
    pub context: usize,
    /// L: blocks.
    pub layers: usize,
    /// C: width of the residual stream.
    pub width: usize,
    /// H: query heads.
    pub heads: usize,
    /// K: key/value heads; `heads` is MHA, 1 is MQA, between is GQA (Ainslie et al. 2023).
    pub kv_heads: usize,
    /// D: width of a head.
    pub head_width: usize,
    /// F: hidden width of the feed-forward.
    pub hidden: usize,
    /// How positions are told apart.
    pub positions: Positions,
    /// Base of the rotary angles (θ).
    pub rotary_base: f64,
    /// Which normalisation.
    pub norm: NormKind,
    /// Added to the variance or mean square.
    pub norm_epsilon: f32,
    /// Before or after each sublayer.
    pub norm_placement: NormPlacement,
    /// The feed-forward nonlinearity.
    pub activation: ActivationKind,
    /// Whether the feed-forward is gated: `act(gate) * up` (Shazeer 2020).
    pub gated: bool,
    /// Whether linear layers have a bias.
    pub bias: bool,
    /// Whether LayerNorm has a bias.
    pub norm_bias: bool,
    /// Whether the head is the transposed token embedding (Press & Wolf 2017).
    pub tied_head: bool,
    /// Whether embeddings are multiplied by √C (Vaswani et al. 2017, section 3.4).
    pub scaled_embedding: bool,
    /// Sliding window: a query sees this many positions, itself included. `None`: all before it.
    pub window: Option<usize>,
    /// Probability of dropping an element after the embedding and each sublayer, and an attention weight.
    pub dropout: f32,
}

impl Config {
    /// GPT-2's architecture at 124M parameters.
    #[must_use]
    pub fn gpt2() -> Self {
        Self {
            vocab: 50257,
            context: 1024,
            layers: 12,
            width: 768,
            heads: 12,
            kv_heads: 12,
            head_width: 64,
            hidden: 3072,
            positions: Positions::Learned,
            rotary_base: 10_000.0,
            norm: NormKind::LayerNorm,
            norm_epsilon: 1e-5,
            norm_placement: NormPlacement::Pre,
            activation: ActivationKind::GeluTanh,
            gated: false,
            bias: true,
            norm_bias: true,
            tied_head: true,
            scaled_embedding: false,
            window: None,
            dropout: 0.0,
        }
    }

    /// Llama's architecture (rotary, RMSNorm, gated SiLU, grouped keys, no biases) at a small size.
    #[must_use]
    pub fn llama() -> Self {
        Self {
            vocab: 32_000,
            context: 2048,
            layers: 8,
            width: 512,
            heads: 8,
            kv_heads: 4,
            head_width: 64,
            hidden: 1376,
            positions: Positions::Rotary,
            norm: NormKind::RmsNorm,
            activation: ActivationKind::Silu,
            gated: true,
            bias: false,
            norm_bias: false,
            tied_head: false,
            ..Self::gpt2()
        }
    }

    /// nanoGPT's character recipe: 6 layers, 6 heads, 384 wide, T = 256; about 10.7M parameters.
    #[must_use]
    pub fn nano() -> Self {
        Self {
            vocab: 65,
            context: 256,
            layers: 6,
            width: 384,
            heads: 6,
            kv_heads: 6,
            head_width: 64,
            hidden: 1536,
            bias: false,
            norm_bias: false,
            activation: ActivationKind::Gelu,
            ..Self::gpt2()
        }
    }

    /// A preset by name.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "gpt2" => Ok(Self::gpt2()),
            "llama" => Ok(Self::llama()),
            "nano" => Ok(Self::nano()),
            _ => Err(Error::new(Kind::Config, "config", format!("no preset is named {name:?}"))
                .hint("choose gpt2, llama or nano")),
        }
    }

    /// One dial: `depth` blocks, 64 channels wide for each of them, heads of 64, everything else from the preset.
    #[must_use]
    pub fn with_depth(mut self, depth: usize) -> Self {
        let ratio = self.hidden as f64 / self.width.max(1) as f64;
        let grouped = self.heads / self.kv_heads.max(1);
        self.layers = depth;
        self.width = 64 * depth;
        self.head_width = 64;
        self.heads = depth;
        // Keep the preset's grouping where it divides, else one key head per query head.
        self.kv_heads =
            if grouped > 0 && depth.is_multiple_of(grouped) { depth / grouped } else { depth };
        self.hidden = ((ratio * self.width as f64 / 32.0).round() as usize).max(1) * 32;
        self
    }

    /// Learning rate that follows from the width: 1e-3 at 384, falling with its square root of width ratio.
    #[must_use]
    pub fn suggested_learning_rate(&self) -> f64 {
        1e-3 * (384.0 / self.width.max(1) as f64).sqrt()
    }

    /// Columns of a packed query, key, value row: (H + 2K) D.
    #[must_use]
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }

    /// Checks every rule and lists every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let mut rule = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        for (name, value) in [
            ("vocab", self.vocab),
            ("context", self.context),
            ("layers", self.layers),
            ("width", self.width),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_width", self.head_width),
            ("hidden", self.hidden),
        ] {
            rule(value > 0, format!("{name} = 0, but it must be at least 1"));
            rule(value < 1 << 31, format!("{name} = {value}, but ids and sizes fit in 31 bits"));
        }
        rule(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            format!("kv_heads = {} does not divide heads = {}", self.kv_heads, self.heads),
        );
        rule(
            self.positions != Positions::Rotary || self.head_width.is_multiple_of(2),
            format!("head_width = {} is odd, but rotary turns pairs", self.head_width),
        );
        rule(
            self.rotary_base.is_finite() && self.rotary_base > 1.0,
            format!("rotary_base = {}, but it must be a number above 1", self.rotary_base),
        );
        rule(
            self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0,
            format!("norm_epsilon = {}, but it must be above 0", self.norm_epsilon),
        );
        rule(
            (0.0..1.0).contains(&self.dropout),
            format!("dropout = {}, but it must be at least 0 and below 1", self.dropout),
        );
        rule(self.window != Some(0), "window = 0, but a query must see itself".into());
        rule(
            !(self.norm == NormKind::RmsNorm && self.norm_bias),
            "norm_bias = true, but RMSNorm has none".into(),
        );
        if faults.is_empty() {
            return Ok(());
        }
        let count = faults.len();
        let error = Error::new(
            Kind::Config,
            "config",
            format!("{count} fault{} in the model's sizes", if count == 1 { "" } else { "s" }),
        )
        .hint("correct these fields in the run's TOML, the flags or config.json");
        Err(faults.into_iter().fold(error, Error::fact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_and_every_depth_are_valid() {
        for preset in ["gpt2", "llama", "nano"] {
            Config::preset(preset).unwrap().validate().unwrap();
            for depth in 1..20 {
                Config::preset(preset).unwrap().with_depth(depth).validate().unwrap();
            }
        }
    }

    #[test]
    fn all_faults_are_listed_at_once() {
        let config = Config { heads: 5, kv_heads: 2, vocab: 0, dropout: 1.5, ..Config::gpt2() };
        let text = config.validate().unwrap_err().to_string();
        for fault in ["3 faults", "vocab = 0", "kv_heads = 2 does not divide heads = 5", "dropout"]
        {
            assert!(text.contains(fault), "{text}");
        }
    }
}
