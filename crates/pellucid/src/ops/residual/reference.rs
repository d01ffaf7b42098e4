//! Addition in f64.

/// y (N) from x (N), delta (N).
#[must_use]
pub fn forward(x: &[f64], delta: &[f64]) -> Vec<f64> {
    x.iter().zip(delta).map(|(x, delta)| x + delta).collect()
}

/// `(dx (N), d_delta (N))`.
#[must_use]
pub fn backward(dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    // y = x + delta
    (dy.to_vec(), dy.to_vec())
}
