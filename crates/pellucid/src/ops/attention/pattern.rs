//! The observed path: probabilities that the fused path never writes down.

use super::cpu::Call;
use super::{AttentionDims, relative, slope};
use crate::error::{Error, Kind, Result};

/// Probabilities `(T, S)` of one head of one batch row, in f64 inside; rows that see nothing are 0.
pub(super) fn of(call: &Call<'_>, b: usize, head: usize) -> Result<Vec<f32>> {
    let AttentionDims { b: batch, t, s, h, d, .. } = call.dims;
    if b >= batch || head >= h {
        let message = format!("asked for row {b}, head {head}; there are B={batch}, H={h}");
        return Err(Error::new(Kind::Input, "attention pattern", message));
    }
    call.check();
    let mut pattern = vec![0.0f32; t * s];
    for (i, row) in pattern.chunks_exact_mut(s).enumerate() {
        let range = call.range(b, i);
        let q = call.q.row(b, head, i, d);
        let mut scores: Vec<f64> = range
            .clone()
            .map(|j| {
                let k = call.k.row(b, head / call.group(), j, d);
                let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                let away = j.abs_diff(call.past(b) + i) as f64;
                let bias = if call.alibi { f64::from(slope(head, h)) * away } else { 0.0 };
                let offset = j as isize - (call.past(b) + i) as isize;
                let trained = call.biases.map_or(0.0, |biases| {
                    let row = &biases.values[head * relative::span(&call.dims)..];
                    f64::from(row[relative::place(&call.dims, offset)])
                });
                dot * f64::from(call.scale) - bias + trained
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter_mut().for_each(|x| *x = (*x - largest).exp());
        let sum: f64 = scores.iter().sum();
        for (p, e) in row[range].iter_mut().zip(scores) {
            *p = (e / sum) as f32;
        }
    }
    Ok(pattern)
}
