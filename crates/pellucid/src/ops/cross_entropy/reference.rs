//! The definition, in f64 loops.

/// Sizes and settings.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Rows.
    pub n: usize,
    /// Width.
    pub c: usize,
    /// Vocabulary.
    pub v: usize,
    /// Label smoothing.
    pub smoothing: f64,
    /// Weight of the squared log-sum-exp.
    pub z_loss: f64,
    /// The target that excludes its row.
    pub ignore: i32,
}

/// Logits and their log-sum-exp in row `i`.
fn row(dims: Dims, i: usize, x: &[f64], w: &[f64], bias: &[f64]) -> (Vec<f64>, f64) {
    let mut z = vec![0.0; dims.v];
    for j in 0..dims.v {
        z[j] = bias.get(j).copied().unwrap_or(0.0);
        for k in 0..dims.c {
            z[j] += x[i * dims.c + k] * w[j * dims.c + k];
        }
    }
    let largest = z.iter().fold(f64::NEG_INFINITY, |m, &a| m.max(a));
    let lse = largest + z.iter().map(|a| (a - largest).exp()).sum::<f64>().ln();
    (z, lse)
}

fn rows_that_count(dims: Dims, targets: &[i32]) -> f64 {
    targets.iter().filter(|&&t| t != dims.ignore).count().max(1) as f64
}

/// `(loss, losses (N))` from `x (N, C)`, `w (V, C)`, `bias (V)` or empty, `targets (N)`.
#[must_use]
pub fn forward(dims: Dims, x: &[f64], w: &[f64], bias: &[f64], targets: &[i32]) -> (f64, Vec<f64>) {
    let mut losses = vec![0.0; dims.n];
    for i in 0..dims.n {
        if targets[i] == dims.ignore {
            continue;
        }
        let (z, lse) = row(dims, i, x, w, bias);
        let mut smooth = 0.0;
        for zj in &z {
            smooth += (lse - zj) / dims.v as f64;
        }
        let nll = lse - z[targets[i] as usize];
        losses[i] =
            (1.0 - dims.smoothing) * nll + dims.smoothing * smooth + dims.z_loss * lse * lse;
    }
    (losses.iter().sum::<f64>() / rows_that_count(dims, targets), losses)
}

/// `(dx (N, C), dw (V, C), d_bias (V))` from the gradient `d_loss` of the mean.
#[must_use]
pub fn backward(
    dims: Dims,
    x: &[f64],
    w: &[f64],
    bias: &[f64],
    targets: &[i32],
    d_loss: f64,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let mut d_bias = vec![0.0; bias.len()];
    for i in 0..dims.n {
        if targets[i] == dims.ignore {
            continue;
        }
        let (z, lse) = row(dims, i, x, w, bias);
        // loss = Σ losses[i] / rows that count
        let d_row = d_loss / rows_that_count(dims, targets);
        for j in 0..dims.v {
            // lse = ln Σ e^z, so d lse / d z[j] = softmax(z)[j]
            let p = (z[j] - lse).exp();
            // losses[i] = (1-ε)(lse - z[target]) + ε Σ (lse - z[j]) / V + ζ lse²
            let mut dz = p * (1.0 + 2.0 * dims.z_loss * lse) - dims.smoothing / dims.v as f64;
            if j as i32 == targets[i] {
                dz -= 1.0 - dims.smoothing;
            }
            dz *= d_row;
            // z[j] = bias[j] + Σ x[k] w[j][k]
            if let Some(d) = d_bias.get_mut(j) {
                *d += dz;
            }
            for k in 0..dims.c {
                dx[i * dims.c + k] += dz * w[j * dims.c + k];
                dw[j * dims.c + k] += dz * x[i * dims.c + k];
            }
        }
    }
    (dx, dw, d_bias)
}
