//! The same steps over what a cache remembers, while a text grows.

use super::cpu::{self, Call, Heads};
use super::{Layout, Scores};
use crate::autograd::{Inference, InferenceOp};
use crate::error::Result;
use crate::ops::attention::{AttentionDims, CachedAttention, Rule, check_standing};

/// Appends this call's keys and values to the caches and lays out what they hold as [`RecalledScores`] and
/// [`Mix::apart`](super::Mix::apart) read it.
///
/// Input, ints and states are those of [`CachedAttention`]; to append what was appended before changes nothing.
/// Outputs: q `(B, T, H D)`; kv `(B, S, 2 K D)`, S the capacity.
#[derive(Clone, Copy, Debug)]
pub struct Recall {
    cached: CachedAttention,
    dims: AttentionDims,
}

impl Recall {
    /// `dims.s` is the capacity of the caches.
    ///
    /// # Errors
    /// As [`CachedAttention::new`]; sizes beyond the address space.
    pub fn new(dims: AttentionDims, rule: Rule) -> Result<Self> {
        Layout::Apart.check(&dims)?;
        Ok(Self { cached: CachedAttention::new(dims, rule)?, dims })
    }
}

impl InferenceOp for Recall {
    fn name(&self) -> &'static str {
        "recalled keys and values"
    }
    fn inputs(&self) -> Vec<usize> {
        self.cached.inputs()
    }
    fn ints(&self) -> Vec<usize> {
        self.cached.ints()
    }
    fn outputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, s, h, kv, d } = self.dims;
        vec![b * t * h * d, b * s * 2 * kv * d]
    }
    fn states(&self) -> Vec<usize> {
        self.cached.states()
    }

    fn forward(&self, mut x: Inference<'_>) -> Result<()> {
        self.cached.append(&mut x)?;
        let AttentionDims { b, s, h, kv, d, .. } = self.dims;
        let (queries, joined) = (h * d, (h + 2 * kv) * d);
        for (row, to) in x.outputs[0].chunks_exact_mut(queries).enumerate() {
            to.copy_from_slice(&x.inputs[0][row * joined..][..queries]);
        }
        let both = &mut *x.outputs[1];
        both.fill(0.0); // nothing stands behind what is remembered
        for row in 0..b {
            let used = ((x.ints[0][row] + x.ints[1][row]) as usize).min(s);
            for which in 0..2 {
                for head in 0..kv {
                    let from = &x.states[which][(row * kv + head) * s * d..][..used * d];
                    for (i, from) in from.chunks_exact(d).enumerate() {
                        let to = ((row * s + i) * 2 + which) * kv * d + head * d;
                        both[to..to + d].copy_from_slice(from);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is remembered of a source, kv `(B, S, 2 K D)`, as a value: state and output.
#[derive(Clone, Copy, Debug)]
pub struct RecallSource {
    dims: AttentionDims,
}

impl RecallSource {
    /// # Errors
    /// A size of 0, or `K` that does not divide `H`.
    pub fn new(dims: AttentionDims) -> Result<Self> {
        Layout::Apart.check(&dims)?;
        Ok(Self { dims })
    }
}

impl InferenceOp for RecallSource {
    fn name(&self) -> &'static str {
        "recalled source"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![]
    }
    fn outputs(&self) -> Vec<usize> {
        let AttentionDims { b, s, kv, d, .. } = self.dims;
        vec![b * s * 2 * kv * d]
    }
    fn states(&self) -> Vec<usize> {
        self.outputs()
    }
    fn forward(&self, mut x: Inference<'_>) -> Result<()> {
        x.outputs[0].copy_from_slice(x.states[0]);
        Ok(())
    }
}

/// Scores `(B, H, T, S)` of queries that stand behind what is remembered: query `t` of row `b` at `past[b] + t`.
///
/// Inputs: q `(B, T, H D)`, kv `(B, S, 2 K D)`. Ints: past, new, both `(B)`; queries from `new` on are padding and may
/// look nowhere. Params: the table `(buckets, H)` where the rule has a relative bias.
#[derive(Clone, Copy, Debug)]
pub struct RecalledScores {
    scores: Scores,
}

impl RecalledScores {
    /// A rule's dropout and padding are ignored.
    ///
    /// # Errors
    /// As [`Scores::packed`], but any `S`.
    pub fn new(dims: AttentionDims, rule: Rule) -> Result<Self> {
        let mut rule = Rule { dropout: 0.0, ..rule };
        rule.mask.padding = false;
        Ok(Self { scores: Scores::new(dims, rule, Layout::Apart)? })
    }
}

impl InferenceOp for RecalledScores {
    fn name(&self) -> &'static str {
        "recalled attention scores"
    }
    fn inputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, s, h, kv, d } = self.scores.dims;
        vec![b * t * h * d, b * s * 2 * kv * d]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.scores.dims.b; 2]
    }
    fn params(&self) -> Vec<usize> {
        self.scores.rule.params(&self.scores.dims)
    }
    fn outputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, s, h, .. } = self.scores.dims;
        vec![b * h * t * s]
    }
    fn scratch(&self, _threads: usize) -> usize {
        self.scores.added_len(self.furthest())
    }
    fn flops(&self) -> u64 {
        // As if the cache were full.
        let AttentionDims { b, t, s, h, d, .. } = self.scores.dims;
        2 * (b * h * t * s * d) as u64
    }

    fn forward(&self, mut x: Inference<'_>) -> Result<()> {
        let Scores { dims, rule, layout } = self.scores;
        check_standing(&dims, x.ints[0], x.ints[1])?;
        let added = &mut *x.scratch;
        if !added.is_empty() {
            let table = x.params.first().copied().unwrap_or(&[]);
            self.scores.expand(self.furthest(), table, added);
        }
        let call = Call {
            dims,
            mask: rule.mask,
            scale: rule.scale,
            lengths: &[],
            standing: Some((x.ints[0], x.ints[1])),
            furthest: self.furthest(),
            added: (!added.is_empty()).then_some(&*added),
        };
        let (q, k) = (layout.q(&dims), layout.k(&dims));
        let (q, k) = (Heads { data: x.inputs[0], place: q }, Heads { data: x.inputs[1], place: k });
        cpu::scores(x.pool, &call, q, k, x.outputs[0]);
        Ok(())
    }
}

impl RecalledScores {
    /// The furthest position at which a query can stand.
    fn furthest(&self) -> usize {
        self.scores.dims.s - 1
    }
}
