//! The loss of a batch and its gradient, written out.

use super::autoencoder::Sae;
use super::config::SaeKind;
use crate::backend::cpu::gemm::Mat;
use crate::backend::cpu::pool::Pool;
use crate::lens::solve::product;

/// What is asked beside reconstruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes<'a> {
    /// λ.
    pub(super) sparsity: f32,
    /// Width of the window through which thresholds learn.
    pub(super) bandwidth: f32,
    /// Weight of what silent directions are to explain of the error.
    pub(super) auxiliary: f32,
    /// Which are silent.
    pub(super) dead: &'a [bool],
}

/// Gradients by tensor, and what was seen.
#[derive(Debug)]
pub(super) struct Gradient {
    pub(super) w_enc: Vec<f32>,
    pub(super) b_enc: Vec<f32>,
    pub(super) w_dec: Vec<f32>,
    pub(super) b_dec: Vec<f32>,
    /// Of the thresholds themselves.
    pub(super) threshold: Vec<f32>,
    /// Activations, (N, d_sae).
    pub(super) active: Vec<f32>,
    /// Mean of ‖x̂ - x‖².
    pub(super) reconstruction: f64,
    /// λ times what is held down.
    pub(super) sparsity: f64,
    /// Of the silent directions.
    pub(super) auxiliary: f64,
}

/// Sum over rows.
fn columns(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
    sum
}

/// Of vectors `x` (N, d_in) that are already normalised.
pub(super) fn gradient(sae: &Sae, pool: &Pool, x: &[f32], wishes: Wishes<'_>) -> Gradient {
    let (d, m) = (sae.config.d_in, sae.config.d_sae);
    let n = x.len() / d;
    let (input, pre) = sae.before(pool, x.to_vec());
    let mut active = pre.clone();
    sae.activate(&mut active);
    // error = x̂ - x
    let mut error = vec![0.0; n * d];
    let (a, w_dec) = (Mat::rows(&active, m), Mat::rows(&sae.w_dec, d));
    product(pool, (n, d, m), (a, w_dec), &mut error, false);
    for (row, x) in error.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
        row.iter_mut().zip(x).zip(&sae.b_dec).for_each(|((e, x), b)| *e += b - x);
    }
    let mean_square = |e: &[f32]| e.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>() / n as f64;
    let reconstruction = mean_square(&error);
    let d_out: Vec<f32> = error.iter().map(|e| 2.0 * e / n as f32).collect();
    // x̂ = a W_dec + b_dec
    let mut d_w_dec = vec![0.0; m * d];
    let out = Mat::rows(&d_out, d);
    product(pool, (m, d, n), (a.t(), out), &mut d_w_dec, false);
    let mut d_b_dec = columns(&d_out, d);
    let mut d_pre = vec![0.0; n * m];
    product(pool, (n, m, d), (out, w_dec.t()), &mut d_pre, false);
    let (threshold, sparsity) = through(sae, (&pre, &active), &mut d_pre, wishes);
    let auxiliary = revive(sae, pool, (&pre, &error), (&mut d_pre, &mut d_w_dec), wishes);
    // pre = (x - b_dec) W_enc + b_enc
    let (mut d_w_enc, mut d_input) = (vec![0.0; d * m], vec![0.0; n * d]);
    let back = Mat::rows(&d_pre, m);
    product(pool, (d, m, n), (Mat::rows(&input, d).t(), back), &mut d_w_enc, false);
    if sae.config.apply_b_dec_to_input {
        let w_enc = Mat::rows(&sae.w_enc, m);
        product(pool, (n, d, m), (back, w_enc.t()), &mut d_input, false);
        let taken = columns(&d_input, d);
        d_b_dec.iter_mut().zip(taken).for_each(|(b, t)| *b -= t);
    }
    Gradient {
        w_enc: d_w_enc,
        b_enc: columns(&d_pre, m),
        w_dec: d_w_dec,
        b_dec: d_b_dec,
        threshold,
        active,
        reconstruction,
        sparsity,
        auxiliary,
    }
}

/// From gradients of activations to those before σ, in place; the thresholds' gradient, and λ times what is held down.
fn through(
    sae: &Sae,
    (pre, active): (&[f32], &[f32]),
    d_pre: &mut [f32],
    wishes: Wishes<'_>,
) -> (Vec<f32>, f64) {
    let m = sae.config.d_sae;
    let n = pre.len() / m;
    let hold = wishes.sparsity / n as f32;
    let mut d_threshold = vec![0.0f32; sae.threshold.len()];
    let mut held = 0.0f64;
    for (i, (d, (&pre, &a))) in d_pre.iter_mut().zip(pre.iter().zip(active)).enumerate() {
        match sae.config.architecture {
            SaeKind::Standard => {
                held += f64::from(hold * a);
                *d += hold;
            }
            SaeKind::JumpReLU => {
                held += f64::from(if a > 0.0 { hold } else { 0.0 });
                let threshold = sae.threshold[i % m];
                // Both the jump and the count change where pre crosses the threshold: seen through a window.
                if (pre - threshold).abs() < 0.5 * wishes.bandwidth {
                    d_threshold[i % m] -= (threshold * *d + hold) / wishes.bandwidth;
                }
            }
            SaeKind::TopK | SaeKind::BatchTopK => {}
        }
        if !(a > 0.0) {
            *d = 0.0;
        }
    }
    (d_threshold, held)
}

/// Silent directions with the largest `pre` are to explain the error as it is (Gao et al. 2024, appendix A.2): adds
/// to the gradients; the loss.
fn revive(
    sae: &Sae,
    pool: &Pool,
    (pre, error): (&[f32], &[f32]),
    (d_pre, d_w_dec): (&mut [f32], &mut [f32]),
    wishes: Wishes<'_>,
) -> f64 {
    let (d, m) = (sae.config.d_in, sae.config.d_sae);
    let n = pre.len() / m;
    let dead: Vec<usize> = (0..m).filter(|&i| wishes.dead.get(i) == Some(&true)).collect();
    if dead.is_empty() || wishes.auxiliary == 0.0 {
        return 0.0;
    }
    let k = (d / 2).clamp(1, dead.len());
    let weight = wishes.auxiliary * (dead.len() as f32 / (d / 2).max(1) as f32).min(1.0);
    let mut chosen = vec![0.0f32; n * m];
    for (to, pre) in chosen.chunks_exact_mut(m).zip(pre.chunks_exact(m)) {
        let mut order = dead.clone();
        order.sort_by(|&a, &b| pre[b].total_cmp(&pre[a]).then(a.cmp(&b)));
        order[..k].iter().for_each(|&i| to[i] = pre[i]);
    }
    // explained + error → 0
    let mut left = error.to_vec();
    let (z, w_dec) = (Mat::rows(&chosen, m), Mat::rows(&sae.w_dec, d));
    product(pool, (n, d, m), (z, w_dec), &mut left, true);
    let loss = left.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>() / n as f64;
    left.iter_mut().for_each(|e| *e *= 2.0 * weight / n as f32);
    let left = Mat::rows(&left, d);
    product(pool, (m, d, n), (z.t(), left), d_w_dec, true);
    let mut d_chosen = vec![0.0; n * m];
    product(pool, (n, m, d), (left, w_dec.t()), &mut d_chosen, false);
    for (to, (d, z)) in d_pre.iter_mut().zip(d_chosen.iter().zip(&chosen)) {
        *to += if *z == 0.0 { 0.0 } else { *d };
    }
    f64::from(weight) * loss
}
