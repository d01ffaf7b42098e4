//! Fused, differentiable operations; one folder each, all with the same furniture.
//!
//! `mod.rs` equation, shapes, what is saved; wired to the tape · `reference.rs` the definition in f64 loops ·
//! `cpu.rs` the fast version · `cases.rs` shapes, seeds and deliberately wrong kernels.

/// GELU, ReLU, SiLU and their gated forms.
pub mod activation;
/// One step of the optimiser over flat slices.
pub mod adamw;
/// Additive attention of a recurrent decoder.
pub mod additive;
/// Scaled dot-product attention, never T x T.
pub mod attention;
/// Attention in three steps that write down what the fused kernels never do.
pub mod attention_steps;
/// The last projection and the loss, without keeping logits.
pub mod cross_entropy;
/// Zeroing at random while training.
pub mod dropout;
/// Token ids to vectors, and where they stand.
pub mod embedding;
/// A value from outside the tape.
pub mod given;
/// Queries and keys, each head normalised.
pub mod head_norm;
/// What each head writes, before the heads are summed.
pub mod head_results;
/// Each row's last real position.
pub mod last_position;
/// A matrix product with everything that follows it in cache.
pub mod linear;
/// LoRA: an addition of low rank to a linear layer.
pub mod low_rank;
/// Long short-term memory: one position after another.
pub mod lstm;
/// LayerNorm and RMSNorm.
pub mod norm;
/// A norm in three steps.
pub mod norm_steps;
/// A number made of scores.
pub mod objective;
/// One vector for a whole text.
pub mod pool;
/// The residual stream: adding what a layer writes.
pub mod residual;
/// Rotary positions.
pub mod rotary;
/// Every element times one number.
pub mod scale;
/// Run-time dispatch among instruction sets, and elementary functions that vectorise.
pub mod simd;
/// What a tape and whoever asked share.
pub mod slot;
/// The loss of regression.
pub mod squared_error;
/// A place where somebody stands.
pub mod tap;

/// What PyTorch says.
#[cfg(test)]
mod golden;
/// Judges operations (tests, mutants and benches only).
#[cfg(any(test, feature = "cases"))]
pub mod harness;
/// Right operations with one thing spoiled (tests, mutants and benches only).
#[cfg(any(test, feature = "cases"))]
pub mod spoil;
