//! Where memory and threads live.

/// The CPU: threads, dispatch, matrix products.
pub mod cpu;

/// Aligned memory, and disjoint pieces of it.
pub mod buffer;
