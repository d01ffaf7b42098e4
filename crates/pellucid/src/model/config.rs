//! Every size and choice of a model. The rules they must keep are in `rules.rs`, named sets of them in `presets.rs`.

pub use super::adapter::{Adapter, Target};
pub use crate::ops::rotary::Scaling as RotaryScaling;
use serde::{Deserialize, Serialize};

/// Which stacks a model has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// One causal stack: each position sees those before it (GPT-2, Llama).
    #[default]
    Decoder,
    /// One stack in which every position sees every other (BERT).
    Encoder,
    /// An encoder, and a causal decoder that also looks at what the encoder made (Vaswani et al. 2017).
    EncoderDecoder,
}

/// What mixes positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Core {
    /// Attention.
    #[default]
    Transformer,
    /// A long short-term memory (Hochreiter & Schmidhuber 1997): the baseline.
    Lstm,
}

/// What stands on the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Scores of every token at every position: language models, masked or not.
    #[default]
    Tokens,
    /// Nothing: the vectors themselves.
    Vectors,
    /// Scores of the labels for the whole text.
    Sequence,
    /// Scores of the labels at every position.
    Positions,
}

/// Which vector stands for a whole text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The first position's (BERT's `[CLS]`).
    #[default]
    First,
    /// The mean over the real positions.
    Mean,
    /// The last real position's (decoders).
    Last,
}

/// How a model knows where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A trained vector for each position (GPT-2).
    Learned,
    /// Fixed sines and cosines added to the embedding, by turns (Vaswani et al. 2017).
    Sinusoidal,
    /// The same with all sines before all cosines (Marian).
    SinusoidalHalved,
    /// As halved, with the frequencies of tensor2tensor, which end one step later (OpenNMT, CTranslate2).
    SinusoidalTensor2tensor,
    /// Queries and keys are rotated by an angle proportional to the position (RoPE, Su et al. 2021).
    Rotary,
    /// Scores fall linearly with distance (ALiBi, Press et al. 2022).
    Alibi,
    /// A trained bias of each head for each bucket of distances (T5, Raffel et al. 2020).
    Relative,
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
    /// Not at all, so that the stream is a plain sum of what was written to it.
    None,
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

/// Sizes and choices of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which stacks.
    #[serde(default)]
    pub architecture: Architecture,
    /// What mixes positions.
    #[serde(default)]
    pub core: Core,
    /// What stands on the stack.
    #[serde(default)]
    pub output: Output,
    /// Names of the labels where [`Output`] scores labels; one name alone is a number to be predicted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Which vector stands for a whole text.
    #[serde(default)]
    pub pooling: Pooling,
    /// Whether the vector that stands for a text goes through a linear layer and tanh (BERT's pooler).
    #[serde(default)]
    pub pooler: bool,
    /// V of the encoder, with an embedding of its own; 0: encoder and decoder share one.
    #[serde(default)]
    pub source_vocab: usize,
    /// L of the decoder, where there are two stacks; `layers` is then the encoder's.
    #[serde(default)]
    pub decoder_layers: usize,
    /// Added to every position before its vector is looked up (BART, RoBERTa).
    #[serde(default)]
    pub position_offset: usize,
    /// Kinds of segments, each with a vector that is added to its tokens (BERT's token types); 0: none.
    #[serde(default)]
    pub segments: usize,
    /// Whether the sum of embeddings is normalised (BERT, BART).
    #[serde(default)]
    pub embedding_norm: bool,
    /// Whether queries, keys and values have a bias; none: as `bias` says (Qwen2).
    #[serde(default)]
    pub qkv_bias: Option<bool>,
    /// Whether each head's queries and keys are normalised to root mean square 1 (Qwen3).
    #[serde(default)]
    pub qk_norm: bool,
    /// What scores are multiplied by; none: 1/√D.
    #[serde(default)]
    pub attention_scale: Option<f32>,
    /// How rotary frequencies are changed for contexts longer than those trained on.
    #[serde(default)]
    pub rotary_scaling: RotaryScaling,
    /// Buckets of distances of [`Positions::Relative`].
    #[serde(default)]
    pub relative_buckets: usize,
    /// The distance from which on all are in the last of these buckets.
    #[serde(default)]
    pub relative_distance: usize,
    /// The first block with the sliding window.
    #[serde(default)]
    pub window_from: usize,
    /// Whether vectors are multiplied by 1/√C before the head (T5, where the head is tied).
    #[serde(default)]
    pub scaled_head: bool,
    /// Whether each token's score has a bias.
    #[serde(default)]
    pub head_bias: bool,
    /// Whether vectors go through a linear layer, the nonlinearity and a norm before the head (BERT).
    #[serde(default)]
    pub head_transform: bool,
    /// V: token ids run from 0 to `vocab - 1`.
    pub vocab: usize,
    /// The most positions a sequence may have.
    pub context: usize,
    /// L: blocks; of the encoder, where there are two stacks.
    pub layers: usize,
    /// C: width of the residual stream.
    pub width: usize,
    /// H: query heads.
    pub heads: usize,
    /// K: key/value heads; `heads` is MHA, 1 is MQA, between is GQA (Ainslie et al. 2023).
    pub kv_heads: usize,
    /// D: width of a head.
    pub head_width: usize,
    /// F: hidden width of the feed-forward; 0: blocks have none, only attention.
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
    /// Whether the head is the transposed token embedding (Press & Wolf 2017); the decoder's, where there are two.
    pub tied_head: bool,
    /// Whether embeddings are multiplied by √C (Vaswani et al. 2017, section 3.4).
    pub scaled_embedding: bool,
    /// Sliding window: a query sees this many positions, itself included. `None`: all before it.
    pub window: Option<usize>,
    /// Probability of dropping an element after the embedding and each sublayer, and an attention weight.
    pub dropout: f32,
    /// Standard deviation of the initial tables and matrices; none: 0.02, with two stacks Glorot & Bengio's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_std: Option<f32>,
    /// What is trained beside frozen matrices; a model that is used has none: it is merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
}

impl Config {
    /// Columns of a packed query, key, value row: (H + 2K) D.
    #[must_use]
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }

    /// Whether queries, keys and values have a bias.
    #[must_use]
    pub fn has_qkv_bias(&self) -> bool {
        self.qkv_bias.unwrap_or(self.bias)
    }

    /// Whether there is an encoder beside the decoder.
    #[must_use]
    pub fn has_source(&self) -> bool {
        self.architecture == Architecture::EncoderDecoder
    }

    /// V of what the first stack reads.
    #[must_use]
    pub fn source_vocab(&self) -> usize {
        if self.source_vocab > 0 { self.source_vocab } else { self.vocab }
    }

    /// Whether blocks have a feed-forward.
    #[must_use]
    pub fn has_feed_forward(&self) -> bool {
        self.hidden > 0
    }

    /// Columns of what stands on the stack: tokens, labels, or C.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self.output {
            Output::Tokens => self.vocab,
            Output::Vectors => self.width,
            Output::Sequence | Output::Positions => self.labels.len(),
        }
    }

    /// Whether a number is predicted, not a label.
    #[must_use]
    pub fn is_regression(&self) -> bool {
        self.output == Output::Sequence && self.labels.len() == 1
    }

    /// Whether it scores labels, of which one is right.
    #[must_use]
    pub fn is_classifier(&self) -> bool {
        matches!(self.output, Output::Sequence | Output::Positions) && !self.is_regression()
    }

    /// Blocks of the stack that predicts tokens one after another.
    #[must_use]
    pub fn blocks_that_generate(&self) -> usize {
        if self.has_source() { self.decoder_layers } else { self.layers }
    }
}
