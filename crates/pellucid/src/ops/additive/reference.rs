//! The definition, in f64 and plain loops.

use super::AdditiveDims;

/// Everything but numbers.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Sizes.
    pub dims: AdditiveDims,
    /// Real positions of each source.
    pub lengths: &'a [i32],
}

/// q `(B, T, C)`, k `(B, S, C)`, values `(B, S, E)` and v `(C)`, or their gradients.
#[derive(Clone, Debug)]
pub struct Operands {
    /// What is asked.
    pub q: Vec<f64>,
    /// What answers.
    pub k: Vec<f64>,
    /// What is said.
    pub values: Vec<f64>,
    /// How hidden units are weighed.
    pub v: Vec<f64>,
}

impl Reference<'_> {
    /// `P[t, s]` of batch row `b`, for `s` below the length.
    #[must_use]
    pub fn probabilities(&self, x: &Operands, b: usize, t: usize) -> Vec<f64> {
        let AdditiveDims { t: queries, s: keys, c, .. } = self.dims;
        let mut scores = vec![];
        for s in 0..self.lengths[b] as usize {
            let mut score = 0.0;
            for i in 0..c {
                let u = x.q[(b * queries + t) * c + i] + x.k[(b * keys + s) * c + i];
                score += x.v[i] * u.tanh();
            }
            scores.push(score);
        }
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|x| (x - largest).exp()).sum();
        scores.iter().map(|x| (x - largest).exp() / sum).collect()
    }

    /// out `(B, T, E)`.
    #[must_use]
    pub fn forward(&self, x: &Operands) -> Vec<f64> {
        let AdditiveDims { b: batch, t: queries, s: keys, e, .. } = self.dims;
        let mut out = vec![0.0; batch * queries * e];
        for b in 0..batch {
            for t in 0..queries {
                for (s, p) in self.probabilities(x, b, t).into_iter().enumerate() {
                    for j in 0..e {
                        out[(b * queries + t) * e + j] += p * x.values[(b * keys + s) * e + j];
                    }
                }
            }
        }
        out
    }

    /// From the gradient of the output.
    #[must_use]
    pub fn backward(&self, x: &Operands, d_out: &[f64]) -> Operands {
        let AdditiveDims { b: batch, t: queries, s: keys, c, e } = self.dims;
        let zeros = |x: &Vec<f64>| vec![0.0; x.len()];
        let mut d =
            Operands { q: zeros(&x.q), k: zeros(&x.k), values: zeros(&x.values), v: zeros(&x.v) };
        for b in 0..batch {
            for t in 0..queries {
                let (p, at) = (self.probabilities(x, b, t), b * queries + t);
                let mut dp = vec![0.0; p.len()];
                for s in 0..p.len() {
                    for j in 0..e {
                        // inverts: out += p values
                        dp[s] += d_out[at * e + j] * x.values[(b * keys + s) * e + j];
                        d.values[(b * keys + s) * e + j] += p[s] * d_out[at * e + j];
                    }
                }
                // inverts: p = exp(x - largest) / sum
                let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for s in 0..p.len() {
                    let d_score = p[s] * (dp[s] - mean);
                    for i in 0..c {
                        // inverts: score += v tanh(q + k)
                        let (to_q, to_k) = (at * c + i, (b * keys + s) * c + i);
                        let y = (x.q[to_q] + x.k[to_k]).tanh();
                        let du = d_score * x.v[i] * (1.0 - y * y);
                        d.q[to_q] += du;
                        d.k[to_k] += du;
                        d.v[i] += d_score * y;
                    }
                }
            }
        }
        d
    }
}
