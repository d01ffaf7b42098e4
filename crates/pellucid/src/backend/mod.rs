//! Where memory and threads live.

/// The CPU: threads, dispatch, matrix products.
pub mod cpu;
