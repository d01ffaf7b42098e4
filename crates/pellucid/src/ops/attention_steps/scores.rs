//! The first step.

use super::Layout;
use super::cpu::{self, Call, Heads, Place, Target};
use crate::autograd::{Backward, Forward, Grad, Needs, Op};
use crate::backend::cpu::pool::Ptr;
use crate::error::{Error, Kind, Result};
use crate::ops::attention::{AttentionDims, Rule, check_lengths, flops, slope};

/// Queries and keys to scores `(B, H, T, S)`; see the room for its two forms.
///
/// With a padding mask, integer input 0 holds the lengths `(B)`: keys from there on are forbidden.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    pub(super) dims: AttentionDims,
    pub(super) rule: Rule,
    pub(super) layout: Layout,
}

impl Scores {
    /// From qkv `(B, T, (H + 2K) D)`.
    ///
    /// # Errors
    /// A size of 0, `K` that does not divide `H`, `S != T`, a rule out of range, or one with dropout.
    pub fn packed(dims: AttentionDims, rule: Rule) -> Result<Self> {
        Self::new(dims, rule, Layout::Packed)
    }

    /// From q `(B, T, H D)` and kv `(B, S, 2 K D)`.
    ///
    /// # Errors
    /// As [`Scores::packed`], but any `S`; and a rule with a relative bias.
    pub fn apart(dims: AttentionDims, rule: Rule) -> Result<Self> {
        if rule.bias.is_some() {
            let message = "distances between two sequences have no bias";
            return Err(Error::new(Kind::Config, "attention scores", message));
        }
        Self::new(dims, rule, Layout::Apart)
    }

    pub(super) fn new(dims: AttentionDims, rule: Rule, layout: Layout) -> Result<Self> {
        layout.check(&dims)?;
        rule.check()?;
        if rule.dropout != 0.0 {
            let message = format!("dropout is {}; attention in steps has none", rule.dropout);
            let hint =
                "look inside with a rule whose dropout is 0; training uses the fused kernels";
            return Err(Error::new(Kind::Config, "attention scores", message).hint(hint));
        }
        Ok(Self { dims, rule, layout })
    }

    /// The furthest position of a query.
    fn furthest(&self) -> usize {
        self.dims.t - 1
    }

    /// Memory for what is added to each head's scores by offset `s - t`, up to a furthest query; twice: its gradient.
    pub(super) fn added_len(&self, furthest: usize) -> usize {
        let any = self.rule.alibi || self.rule.bias.is_some();
        if any { self.dims.h * (furthest + self.dims.s) } else { 0 }
    }

    /// Writes what is added for each head and offset, `(H, furthest + S)`.
    pub(super) fn expand(&self, furthest: usize, table: &[f32], to: &mut [f32]) {
        let (heads, span) = (self.dims.h, furthest + self.dims.s);
        for (at, offset) in (-(furthest as isize)..self.dims.s as isize).enumerate() {
            let bucket = self.rule.bias.map(|bias| bias.bucket(offset));
            for head in 0..heads {
                let trained = bucket.map_or(0.0, |bucket| table[bucket * heads + head]);
                let away = if self.rule.alibi { offset.unsigned_abs() as f32 } else { 0.0 };
                to[head * span + at] = trained - slope(head, heads) * away;
            }
        }
    }

    /// Adds the gradients by offset, `(H, T + S - 1)`, up into that of the table.
    fn collect(&self, from: &[f32], grad: &mut Grad<'_>) {
        let Some(bias) = self.rule.bias else { return };
        let (heads, first) = (self.dims.h, self.furthest() as isize);
        if !grad.accumulate {
            grad.data.fill(0.0);
        }
        for (at, offset) in (-first..self.dims.s as isize).enumerate() {
            for head in 0..heads {
                grad.data[bias.bucket(offset) * heads + head] +=
                    from[head * (self.furthest() + self.dims.s) + at];
            }
        }
    }

