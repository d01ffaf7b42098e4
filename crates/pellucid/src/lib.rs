//! A glass-box Transformer engine, read in the order the data flows.

// ── what flows ───────────────────────────────────────────────────────────────
/// Weights to files and back.
pub mod checkpoint;
/// Token ids to batches `(B, T)`.
pub mod data;
/// How good answers are.
pub mod evaluate;
/// Tokens to the next token.
pub mod generate;
/// Models from elsewhere.
#[cfg(feature = "hub")]
pub mod hub;
/// Looking inside.
pub mod lens;
/// The Transformer, one file per idea.
pub mod model;
/// Characters to token ids and back.
pub mod text;
/// Weights from data.
pub mod train;

// ── how it is computed ───────────────────────────────────────────────────────
/// The tape: records operations, plans memory, walks back.
pub mod autograd;
/// Where memory and threads live.
pub mod backend;
/// One error: what came, the rule, what to do next.
pub mod error;
/// Reading files and replacing them atomically.
pub mod files;
/// Fused, differentiable operations; one folder each.
pub mod ops;
/// Shapes, element types and random numbers.
pub mod tensor;
