//! The CPU: threads, dispatch, matrix products.

/// Matrix products.
pub mod gemm;
/// Persistent threads.
pub mod pool;
