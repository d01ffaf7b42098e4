//! The closed list of everything observable, with shapes.

use std::fmt;

/// A place in the computation whose value can be read. Printed as `blocks.3.attn.qkv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// Token vectors with their positions, (B, T, C): the stream before the first block.
    Embedding,
    /// Queries, keys and values of a block, after rotation, (B, T, (H + 2K) D).
    Qkv(usize),
    /// What the heads of a block read, side by side, before they are joined, (B, T, H D).
    Heads(usize),
    /// The stream after a block's attention, (B, T, C).
    AfterAttention(usize),
    /// What the feed-forward's nonlinearity gave, (B, T, F).
    Hidden(usize),
    /// The stream after a block, (B, T, C).
    Block(usize),
    /// The stream after the last normalisation: what the head reads, (B, T, C).
    Final,
    /// Scores of every next token, (B, T, V).
    Logits,
}

impl Site {
    /// Every site of a model with `layers` blocks, in the order of the data flow.
    #[must_use]
    pub fn all(layers: usize) -> Vec<Self> {
        let blocks = (0..layers).flat_map(|i| {
            [Self::Qkv(i), Self::Heads(i), Self::AfterAttention(i), Self::Hidden(i), Self::Block(i)]
        });
        [Self::Embedding].into_iter().chain(blocks).chain([Self::Final, Self::Logits]).collect()
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => write!(f, "embedding"),
            Self::Qkv(i) => write!(f, "blocks.{i}.attn.qkv"),
            Self::Heads(i) => write!(f, "blocks.{i}.attn.heads"),
            Self::AfterAttention(i) => write!(f, "blocks.{i}.after_attention"),
            Self::Hidden(i) => write!(f, "blocks.{i}.mlp.hidden"),
            Self::Block(i) => write!(f, "blocks.{i}.out"),
            Self::Final => write!(f, "final"),
            Self::Logits => write!(f, "logits"),
        }
    }
}
