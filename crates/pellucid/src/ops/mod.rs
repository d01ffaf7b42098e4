//! Fused, differentiable operations; one folder each, all with the same furniture.
//!
//! `mod.rs` equation, shapes, what is saved; wired to the tape · `reference.rs` the definition in f64 loops ·
//! `cpu.rs` the fast version · `cases.rs` shapes, seeds and deliberately wrong kernels.

/// Judges operations (tests, mutants and benches only).
#[cfg(any(test, feature = "cases"))]
pub mod harness;

/// Who looks at whom, and what comes back.
pub mod attention;
