//! Fused, differentiable operations; one folder each, all with the same furniture.
//!
//! `mod.rs` equation, shapes, what is saved; wired to the tape · `reference.rs` the definition in f64 loops ·
//! `cpu.rs` the fast version · `cases.rs` shapes, seeds and deliberately wrong kernels.

/// GELU, ReLU, SiLU and their gated forms.
pub mod activation;
/// Zeroing at random while training.
pub mod dropout;
/// LayerNorm and RMSNorm.
pub mod norm;
/// The residual stream: adding what a layer writes.
pub mod residual;
/// Run-time dispatch among instruction sets, and elementary functions that vectorise.
pub mod simd;

/// Judges operations (tests, mutants and benches only).
#[cfg(any(test, feature = "cases"))]
pub mod harness;
/// Right operations with one thing spoiled (tests, mutants and benches only).
#[cfg(any(test, feature = "cases"))]
pub mod spoil;
