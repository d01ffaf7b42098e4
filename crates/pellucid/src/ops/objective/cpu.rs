//! A few rows: sums in f64.

use super::{Of, Term};

/// `ln Σ exp(scores)`.
pub(crate) fn log_sum_exp(scores: &[f32]) -> f64 {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|x| f64::from(x - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

/// Adds a term's gradient to that of its row (V).
pub(super) fn gradient(term: &Term, weight: f32, row: &[f32], dx: &mut [f32]) {
    dx[term.id] += weight;
    if term.of == Of::LogProbability {
        let all = log_sum_exp(row);
        for (d, x) in dx.iter_mut().zip(row) {
            *d -= weight * (f64::from(*x) - all).exp() as f32;
        }
    }
}
