//! The definition, in f64 loops.

use super::Kind;

/// What position `t` of a text of `n` positions counts.
fn weight(kind: Kind, t: usize, n: usize) -> f64 {
    match kind {
        Kind::First => f64::from(u8::from(t == 0)),
        Kind::Last => f64::from(u8::from(t + 1 == n)),
        Kind::Mean => {
            if t < n {
                1.0 / n as f64
            } else {
                0.0
            }
        }
    }
}

/// `y (B, C)` from `x (B, T, C)`.
#[must_use]
pub fn forward(
    kind: Kind,
    (b, t, c): (usize, usize, usize),
    lengths: &[i32],
    x: &[f64],
) -> Vec<f64> {
    let mut y = vec![0.0; b * c];
    for i in 0..b {
        for j in 0..t {
            for k in 0..c {
                y[i * c + k] += weight(kind, j, lengths[i] as usize) * x[(i * t + j) * c + k];
            }
        }
    }
    y
}

/// `dx (B, T, C)` from `dy (B, C)`.
#[must_use]
pub fn backward(
    kind: Kind,
    (b, t, c): (usize, usize, usize),
    lengths: &[i32],
    dy: &[f64],
) -> Vec<f64> {
    let mut dx = vec![0.0; b * t * c];
    for i in 0..b {
        for j in 0..t {
            for k in 0..c {
                // y[b] += weight · x[b, t]
                dx[(i * t + j) * c + k] = weight(kind, j, lengths[i] as usize) * dy[i * c + k];
            }
        }
    }
    dx
}
