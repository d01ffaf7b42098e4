//! Shapes, element types and random numbers.

/// Random numbers as a function of a key and a counter.
pub mod random;
