//! The definition: dequantise, then add products in f64.

use super::StoredMatrix;

/// `w (n, k)` as the stored codes say it.
#[must_use]
pub fn weights(matrix: &StoredMatrix) -> Vec<f32> {
    let (n, k) = matrix.shape();
    let mut w = vec![0.0; n * k];
    w.chunks_exact_mut(k.max(1)).enumerate().for_each(|(i, row)| matrix.dequantise(i, row));
    w
}

/// `y (m, n) = x (m, k) · wᵀ (n, k)`.
#[must_use]
pub fn product((m, n, k): (usize, usize, usize), x: &[f32], w: &[f32]) -> Vec<f64> {
    let mut y = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                y[i * n + j] += f64::from(x[i * k + l]) * f64::from(w[j * k + l]);
            }
        }
    }
    y
}
