//! The sum in f64.

use super::{Of, Term};

/// Probabilities of a row.
fn softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
    row.iter().map(|x| (x - largest).exp() / sum).collect()
}

/// The sum, of scores `x (N, V)`.
#[must_use]
pub fn forward(v: usize, terms: &[Term], x: &[f64]) -> f64 {
    let value = |term: &Term| {
        let row = &x[term.row * v..][..v];
        match term.of {
            Of::Score => row[term.id],
            Of::LogProbability => softmax(row)[term.id].ln(),
        }
    };
    terms.iter().map(|term| f64::from(term.weight) * value(term)).sum()
}

/// Its gradient `(N, V)`, times `g`.
#[must_use]
pub fn backward(v: usize, terms: &[Term], x: &[f64], g: f64) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    for term in terms {
        let (at, weight) = (term.row * v, g * f64::from(term.weight));
        dx[at + term.id] += weight;
        if term.of == Of::LogProbability {
            for (j, p) in softmax(&x[at..][..v]).into_iter().enumerate() {
                dx[at + j] -= weight * p;
            }
        }
    }
    dx
}
