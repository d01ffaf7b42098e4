//! Attention of one sequence to another.

use super::cpu::{self, Call, Level, Target, View};
use super::self_attention::{lengths, scratch};
use super::{AttentionDims, Rule, check_lengths, flops, pattern};
use crate::autograd::{Backward, Forward, Grad, Needs, Op};
use crate::backend::cpu::pool::Ptr;
use crate::error::{Error, Kind, Result};

/// Queries from one sequence, keys and values from another: q `(B, T, H D)` and kv `(B, S, 2 K D)` to
/// `(B, T, H D)`. With a padding mask, integer input 0 holds the key lengths `(B)`.
#[derive(Clone, Copy, Debug)]
pub struct CrossAttention {
    pub(super) dims: AttentionDims,
    pub(super) rule: Rule,
}

impl CrossAttention {
    /// Any `T` and `S`.
    ///
    /// # Errors
    /// A size of 0, `K` that does not divide `H`, or a rule out of range.
    pub fn new(dims: AttentionDims, rule: Rule) -> Result<Self> {
        dims.check()?;
        rule.check()?;
        if rule.bias.is_some() {
            let message = "distances between two sequences have no bias";
            return Err(Error::new(Kind::Config, "attention", message));
        }
        Ok(Self { dims, rule })
    }

    pub(super) fn call<'a>(&self, q: &'a [f32], kv: &'a [f32], lengths: &'a [i32]) -> Call<'a> {
        let AttentionDims { t, s, h, kv: heads, d, .. } = self.dims;
        let (q_row, kv_row) = (h * d, 2 * heads * d);
        let of_kv = |offset| View { data: kv, offset, batch: s * kv_row, head: d, row: kv_row };
        Call {
            dims: self.dims,
            mask: self.rule.mask,
            alibi: self.rule.alibi,
            biases: None,
            scale: self.rule.scale,
            lengths,
            past: &[],
            new: &[],
            dropout: None,
            q: View { data: q, offset: 0, batch: t * q_row, head: d, row: q_row },
            k: of_kv(0),
            v: of_kv(heads * d),
            level: Level::best(&self.dims, self.rule.precision),
        }
    }

    /// The probabilities `(T, S)` of one head of one batch row, before dropout, for looking inside.
    ///
    /// # Errors
    /// `b` or `head` out of range, or lengths that are.
    pub fn pattern(
        &self,
        q: &[f32],
        kv: &[f32],
        lengths: &[i32],
        b: usize,
        head: usize,
    ) -> Result<Vec<f32>> {
        check_lengths(lengths, self.dims.s)?;
        pattern::of(&self.call(q, kv, lengths), b, head)
    }
}

impl Op for CrossAttention {
    fn name(&self) -> &'static str {
        "cross-attention"
    }
    fn inputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, s, h, kv, d } = self.dims;
        vec![b * t * h * d, b * s * 2 * kv * d]
    }
    fn ints(&self) -> Vec<usize> {
        lengths(self.rule.mask, self.dims.b)
    }
    fn outputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, h, d, .. } = self.dims;
        vec![b * t * h * d]
    }
    fn saved(&self) -> Vec<usize> {
        vec![self.dims.b * self.dims.h * self.dims.t]
    }
    fn scratch(&self, threads: usize) -> usize {
        scratch(&self.dims, &self.rule, threads)
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 0b11, outputs: 1 }
    }
    fn flops(&self) -> (u64, u64) {
        flops(&self.dims, self.rule.mask)
    }

    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let lengths = x.ints.first().copied().unwrap_or(&[]);
        check_lengths(lengths, self.dims.s)?;
        let call = self.call(x.inputs[0], x.inputs[1], lengths);
        let call = Call { dropout: self.rule.dropout(x.run), ..call };
        cpu::forward(x.pool, &call, x.outputs[0], Some(&mut *x.saved[0]), x.scratch);
        Ok(())
    }

    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let AttentionDims { t, s, h, kv, d, .. } = self.dims;
        let lengths = x.ints.first().copied().unwrap_or(&[]);
        check_lengths(lengths, self.dims.s)?;
        let call = self.call(x.inputs[0], x.inputs[1], lengths);
        let call = Call { dropout: self.rule.dropout(x.run), ..call };
        let target = |grad: &mut Grad<'_>, offset: usize, rows: usize, row: usize| Target {
            data: Ptr(grad.data.as_mut_ptr()),
            len: grad.data.len(),
            offset,
            batch: rows * row,
            row,
            accumulate: grad.accumulate,
        };
        let (mut d_q, mut d_kv) = (x.d_inputs[0].take(), x.d_inputs[1].take());
        let q = d_q.as_mut().map(|g| target(g, 0, t, h * d));
        let k = d_kv.as_mut().map(|g| target(g, 0, s, 2 * kv * d));
        let v = k.map(|k| Target { offset: kv * d, ..k });
        let saved = cpu::Saved { out: x.outputs[0], d_out: x.d_outputs[0], lse: x.saved[0] };
        cpu::backward(x.pool, &call, saved, cpu::Gradients { q, k, v }, x.scratch);
        Ok(())
    }
}
