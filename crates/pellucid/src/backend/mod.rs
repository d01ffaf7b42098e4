/// Threads, SIMD dispatch and the matrix product.
pub mod cpu;
/// Every environment variable, documented, read once.
pub mod settings;

/// Aligned memory, and disjoint pieces of it.
pub mod buffer;
