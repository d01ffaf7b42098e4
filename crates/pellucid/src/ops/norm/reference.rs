//! LayerNorm and RMSNorm in f64.

use super::NormDims;

/// `(mean, rstd)` of one row; RMSNorm's mean is 0 by definition.
fn statistics(x: &[f64], eps: f64, centered: bool) -> (f64, f64) {
    let c = x.len() as f64;
    let mean = if centered { x.iter().sum::<f64>() / c } else { 0.0 };
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / c;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// y (N, C) from x (N, C), weight (C), bias (C).
#[must_use]
pub fn layer_forward(
    dims: NormDims,
    eps: f64,
    x: &[f64],
    weight: &[f64],
    bias: Option<&[f64]>,
) -> Vec<f64> {
    let NormDims { n, c } = dims;
    let mut y = vec![0.0; n * c];
    for row in 0..n {
        let (mean, rstd) = statistics(&x[row * c..(row + 1) * c], eps, true);
        for i in 0..c {
            let normal = (x[row * c + i] - mean) * rstd;
            y[row * c + i] = normal * weight[i] + bias.map_or(0.0, |bias| bias[i]);
        }
    }
    y
}

/// `(dx (N, C), d_weight (C), d_bias (C))`.
#[must_use]
pub fn layer_backward(
    dims: NormDims,
    eps: f64,
    x: &[f64],
    weight: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let NormDims { n, c } = dims;
    let (mut dx, mut d_weight, mut d_bias) = (vec![0.0; n * c], vec![0.0; c], vec![0.0; c]);
    for row in 0..n {
        let at = |i: usize| row * c + i;
        let (mean, rstd) = statistics(&x[row * c..(row + 1) * c], eps, true);
        let normal = |i: usize| (x[at(i)] - mean) * rstd;
        // y = normal * weight + bias
        for i in 0..c {
            d_weight[i] += dy[at(i)] * normal(i);
            d_bias[i] += dy[at(i)];
        }
        let d_normal = |i: usize| dy[at(i)] * weight[i];
        // normal = (x - mean) * rstd, where rstd = (Σ(x - mean)²/C + eps)^-½ and mean = Σx/C:
        // what reaches every x equally (through mean) and along normal (through rstd) is taken out.
        let through_mean = (0..c).map(d_normal).sum::<f64>() / c as f64;
        let through_rstd = (0..c).map(|i| d_normal(i) * normal(i)).sum::<f64>() / c as f64;
        for i in 0..c {
            dx[at(i)] = rstd * (d_normal(i) - through_mean - normal(i) * through_rstd);
        }
    }
    (dx, d_weight, d_bias)
}

/// y (N, C) from x (N, C), weight (C).
#[must_use]
pub fn rms_forward(dims: NormDims, eps: f64, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let NormDims { n, c } = dims;
    let mut y = vec![0.0; n * c];
    for row in 0..n {
        let (_, rstd) = statistics(&x[row * c..(row + 1) * c], eps, false);
        for i in 0..c {
            y[row * c + i] = x[row * c + i] * rstd * weight[i];
        }
    }
    y
}

/// `(dx (N, C), d_weight (C))`.
#[must_use]
pub fn rms_backward(
    dims: NormDims,
    eps: f64,
    x: &[f64],
    weight: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let NormDims { n, c } = dims;
    let (mut dx, mut d_weight) = (vec![0.0; n * c], vec![0.0; c]);
    for row in 0..n {
        let at = |i: usize| row * c + i;
        let (_, rstd) = statistics(&x[row * c..(row + 1) * c], eps, false);
        let normal = |i: usize| x[at(i)] * rstd;
        // y = normal * weight
        for i in 0..c {
            d_weight[i] += dy[at(i)] * normal(i);
        }
        let d_normal = |i: usize| dy[at(i)] * weight[i];
        // normal = x * rstd, where rstd = (Σx²/C + eps)^-½
        let through_rstd = (0..c).map(|i| d_normal(i) * normal(i)).sum::<f64>() / c as f64;
        for i in 0..c {
            dx[at(i)] = rstd * (d_normal(i) - normal(i) * through_rstd);
        }
    }
    (dx, d_weight)
}
