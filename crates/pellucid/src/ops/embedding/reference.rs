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
    /// Segments; 0: none.
    pub g: usize,
    /// Added to every position.
    pub offset: usize,
}

fn position(positions: Positions, wpe: &[f64], p: usize, c: usize, width: usize) -> f64 {
    match positions {
        Positions::None => 0.0,
        Positions::Learned { .. } => wpe[p * width + c],
        Positions::Sinusoidal => {
            let angle = p as f64 / 10000f64.powf((c / 2 * 2) as f64 / width as f64);
            if c.is_multiple_of(2) { angle.sin() } else { angle.cos() }
        }
        Positions::SinusoidalHalved | Positions::SinusoidalTensor2tensor => {
            let half = width.div_ceil(2);
            let last = match positions {
                Positions::SinusoidalHalved => width as f64 / 2.0,
                _ => (half as f64 - 1.0).max(1.0),
            };
            let angle = p as f64 / 10000f64.powf((c % half) as f64 / last);
            if c < half { angle.sin() } else { angle.cos() }
        }
    }
}

/// `y (B, T, C)` from `ids (B, T)`, `past (B)`, and `segments (B, T)` if there are some; `wte (V, C)`, `wpe (P, C)` if
/// learned, `seg (G, C)`.
#[must_use]
pub fn forward(
    dims: Dims,
    positions: Positions,
    scale: f64,
    ints: &[Vec<i32>],
    params: &[Vec<f64>],
) -> Vec<f64> {
    let Dims { b, t, c, g, offset, .. } = dims;
    let (ids, past, wte) = (&ints[0], &ints[1], &params[0]);
    let wpe = params.get(1).map_or(&[][..], |w| w);
    let mut y = vec![0.0; b * t * c];
    for i in 0..b {
        for j in 0..t {
            for k in 0..c {
                let p = past[i] as usize + j + offset;
                let at = i * t + j;
                y[at * c + k] =
                    scale * wte[ids[at] as usize * c + k] + position(positions, wpe, p, k, c);
                if g > 0 {
                    y[at * c + k] += params[params.len() - 1][ints[2][at] as usize * c + k];
                }
            }
        }
    }
    y
}

/// Gradients of the tables that there are, from `dy (B, T, C)`.
#[must_use]
pub fn backward(
    dims: Dims,
    positions: Positions,
    scale: f64,
    ints: &[Vec<i32>],
    dy: &[f64],
) -> Vec<Vec<f64>> {
    let Dims { b, t, c, v, g, offset } = dims;
    let (ids, past) = (&ints[0], &ints[1]);
    let max = if let Positions::Learned { max } = positions { max } else { 0 };
    let (mut d_wte, mut d_wpe, mut d_seg) =
        (vec![0.0; v * c], vec![0.0; max * c], vec![0.0; g * c]);
    for i in 0..b {
        for j in 0..t {
            for k in 0..c {
                let d = dy[(i * t + j) * c + k];
                // y = scale · wte[id] + ...
                d_wte[ids[i * t + j] as usize * c + k] += scale * d;
                // y = ... + wpe[past + t]
                if max > 0 {
                    d_wpe[(past[i] as usize + j + offset) * c + k] += d;
                }
                // y = ... + seg[segment]
                if g > 0 {
                    d_seg[ints[2][i * t + j] as usize * c + k] += d;
                }
            }
        }
    }
    [d_wte, d_wpe, d_seg].into_iter().filter(|d| !d.is_empty()).collect()
}
