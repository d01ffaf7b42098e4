//! Tokens to the next token: prompts go in, tokens and text come out, one position at a time.
//!
//! ```text
//! prompts ─→ decode ─→ logits (B, V) ─→ sampler ─→ one token per row ─┐
//!              ↑                                                      │
//!              └────────────── until a stop rule ends the row ←───────┘
//! ```
//!
//! This room does not know how logits are made (it asks a [`NextLogits`]), nor training.

/// Several continuations together.
pub mod beam;
/// Conversations.
pub mod chat;
/// From prompts to continuations: batches, stop rules, streaming.
pub mod decode;
/// From logits to one token.
pub mod sampler;
/// Several tokens for one look at the weights.
pub mod speculate;
#[cfg(test)]
mod tests;
/// Texts about texts.
pub mod translate;

pub use beam::{BeamLogits, BeamOptions, EarlyStopping, Hypothesis, beam_search};
pub use chat::{Answer, Chat};
pub use decode::{
    Event, Flow, GenerateOptions, Generated, NextLogits, StopReason, WithModel, generate,
};
pub use sampler::{Sampler, Sampling};
pub use speculate::{Costs, DraftModel, Drafter, NGram, Speculated, VerifyLogits, speculate};
pub use translate::{Choice, Translation, Translator};
