//! The CPU: threads, dispatch, matrix products.

/// Persistent threads.
pub mod pool;
