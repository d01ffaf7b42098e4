//! What the keys of a run choose among.

use serde::{Deserialize, Serialize};

/// In which order windows of tokens are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingKind {
    /// Rows begin anywhere, with replacement, as in nanoGPT.
    Random,
    /// Every window once per epoch, in an order of its own.
    Epochs,
}

/// What a run learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// The next token of a text.
    #[default]
    Language,
    /// A text from another: translation.
    Translation,
    /// Tokens that were masked (BERT).
    Masked,
    /// The label of a text, or of a pair of texts.
    Labels,
    /// A number for a text, or for a pair of texts.
    Numbers,
    /// The tag of each word of a text.
    Tags,
    /// The assistant's answers in conversations.
    Instructions,
    /// The next state of a chain whose law must be found in the row itself.
    Markov,
    /// What comes next in a segment that repeats.
    Repeat,
    /// Digits in order.
    Sort,
    /// Sums modulo a number.
    Modular,
}

impl TaskKind {
    /// Whether sequences are made by a law, so that no file is read.
    #[must_use]
    pub fn is_synthetic(self) -> bool {
        matches!(self, Self::Markov | Self::Repeat | Self::Sort | Self::Modular)
    }
}

/// Which examples come together in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupingKind {
    /// Any.
    #[default]
    Random,
    /// Those of about the same length.
    Bucketed,
}

/// Number format of matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrecisionKind {
    /// 32-bit throughout.
    F32,
    /// Operands rounded to bfloat16, sums in 32 bits.
    Bf16,
}

/// What the forward pass does not keep for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecomputeKind {
    /// Everything is kept.
    Nothing,
    /// What is cheap to compute is computed again.
    Cheap,
    /// Only the input of each block is kept.
    Blocks,
}
