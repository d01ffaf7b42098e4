//! A glass-box Transformer engine, read in the order the data flows.

// ── what flows ───────────────────────────────────────────────────────────────
/// Characters to token ids and back.
pub mod text;
/// Token ids to batches `(B, T)`.
pub mod data;
/// The Transformer, one file per idea.
pub mod model;
/// Weights from data.
pub mod train;
/// Tokens to the next token.
pub mod generate;
/// Looking inside.
pub mod lens;
/// Weights to files and back.
pub mod checkpoint;

// ── how it is computed ───────────────────────────────────────────────────────
/// Fused, differentiable operations; one folder each.
pub mod ops;
/// The tape: records operations, plans memory, walks back.
pub mod autograd;
/// Shapes, element types and random numbers.
pub mod tensor;
/// Where memory and threads live.
pub mod backend;
/// Reading files and replacing them atomically.
pub mod files;
/// One error: what came, the rule, what to do next.
pub mod error;
