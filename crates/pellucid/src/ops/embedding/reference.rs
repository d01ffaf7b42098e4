//! The definition, in f64 loops.

use super::Positions;

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Batch.
    pub b: usize,
    /// Positions.
    pub t: usize,
    /// Width.
    pub c: usize,
    /// Vocabulary.
    pub v: usize,
}

fn position(positions: Positions, wpe: &[f64], p: usize, c: usize, width: usize) -> f64 {
    match positions {
        Positions::None => 0.0,
        Positions::Learned { .. } => wpe[p * width + c],
        Positions::Sinusoidal => {
            let angle = p as f64 / 10000f64.powf((c / 2 * 2) as f64 / width as f64);
            if c.is_multiple_of(2) { angle.sin() } else { angle.cos() }
        }
    }
}

/// `y (B, T, C)` from `ids (B, T)`, `past (B)`, `wte (V, C)` and `wpe (P, C)` (empty unless learned).
#[must_use]
pub fn forward(
    dims: Dims,
    positions: Positions,
    scale: f64,
    ids: &[i32],
    past: &[i32],
    wte: &[f64],
    wpe: &[f64],
) -> Vec<f64> {
    let Dims { b, t, c, .. } = dims;
    let mut y = vec![0.0; b * t * c];
    for i in 0..b {
        for j in 0..t {
            for k in 0..c {
                let p = past[i] as usize + j;
                y[(i * t + j) * c + k] = scale * wte[ids[i * t + j] as usize * c + k]
                    + position(positions, wpe, p, k, c);
            }
        }
    }
    y
}

/// `(d_wte (V, C), d_wpe (P, C))` from `dy (B, T, C)`; the second is empty unless positions are learned.
#[must_use]
pub fn backward(
    dims: Dims,
    positions: Positions,
    scale: f64,
    ids: &[i32],
    past: &[i32],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let Dims { b, t, c, v } = dims;
    let max = if let Positions::Learned { max } = positions { max } else { 0 };
    let (mut d_wte, mut d_wpe) = (vec![0.0; v * c], vec![0.0; max * c]);
    for i in 0..b {
        for j in 0..t {
            for k in 0..c {
                let d = dy[(i * t + j) * c + k];
                // y = scale · wte[id] + ...
                d_wte[ids[i * t + j] as usize * c + k] += scale * d;
                // y = ... + wpe[past + t]
                if max > 0 {
                    d_wpe[(past[i] as usize + j) * c + k] += d;
                }
            }
        }
    }
    (d_wte, d_wpe)
}