    fn call<'a>(&self, lengths: &'a [i32], added: Option<&'a [f32]>) -> Call<'a> {
        let Rule { mask, scale, .. } = self.rule;
        let furthest = self.furthest();
        Call { dims: self.dims, mask, scale, lengths, standing: None, furthest, added }
    }

    /// q and k to read.
    fn heads<'a>(&self, inputs: &[&'a [f32]]) -> (Heads<'a>, Heads<'a>) {
        let (q, k) = (self.layout.q(&self.dims), self.layout.k(&self.dims));
        let last = inputs.len() - 1;
        (Heads { data: inputs[0], place: q }, Heads { data: inputs[last], place: k })
    }

    /// The width of a position of the input that holds k, and the columns of it that no score reads.
    fn unread(&self) -> (usize, std::ops::Range<usize>) {
        let width = self.layout.width(&self.dims);
        (width, self.layout.v(&self.dims).offset..width)
    }
}

fn target(grad: &mut Grad<'_>, place: Place) -> Target {
    let (data, len) = (Ptr(grad.data.as_mut_ptr()), grad.data.len());
    Target { data, len, place, accumulate: grad.accumulate }
}

impl Op for Scores {
    fn name(&self) -> &'static str {
        "attention scores"
    }
    fn inputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, s, h, d, .. } = self.dims;
        let with_keys = b * s * self.layout.width(&self.dims);
        match self.layout {
            Layout::Packed => vec![with_keys],
            Layout::Apart => vec![b * t * h * d, with_keys],
        }
    }
    fn ints(&self) -> Vec<usize> {
        if self.rule.mask.padding { vec![self.dims.b] } else { vec![] }
    }
    fn params(&self) -> Vec<usize> {
        self.rule.bias.iter().map(|bias| bias.buckets * self.dims.h).collect()
    }
    fn outputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, s, h, .. } = self.dims;
        vec![b * h * t * s]
    }
    fn scratch(&self, threads: usize) -> usize {
        self.added_len(self.furthest()).max(threads * cpu::memory(&self.dims))
    }
    fn needs(&self) -> Needs {
        Needs { inputs: if self.layout == Layout::Packed { 0b1 } else { 0b11 }, outputs: 0 }
    }
    fn flops(&self) -> (u64, u64) {
        // One of the fused forward pass's two products; back: two.
        let product = flops(&self.dims, self.rule.mask).0 / 2;
        (product, 2 * product)
    }

    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let lengths = x.ints.first().copied().unwrap_or(&[]);
        check_lengths(lengths, self.dims.s)?;
        let added = &mut x.scratch[..self.added_len(self.furthest())];
        if !added.is_empty() {
            self.expand(self.furthest(), x.params.first().copied().unwrap_or(&[]), added);
        }
        let call = self.call(lengths, (!added.is_empty()).then_some(&*added));
        let (q, k) = self.heads(&x.inputs);
        cpu::scores(x.pool, &call, q, k, x.outputs[0]);
        Ok(())
    }

    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let lengths = x.ints.first().copied().unwrap_or(&[]);
        check_lengths(lengths, self.dims.s)?;
        let (call, ds) = (self.call(lengths, None), x.d_outputs[0]);
        if let Some(Some(grad)) = x.d_params.first_mut() {
            let sums = &mut x.scratch[..self.added_len(self.furthest())];
            cpu::d_added(x.pool, &call, ds, sums);
            self.collect(sums, grad);
        }
        let (q, k) = self.heads(&x.inputs);
        let last = x.d_inputs.len() - 1;
        if let Some(grad) = &mut x.d_inputs[0] {
            let to = target(grad, q.place);
            cpu::d_queries(x.pool, &call, ds, k, to, x.scratch);
        }
        if let Some(grad) = &mut x.d_inputs[last] {
            let to = target(grad, k.place);
            cpu::d_keys(x.pool, &call, ds, q, to, x.scratch);
            if !grad.accumulate {
                let (width, columns) = self.unread();
                cpu::clear(x.pool, grad.data, width, columns);
            }
        }
        Ok(())
    }
}
