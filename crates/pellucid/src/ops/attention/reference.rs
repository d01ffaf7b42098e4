//! The definition, in f64 and plain loops.

use super::cpu::Dropout;
use super::{AttentionDims, Rule, slope};

/// Everything but q, k and v.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Sizes.
    pub dims: AttentionDims,
    /// How scores become probabilities.
    pub rule: Rule,
    /// Positions before the first query, the same for all batch rows.
    pub past: usize,
    /// Real keys of each batch row; empty: all.
    pub lengths: &'a [i32],
    /// `(buckets, H)` where the rule has a relative bias.
    pub table: &'a [f64],
    pub(super) dropout: Option<Dropout>,
}

/// Gradients of q, k, v and the table.
pub type Gradients = (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>);

impl Reference<'_> {
    /// Index of q, out and their gradients `(B, T, H, D)`.
    fn at_q(&self, b: usize, h: usize, t: usize) -> usize {
        ((b * self.dims.t + t) * self.dims.h + h) * self.dims.d
    }

    /// Index of k, v and their gradients `(B, S, K, D)`; `h` is the query head.
    fn at_k(&self, b: usize, h: usize, s: usize) -> usize {
        let AttentionDims { h: heads, kv, d, s: keys, .. } = self.dims;
        ((b * keys + s) * kv + h / (heads / kv)) * d
    }

    /// What the probability of key `s` is multiplied by.
    fn factor(&self, b: usize, h: usize, t: usize, s: usize) -> f64 {
        let row = (b * self.dims.h + h) * self.dims.t + t;
        self.dropout.map_or(1.0, |dropout| f64::from(dropout.factor(row, s)))
    }

    /// Row `t` of the probabilities, `(S)`, before dropout; all 0 where nothing may be seen.
    #[must_use]
    pub fn probabilities(&self, q: &[f64], k: &[f64], b: usize, h: usize, t: usize) -> Vec<f64> {
        let AttentionDims { s: keys, h: heads, d, .. } = self.dims;
        let length = self.lengths.get(b).map_or(keys, |&l| l as usize);
        let mut p = vec![f64::NEG_INFINITY; keys];
        for s in 0..keys {
            if self.rule.mask.allows(t, s, self.past, length) {
                let (q, k) = (&q[self.at_q(b, h, t)..][..d], &k[self.at_k(b, h, s)..][..d]);
                let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                p[s] = f64::from(self.rule.scale) * dot;
                if self.rule.alibi {
                    p[s] -= f64::from(slope(h, heads)) * s.abs_diff(self.past + t) as f64;
                }
                if let Some(bias) = self.rule.bias {
                    let offset = s as isize - (self.past + t) as isize;
                    p[s] += self.table[bias.bucket(offset) * heads + h];
                }
            }
        }
        let largest = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::NEG_INFINITY {
            return vec![0.0; keys];
        }
        let sum: f64 = p.iter().map(|x| (x - largest).exp()).sum();
        p.iter().map(|x| (x - largest).exp() / sum).collect()
    }

    /// out `(B, T, H, D)` from q `(B, T, H, D)`, k and v `(B, S, K, D)`.
    #[must_use]
    pub fn forward(&self, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        let AttentionDims { b: batch, t: queries, s: keys, h: heads, d, .. } = self.dims;
        let mut out = vec![0.0; q.len()];
        for b in 0..batch {
            for h in 0..heads {
                for t in 0..queries {
                    let p = self.probabilities(q, k, b, h, t);
                    for s in 0..keys {
                        let weight = p[s] * self.factor(b, h, t, s);
                        for i in 0..d {
                            out[self.at_q(b, h, t) + i] += weight * v[self.at_k(b, h, s) + i];
                        }
                    }
                }
            }
        }
        out
    }

    /// Gradients of q, k, v and the table.
    #[must_use]
    pub fn backward(&self, q: &[f64], k: &[f64], v: &[f64], d_out: &[f64]) -> Gradients {
        let AttentionDims { b: batch, t: queries, s: keys, h: heads, d, .. } = self.dims;
        let scale = f64::from(self.rule.scale);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        let mut d_table = vec![0.0; self.table.len()];
        for b in 0..batch {
            for h in 0..heads {
                for t in 0..queries {
                    let p = self.probabilities(q, k, b, h, t);
                    let to_q = self.at_q(b, h, t);
                    let mut dp = vec![0.0; keys];
                    for s in 0..keys {
                        let (factor, to_k) = (self.factor(b, h, t, s), self.at_k(b, h, s));
                        for i in 0..d {
                            // inverts: out += p * factor * v
                            dp[s] += factor * d_out[to_q + i] * v[to_k + i];
                            dv[to_k + i] += p[s] * factor * d_out[to_q + i];
                        }
                    }
                    // inverts: p = exp(x - largest) / sum
                    let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                    for s in 0..keys {
                        let (ds, to_k) = (p[s] * (dp[s] - mean), self.at_k(b, h, s));
                        if let Some(bias) = self.rule.bias {
                            // inverts: x += table[bucket, h]
                            let offset = s as isize - (self.past + t) as isize;
                            d_table[bias.bucket(offset) * heads + h] += ds;
                        }
                        for i in 0..d {
                            // inverts: x = scale * dot(q, k) - bias
                            dq[to_q + i] += scale * ds * k[to_k + i];
                            dk[to_k + i] += scale * ds * q[to_q + i];
                        }
                    }
                }
            }
        }
        (dq, dk, dv, d_table)
    }
}
