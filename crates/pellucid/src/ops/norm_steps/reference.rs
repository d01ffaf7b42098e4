//! The three steps in f64.

use super::NormDims;

fn mean(x: &[f64], centred: bool) -> f64 {
    if centred { x.iter().sum::<f64>() / x.len() as f64 } else { 0.0 }
}

/// scale (N) from x (N, C).
#[must_use]
pub fn scale(dims: NormDims, eps: f64, centred: bool, x: &[f64]) -> Vec<f64> {
    let size = |x: &[f64]| {
        let mean = mean(x, centred);
        (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64 + eps).sqrt()
    };
    x.chunks_exact(dims.c).map(size).collect()
}

/// dx (N, C) from x, scale (N) and its gradient.
#[must_use]
pub fn d_scale(dims: NormDims, centred: bool, x: &[f64], scale: &[f64], d: &[f64]) -> Vec<f64> {
    let c = dims.c;
    let mut dx = vec![0.0; x.len()];
    for row in 0..dims.n {
        let mean = mean(&x[row * c..(row + 1) * c], centred);
        for i in row * c..(row + 1) * c {
            // scale² = Σ(x - mean)²/C + eps; through the mean nothing passes, since Σ(x - mean) = 0
            dx[i] = d[row] * (x[i] - mean) / (c as f64 * scale[row]);
        }
    }
    dx
}

/// y (N, C) from x (N, C) and scale (N).
#[must_use]
pub fn normalise(dims: NormDims, centred: bool, x: &[f64], scale: &[f64]) -> Vec<f64> {
    let rows = x.chunks_exact(dims.c).zip(scale);
    rows.flat_map(|(x, scale)| {
        let mean = mean(x, centred);
        x.iter().map(move |x| (x - mean) / scale)
    })
    .collect()
}

/// `(dx (N, C), d_scale (N))`.
#[must_use]
pub fn d_normalise(
    dims: NormDims,
    centred: bool,
    x: &[f64],
    scale: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let c = dims.c;
    let (mut dx, mut d_scale) = (vec![0.0; x.len()], vec![0.0; dims.n]);
    for row in 0..dims.n {
        let at = row * c..(row + 1) * c;
        let (of_x, of_dy) = (mean(&x[at.clone()], centred), mean(&dy[at.clone()], centred));
        for i in at {
            // y = (x - mean) / scale, where mean = Σx/C reaches every y of the row equally
            dx[i] = (dy[i] - of_dy) / scale[row];
            d_scale[row] -= dy[i] * (x[i] - of_x) / scale[row].powi(2);
        }
    }
    (dx, d_scale)
}

/// y (N, C) from x (N, C), weight (C), bias (C).
#[must_use]
pub fn affine(dims: NormDims, x: &[f64], weight: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
    let value =
        |(i, x): (usize, &f64)| x * weight[i % dims.c] + bias.map_or(0.0, |bias| bias[i % dims.c]);
    x.iter().enumerate().map(value).collect()
}

/// `(dx (N, C), d_weight (C), d_bias (C))`.
#[must_use]
pub fn d_affine(
    dims: NormDims,
    x: &[f64],
    weight: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let c = dims.c;
    let (mut d_weight, mut d_bias) = (vec![0.0; c], vec![0.0; c]);
    for (i, dy) in dy.iter().enumerate() {
        d_weight[i % c] += dy * x[i];
        d_bias[i % c] += dy;
    }
    (dy.iter().enumerate().map(|(i, dy)| dy * weight[i % c]).collect(), d_weight, d_bias)
}
