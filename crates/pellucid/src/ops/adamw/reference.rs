//! The definition, in f64 loops.

use super::{AdamW, Step};

/// One step over `p`, `g`, `m`, `v`.
pub fn update(adamw: AdamW, step: Step, p: &mut [f64], g: &[f64], m: &mut [f64], v: &mut [f64]) {
    let AdamW { beta1, beta2, eps } = adamw;
    let k = step.step as f64;
    for i in 0..p.len() {
        let g = g[i] * step.multiplier;
        p[i] -= step.lr * step.weight_decay * p[i];
        m[i] = beta1 * m[i] + (1.0 - beta1) * g;
        v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
        let mean = m[i] / (1.0 - beta1.powf(k));
        let square = v[i] / (1.0 - beta2.powf(k));
        p[i] -= step.lr * mean / (square.sqrt() + eps);
    }
}

/// `√Σ g²`.
#[must_use]
pub fn global_norm(grads: &[&[f64]]) -> f64 {
    grads.iter().flat_map(|g| g.iter()).map(|g| g * g).sum::<f64>().sqrt()
}
