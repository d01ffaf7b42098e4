//! Attention of a sequence to itself, on one packed buffer.

use super::cpu::{self, Biases, Call, Target, View};
use super::{AttentionDims, Mask, Rule, check_lengths, flops, pattern, relative};
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::backend::cpu::pool::Ptr;
use crate::error::Result;

/// Queries, keys and values from the same positions: qkv `(B, T, (H + 2K) D)` to `(B, T, H D)`.
///
/// With a padding mask, integer input 0 holds the lengths `(B)`: keys from there on are hidden (queries there
/// are still computed; a loss that skips them gives them no gradient).
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention {
    pub(super) dims: AttentionDims,
    pub(super) rule: Rule,
}

impl SelfAttention {
    /// `dims.s` must equal `dims.t`.
    ///
    /// # Errors
    /// A size of 0, `K` that does not divide `H`, `S != T`, or a rule out of range.
    pub fn new(dims: AttentionDims, rule: Rule) -> Result<Self> {
        dims.check()?;
        rule.check()?;
        if dims.s != dims.t {
            return Err(crate::error::Error::new(
                crate::error::Kind::Shape,
                "attention",
                format!("S = {} keys for T = {} queries of the same sequence", dims.s, dims.t),
            )
            .hint("CrossAttention takes keys from another sequence"));
        }
        Ok(Self { dims, rule })
    }

    /// Width of a position in qkv, `(H + 2K) D`.
    fn width(&self) -> usize {
        (self.dims.h + 2 * self.dims.kv) * self.dims.d
    }

    pub(super) fn call<'a>(&self, qkv: &'a [f32], lengths: &'a [i32]) -> Call<'a> {
        let AttentionDims { t, h, kv, d, .. } = self.dims;
        let row = self.width();
        let view = |offset| View { data: qkv, offset, batch: t * row, head: d, row };
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
            q: view(0),
            k: view(h * d),
            v: view((h + kv) * d),
            level: self.rule.level(&self.dims),
        }
    }

    /// The probabilities `(T, S)` of one head of one batch row, before dropout, for looking inside. `table` is the
    /// parameter of a rule with a relative bias, else empty.
    ///
    /// # Errors
    /// `b` or `head` out of range, or lengths that are.
    pub fn pattern(
        &self,
        qkv: &[f32],
        table: &[f32],
        lengths: &[i32],
        b: usize,
        head: usize,
    ) -> Result<Vec<f32>> {
        check_lengths(lengths, self.dims.s)?;
        let mut values = vec![0.0; self.rule.bias_scratch(&self.dims, false)];
        let biases = self.biases(&[table], &mut values);
        pattern::of(&Call { biases, ..self.call(qkv, lengths) }, b, head)
    }
}

impl SelfAttention {
    /// The biases of all distances, written into `to`, where the rule has any.
    fn biases<'a>(&self, params: &[&[f32]], to: &'a mut [f32]) -> Option<Biases<'a>> {
        let bias = self.rule.bias?;
        relative::expand(bias, &self.dims, params[0], to);
        Some(Biases { values: to, gradient: None })
    }
}

impl Op for SelfAttention {
    fn name(&self) -> &'static str {
        "self-attention"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.b * self.dims.t * self.width()]
    }
    fn ints(&self) -> Vec<usize> {
        lengths(self.rule.mask, self.dims.b)
    }
    fn params(&self) -> Vec<usize> {
        self.rule.params(&self.dims)
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
        Needs { inputs: 1, outputs: 1 }
    }
    fn flops(&self) -> (u64, u64) {
        flops(&self.dims, self.rule.mask)
    }

    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let lengths = x.ints.first().copied().unwrap_or(&[]);
        check_lengths(lengths, self.dims.s)?;
        let (own, scratch) = x.scratch.split_at_mut(self.rule.bias_scratch(&self.dims, true));
        let biases = self.biases(&x.params, own);
        let dropout = self.rule.dropout(x.run);
        let call = Call { dropout, biases, ..self.call(x.inputs[0], lengths) };
        cpu::forward(x.pool, &call, x.outputs[0], Some(&mut *x.saved[0]), scratch);
        Ok(())
    }

    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let AttentionDims { t, h, kv, d, .. } = self.dims;
        let lengths = x.ints.first().copied().unwrap_or(&[]);
        check_lengths(lengths, self.dims.s)?;
        let AttentionDims { b, .. } = self.dims;
        let (own, scratch) = x.scratch.split_at_mut(self.rule.bias_scratch(&self.dims, true));
        let span = self.rule.bias.map_or(0, |_| relative::span(&self.dims));
        let (own, sums) = own.split_at_mut(h * span);
        let mut biases = self.biases(&x.params, own);
        if let Some(biases) = &mut biases {
            sums[..b * h * span].fill(0.0);
            biases.gradient = Some(Ptr(sums.as_mut_ptr()));
        }
        let dropout = self.rule.dropout(x.run);
        let call = Call { dropout, biases, ..self.call(x.inputs[0], lengths) };
        let Some(grad) = x.d_inputs[0].take() else { return Ok(()) };
        let (len, row) = (grad.data.len(), self.width());
        let data = Ptr(grad.data.as_mut_ptr());
        let target = |offset| {
            Some(Target { data, len, offset, batch: t * row, row, accumulate: grad.accumulate })
        };
        let gradients = cpu::Gradients { q: target(0), k: target(h * d), v: target((h + kv) * d) };
        let saved = cpu::Saved { out: x.outputs[0], d_out: x.d_outputs[0], lse: x.saved[0] };
        cpu::backward(x.pool, &call, saved, gradients, scratch);
        if let (Some(bias), Some(Some(grad))) = (self.rule.bias, x.d_params.first_mut()) {
            relative::collect(bias, &self.dims, sums, grad.data, grad.accumulate);
        }
        Ok(())
    }
}

/// Lengths of the integer inputs.
pub(super) fn lengths(mask: Mask, b: usize) -> Vec<usize> {
    if mask.padding { vec![b] } else { vec![] }
}

/// Scratch of an op that does both passes.
pub(super) fn scratch(dims: &AttentionDims, rule: &Rule, threads: usize) -> usize {
    let level = rule.level(dims);
    rule.bias_scratch(dims, true)
        + threads * cpu::forward_scratch(dims, level).max(cpu::backward_scratch(dims, level))
}
