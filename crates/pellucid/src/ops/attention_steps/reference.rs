//! The three steps in f64 and plain loops.

use crate::ops::attention::{AttentionDims, Rule, slope};

/// Everything about scores but q and k.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Sizes.
    pub dims: AttentionDims,
    /// How scores are made.
    pub rule: Rule,
    /// Real keys of each batch row; empty: all.
    pub lengths: &'a [i32],
    /// Positions before the first query of each batch row, and queries that are real; none: 0, and all.
    pub standing: Option<(&'a [i32], &'a [i32])>,
    /// `(buckets, H)` where the rule has a relative bias.
    pub table: &'a [f64],
}

/// Index of q `(B, T, H, D)`.
fn at_q(dims: &AttentionDims, b: usize, h: usize, t: usize) -> usize {
    ((b * dims.t + t) * dims.h + h) * dims.d
}

/// Index of k and v `(B, S, K, D)`; `h` is the query head.
fn at_k(dims: &AttentionDims, b: usize, h: usize, s: usize) -> usize {
    ((b * dims.s + s) * dims.kv + h / (dims.h / dims.kv)) * dims.d
}

/// Calls `f(index of (B, H, T, S), b, h, t, s)` for all pairs.
fn pairs(dims: &AttentionDims, mut f: impl FnMut(usize, usize, usize, usize, usize)) {
    let AttentionDims { b: batch, t: queries, s: keys, h: heads, .. } = *dims;
    let mut at = 0;
    for b in 0..batch {
        for h in 0..heads {
            for t in 0..queries {
                for s in 0..keys {
                    f(at, b, h, t, s);
                    at += 1;
                }
            }
        }
    }
}

impl Reference<'_> {
    fn past(&self, b: usize) -> usize {
        self.standing.map_or(0, |(past, _)| past[b] as usize)
    }

    fn allows(&self, b: usize, t: usize, s: usize) -> bool {
        let length = self.lengths.get(b).map_or(self.dims.s, |&l| l as usize);
        let real = self.standing.is_none_or(|(_, new)| t < new[b] as usize);
        real && self.rule.mask.allows(t, s, self.past(b), length)
    }

    /// Scores `(B, H, T, S)` from q `(B, T, H, D)` and k `(B, S, K, D)`.
    #[must_use]
    pub fn scores(&self, q: &[f64], k: &[f64]) -> Vec<f64> {
        let (dims, d) = (&self.dims, self.dims.d);
        let mut scores = vec![f64::NEG_INFINITY; dims.b * dims.h * dims.t * dims.s];
        pairs(dims, |at, b, h, t, s| {
            if !self.allows(b, t, s) {
                return;
            }
            let (q, k) = (&q[at_q(dims, b, h, t)..][..d], &k[at_k(dims, b, h, s)..][..d]);
            let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
            scores[at] = f64::from(self.rule.scale) * dot;
            let stands = self.past(b) + t;
            if self.rule.alibi {
                scores[at] -= f64::from(slope(h, dims.h)) * s.abs_diff(stands) as f64;
            }
            if let Some(bias) = self.rule.bias {
                scores[at] += self.table[bias.bucket(s as isize - stands as isize) * dims.h + h];
            }
        });
        scores
    }

    /// Gradients of q, k and the table from those of the scores. A forbidden score is a constant.
    #[must_use]
    pub fn d_scores(&self, q: &[f64], k: &[f64], ds: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let (dims, scale) = (&self.dims, f64::from(self.rule.scale));
        let (mut dq, mut dk) = (vec![0.0; q.len()], vec![0.0; k.len()]);
        let mut d_table = vec![0.0; self.table.len()];
        pairs(dims, |at, b, h, t, s| {
            if !self.allows(b, t, s) {
                return;
            }
            let (to_q, to_k) = (at_q(dims, b, h, t), at_k(dims, b, h, s));
            for i in 0..dims.d {
                // inverts: score = scale * dot(q, k)
                dq[to_q + i] += scale * ds[at] * k[to_k + i];
                dk[to_k + i] += scale * ds[at] * q[to_q + i];
            }
            if let Some(bias) = self.rule.bias {
                // inverts: score += table[bucket, h]
                let offset = s as isize - (self.past(b) + t) as isize;
                d_table[bias.bucket(offset) * dims.h + h] += ds[at];
            }
        });
        (dq, dk, d_table)
    }
}

/// Rows of `s` probabilities from rows of scores; a row of only -inf gives 0.
#[must_use]
pub fn softmax(s: usize, x: &[f64]) -> Vec<f64> {
    let mut p = vec![0.0; x.len()];
    for (p, x) in p.chunks_exact_mut(s).zip(x.chunks_exact(s)) {
        let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::NEG_INFINITY {
            continue;
        }
        let sum: f64 = x.iter().map(|x| (x - largest).exp()).sum();
        p.iter_mut().zip(x).for_each(|(p, x)| *p = (x - largest).exp() / sum);
    }
    p
}

/// Gradient of the scores from the probabilities and theirs.
#[must_use]
pub fn d_softmax(s: usize, p: &[f64], dp: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; p.len()];
    for row in 0..p.len() / s {
        let at = row * s..(row + 1) * s;
        // inverts: p = exp(x - largest) / sum
        let mean: f64 = p[at.clone()].iter().zip(&dp[at.clone()]).map(|(p, dp)| p * dp).sum();
        for i in at {
            dx[i] = p[i] * (dp[i] - mean);
        }
    }
    dx
}

/// z `(B, T, H, D)` from the pattern `(B, H, T, S)` and v `(B, S, K, D)`.
#[must_use]
pub fn mix(dims: &AttentionDims, p: &[f64], v: &[f64]) -> Vec<f64> {
    let mut z = vec![0.0; dims.b * dims.t * dims.h * dims.d];
    pairs(dims, |at, b, h, t, s| {
        let (to_z, to_v) = (at_q(dims, b, h, t), at_k(dims, b, h, s));
        for i in 0..dims.d {
            z[to_z + i] += p[at] * v[to_v + i];
        }
    });
    z
}

/// Gradients of the pattern and of v.
#[must_use]
pub fn d_mix(dims: &AttentionDims, p: &[f64], v: &[f64], dz: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut dp, mut dv) = (vec![0.0; p.len()], vec![0.0; v.len()]);
    pairs(dims, |at, b, h, t, s| {
        let (to_z, to_v) = (at_q(dims, b, h, t), at_k(dims, b, h, s));
        for i in 0..dims.d {
            // inverts: z += p * v
            dp[at] += dz[to_z + i] * v[to_v + i];
            dv[to_v + i] += p[at] * dz[to_z + i];
        }
    });
    (dp, dv)
}
