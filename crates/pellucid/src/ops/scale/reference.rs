//! Multiplication in f64.

/// `y (N)`, and, of `dy (N)`, `dx (N)`: the operation is its own transpose.
#[must_use]
pub fn scale(factor: f64, x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| factor * x).collect()
}
