//! The definition, in f64 loops.

use super::HeadNormDims;

/// `(first element, index of the weights)` of each head that is normalised.
fn heads(dims: HeadNormDims) -> Vec<(usize, usize)> {
    let HeadNormDims { n, h, kv, d } = dims;
    let row = (h + 2 * kv) * d;
    let of = |r: usize| (0..h + kv).map(move |at| (r * row + at * d, usize::from(at >= h)));
    (0..n).flat_map(of).collect()
}

fn rstd(x: &[f64], eps: f64) -> f64 {
    1.0 / (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + eps).sqrt()
}

/// Rows after, (N, (H + 2K) D).
#[must_use]
pub fn forward(dims: HeadNormDims, eps: f64, x: &[f64], weights: &[Vec<f64>]) -> Vec<f64> {
    let mut y = x.to_vec();
    for (start, which) in heads(dims) {
        let rstd = rstd(&x[start..start + dims.d], eps);
        for i in 0..dims.d {
            y[start + i] = weights[which][i] * x[start + i] * rstd;
        }
    }
    y
}

/// Gradients of the rows and of the two weights.
#[must_use]
pub fn backward(
    dims: HeadNormDims,
    eps: f64,
    x: &[f64],
    weights: &[Vec<f64>],
    dy: &[f64],
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (mut dx, mut dw) = (dy.to_vec(), vec![vec![0.0; dims.d]; 2]);
    for (start, which) in heads(dims) {
        let (x, dy) = (&x[start..start + dims.d], &dy[start..start + dims.d]);
        let (rstd, w) = (rstd(x, eps), &weights[which]);
        let mut along = 0.0;
        for i in 0..dims.d {
            // y = w · x · rstd
            dw[which][i] += dy[i] * x[i] * rstd;
            along += dy[i] * w[i] * x[i];
        }
        for i in 0..dims.d {
            // rstd = (mean(x²) + ε)^(-1/2)
            let through = along * rstd.powi(3) * x[i] / dims.d as f64;
            dx[start + i] = dy[i] * w[i] * rstd - through;
        }
    }
    (dx, dw)
}
