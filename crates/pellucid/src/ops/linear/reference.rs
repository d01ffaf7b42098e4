//! The definition, in f64 loops.

use crate::ops::activation::{Activation, reference as act};

/// Sizes and what follows the product.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Rows.
    pub n: usize,
    /// Columns of `x`.
    pub i: usize,
    /// Columns of `y`.
    pub o: usize,
    /// What follows the sum.
    pub activation: Option<Activation>,
}

fn pre(dims: Dims, x: &[f64], w: &[f64], bias: &[f64], row: usize, to: usize) -> f64 {
    let mut sum = bias.get(to).copied().unwrap_or(0.0);
    for k in 0..dims.i {
        sum += x[row * dims.i + k] * w[to * dims.i + k];
    }
    sum
}

/// `y (N, O)` from `x (N, I)`, `w (O, I)`, and `bias (O)` and `residual (N, O)`, each of which may be empty.
#[must_use]
pub fn forward(dims: Dims, x: &[f64], w: &[f64], bias: &[f64], residual: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; dims.n * dims.o];
    for row in 0..dims.n {
        for to in 0..dims.o {
            let u = pre(dims, x, w, bias, row, to);
            let a = dims.activation.map_or(u, |f| act::value(f, u));
            let at = row * dims.o + to;
            y[at] = a + residual.get(at).copied().unwrap_or(0.0);
        }
    }
    y
}

/// `(dx (N, I), dw (O, I), d_bias (O))` from `dy (N, O)`. The residual's gradient is `dy` itself.
#[must_use]
pub fn backward(
    dims: Dims,
    x: &[f64],
    w: &[f64],
    bias: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let mut d_bias = vec![0.0; bias.len()];
    for row in 0..dims.n {
        for to in 0..dims.o {
            // y = act(u) + residual
            let u = pre(dims, x, w, bias, row, to);
            let du = dy[row * dims.o + to] * dims.activation.map_or(1.0, |f| act::slope(f, u));
            // u = bias + Σ x[k] w[k]
            if let Some(d) = d_bias.get_mut(to) {
                *d += du;
            }
            for k in 0..dims.i {
                dx[row * dims.i + k] += du * w[to * dims.i + k];
                dw[to * dims.i + k] += du * x[row * dims.i + k];
            }
        }
    }
    (dx, dw, d_bias)
}
