//! The definition, in f64 loops.

use super::{Dims, Scaling, Style};

/// What fixes the angles.
#[derive(Clone, Copy, Debug)]
pub struct Angles {
    /// Columns of each head that are turned (`R`).
    pub rotary: usize,
    /// Base.
    pub theta: f64,
    /// Change of frequencies.
    pub scaling: Scaling,
}

fn frequency(angles: Angles, i: usize) -> f64 {
    let f = 1.0 / angles.theta.powf(2.0 * i as f64 / angles.rotary as f64);
    match angles.scaling {
        Scaling::None => f,
        Scaling::Linear { factor } => f / factor,
        Scaling::Llama3 { factor, low_frequency, high_frequency, original } => {
            let wave = 2.0 * std::f64::consts::PI / f;
            let original = original as f64;
            if wave < original / high_frequency {
                f
            } else if wave > original / low_frequency {
                f / factor
            } else {
                let smooth = (original / wave - low_frequency) / (high_frequency - low_frequency);
                (1.0 - smooth) * f / factor + smooth * f
            }
        }
    }
}

fn turn(dims: Dims, style: Style, angles: Angles, past: &[i32], x: &[f64], sign: f64) -> Vec<f64> {
    let mut y = x.to_vec();
    for (b, &past) in past.iter().enumerate() {
        for t in 0..dims.t {
            for head in 0..dims.heads {
                let start = (b * dims.t + t) * dims.row + dims.first + head * dims.width;
                for i in 0..angles.rotary / 2 {
                    let phi = (past as usize + t) as f64 * frequency(angles, i) * sign;
                    let (i0, i1) = match style {
                        Style::Half => (start + i, start + i + angles.rotary / 2),
                        Style::Interleaved => (start + 2 * i, start + 2 * i + 1),
                    };
                    y[i0] = x[i0] * phi.cos() - x[i1] * phi.sin();
                    y[i1] = x[i1] * phi.cos() + x[i0] * phi.sin();
                }
            }
        }
    }
    y
}

/// `y (B, T, row)` from `x (B, T, row)` and `past (B)`.
#[must_use]
pub fn forward(dims: Dims, style: Style, angles: Angles, past: &[i32], x: &[f64]) -> Vec<f64> {
    turn(dims, style, angles, past, x, 1.0)
}

/// `dx (B, T, row)` from `dy (B, T, row)`.
///
/// Inverts `y = turn(x, φ)`: a rotation is orthogonal, so its transpose turns by `-φ`.
#[must_use]
pub fn backward(dims: Dims, style: Style, angles: Angles, past: &[i32], dy: &[f64]) -> Vec<f64> {
    turn(dims, style, angles, past, dy, -1.0)
}
