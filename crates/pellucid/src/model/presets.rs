//! Named sets of sizes.

use super::config::{
    ActivationKind, Architecture, Config, Core, NormKind, NormPlacement, Output, Pooling,
    Positions, RotaryScaling,
};
use crate::error::{Error, Kind, Result};

/// Every preset's name.
pub const PRESETS: [&str; 11] = [
    "lstm",
    "lstm-translation",
    "nano",
    "gpt2",
    "llama",
    "transformer-tiny",
    "transformer-iwslt",
    "transformer-base",
    "transformer-big",
    "bert-mini",
    "bert",
];

impl Config {
    /// GPT-2's architecture at 124M parameters.
    #[must_use]
    pub fn gpt2() -> Self {
        Self {
            architecture: Architecture::Decoder,
            core: Core::Transformer,
            output: Output::Tokens,
            labels: vec![],
            pooling: Pooling::Last,
            pooler: false,
            adapter: None,
            source_vocab: 0,
            decoder_layers: 0,
            position_offset: 0,
            segments: 0,
            embedding_norm: false,
            qkv_bias: None,
            qk_norm: false,
            attention_scale: None,
            rotary_scaling: RotaryScaling::None,
            relative_buckets: 0,
            relative_distance: 0,
            window_from: 0,
            scaled_head: false,
            head_bias: false,
            head_transform: false,
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
            initial_std: None,
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

    /// The original Transformer's base model (Vaswani et al. 2017, table 3): 6 + 6 blocks, sinusoidal, post-norm, one
    /// embedding for source, target and head.
    #[must_use]
    pub fn transformer_base() -> Self {
        Self {
            architecture: Architecture::EncoderDecoder,
            vocab: 37_000,
            layers: 6,
            decoder_layers: 6,
            width: 512,
            heads: 8,
            kv_heads: 8,
            head_width: 64,
            hidden: 2048,
            // Sines before cosines: transformers' Marian has them so, and the order of columns means nothing.
            positions: Positions::SinusoidalHalved,
            norm_placement: NormPlacement::Post,
            activation: ActivationKind::Relu,
            scaled_embedding: true,
            dropout: 0.1,
            ..Self::gpt2()
        }
    }

    /// The same paper's big model.
    #[must_use]
    pub fn transformer_big() -> Self {
        let (width, heads, hidden) = (1024, 16, 4096);
        let base = Self::transformer_base();
        Self { width, heads, kv_heads: heads, hidden, dropout: 0.3, ..base }
    }

    /// The size usual for IWSLT'14: base with 4 heads and F = 1024, more dropout.
    #[must_use]
    pub fn transformer_iwslt() -> Self {
        let (heads, head_width) = (4, 128);
        let base = Self::transformer_base();
        Self { heads, kv_heads: heads, head_width, hidden: 1024, dropout: 0.3, ..base }
    }

    /// The size that suits 29,000 pairs of Multi30k (Wu et al. 2021): 4 + 4 blocks, C = 128, F = 256.
    #[must_use]
    pub fn transformer_tiny() -> Self {
        Self {
            layers: 4,
            decoder_layers: 4,
            width: 128,
            heads: 4,
            kv_heads: 4,
            head_width: 32,
            hidden: 256,
            context: 256,
            dropout: 0.3,
            ..Self::transformer_base()
        }
    }

    /// A recurrent language model of nanoGPT's width: 2 layers.
    #[must_use]
    pub fn lstm() -> Self {
        let (core, positions) = (Core::Lstm, Positions::None);
        Self { core, positions, layers: 2, ..Self::nano() }
    }

    /// The recurrent encoder-decoder with attention that the Transformer replaced, at a size for small corpora.
    #[must_use]
    pub fn lstm_translation() -> Self {
        Self {
            core: Core::Lstm,
            positions: Positions::None,
            layers: 2,
            decoder_layers: 2,
            width: 256,
            scaled_embedding: false,
            ..Self::transformer_tiny()
        }
    }

    /// BERT's base model (Devlin et al. 2019), to be trained on masked tokens.
    #[must_use]
    pub fn bert() -> Self {
        Self {
            architecture: Architecture::Encoder,
            pooling: Pooling::First,
            segments: 2,
            embedding_norm: true,
            head_bias: true,
            head_transform: true,
            vocab: 30_522,
            context: 512,
            norm_epsilon: 1e-12,
            norm_placement: NormPlacement::Post,
            activation: ActivationKind::Gelu,
            dropout: 0.1,
            ..Self::gpt2()
        }
    }

    /// An encoder small enough to be trained here from nothing: 4 blocks, C = 256.
    #[must_use]
    pub fn bert_mini() -> Self {
        Self {
            layers: 4,
            width: 256,
            heads: 4,
            kv_heads: 4,
            head_width: 64,
            hidden: 1024,
            vocab: 8192,
            context: 128,
            ..Self::bert()
        }
    }

    /// A preset by name.
    pub fn preset(name: &str) -> Result<Self> {
        match name {
            "gpt2" => Ok(Self::gpt2()),
            "llama" => Ok(Self::llama()),
            "nano" => Ok(Self::nano()),
            "transformer-base" => Ok(Self::transformer_base()),
            "transformer-big" => Ok(Self::transformer_big()),
            "transformer-iwslt" => Ok(Self::transformer_iwslt()),
            "transformer-tiny" => Ok(Self::transformer_tiny()),
            "lstm" => Ok(Self::lstm()),
            "lstm-translation" => Ok(Self::lstm_translation()),
            "bert" => Ok(Self::bert()),
            "bert-mini" => Ok(Self::bert_mini()),
            _ => Err(Error::new(Kind::Config, "config", format!("no preset is named {name:?}"))
                .hint(format!("choose one of {}", PRESETS.join(", ")))),
        }
    }

    /// One dial: `depth` blocks, 64 channels wide for each of them, heads of 64, everything else from the preset.
    #[must_use]
    pub fn with_depth(mut self, depth: usize) -> Self {
        let ratio = self.hidden as f64 / self.width.max(1) as f64;
        let grouped = self.heads / self.kv_heads.max(1);
        self.layers = depth;
        if self.has_source() {
            self.decoder_layers = depth;
        }
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
}
