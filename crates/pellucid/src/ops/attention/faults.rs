//! Deliberately wrong kernels.

use super::cpu::{self, Call};
use super::{AttentionDims, Rule, SelfAttention};
use crate::autograd::{Backward, Forward, Grad, Needs, Op};
use crate::error::Result;

pub(super) type After = fn(AttentionDims, Rule, &[f32], &mut [f32]);

/// What is wrong with a wrong kernel.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// The backward pass forgets `delta`.
    NoDelta,
    /// The backward pass overwrites where it should add.
    IgnoresAccumulate,
    /// Every key counts as real.
    IgnoresLengths,
    /// The backward pass forgets what was dropped.
    NoDropoutBackward,
    /// The queries' gradients have the wrong sign.
    NegatedQ,
    /// The mask is shifted by one key.
    Peeks,
    /// The output is computed otherwise.
    After(After),
}

/// An operation with a fault.
pub(super) struct Wrong<O> {
    pub(super) op: O,
    pub(super) dims: AttentionDims,
    pub(super) rule: Rule,
    pub(super) fault: Fault,
}

impl<O: Op> std::fmt::Debug for Wrong<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "wrong {:?}", self.op)
    }
}

impl<O: Op> Wrong<O> {
    fn peek(&self, qkv: &[f32], x: &mut Forward<'_>) {
        let past = vec![1; self.dims.b];
        let op = SelfAttention { dims: self.dims, rule: self.rule };
        let call = Call { past: &past, ..op.call(qkv, &[]) };
        cpu::forward(x.pool, &call, x.outputs[0], Some(&mut *x.saved[0]), x.scratch);
    }
}

impl<O: Op> Op for Wrong<O> {
    fn name(&self) -> &'static str {
        "wrong attention"
    }
    fn inputs(&self) -> Vec<usize> {
        self.op.inputs()
    }
    fn ints(&self) -> Vec<usize> {
        self.op.ints()
    }
    fn params(&self) -> Vec<usize> {
        self.op.params()
    }
    fn outputs(&self) -> Vec<usize> {
        self.op.outputs()
    }
    fn saved(&self) -> Vec<usize> {
        self.op.saved()
    }
    fn scratch(&self, threads: usize) -> usize {
        self.op.scratch(threads)
    }
    fn needs(&self) -> Needs {
        self.op.needs()
    }
    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let all = vec![self.dims.s as i32; self.dims.b];
        let ints = match self.fault {
            Fault::IgnoresLengths => [&all[..]].into_iter().collect(),
            _ => x.ints.clone(),
        };
        self.op.forward(Forward {
            pool: x.pool,
            run: x.run,
            inputs: x.inputs.clone(),
            ints,
            params: x.params.clone(),
            outputs: x.outputs.iter_mut().map(|o| &mut **o).collect(),
            saved: x.saved.iter_mut().map(|o| &mut **o).collect(),
            scratch: &mut *x.scratch,
        })?;
        let qkv = x.inputs[0];
        match self.fault {
            Fault::Peeks => self.peek(qkv, &mut x),
            Fault::After(after) => after(self.dims, self.rule, qkv, x.outputs[0]),
            _ => {}
        }
        Ok(())
    }
    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let negated = matches!(self.fault, Fault::NegatedQ);
        let grad = if negated { x.d_inputs[0].take() } else { None };
        let mut zeros = vec![0.0; x.outputs[0].len()];
        let mut clean = vec![0.0; self.op.inputs()[0]];
        let mut x: Backward<'_> = x; // may now borrow the two
        match self.fault {
            Fault::NoDelta => x.outputs[0] = &mut zeros[..],
            Fault::NoDropoutBackward => x.run.training = false,
            Fault::IgnoresAccumulate => {
                x.d_inputs.iter_mut().flatten().for_each(|g| g.accumulate = false)
            }
            Fault::NegatedQ => {
                let data = &mut clean[..];
                x.d_inputs[0] = Some(Grad { data, accumulate: false });
            }
            _ => {}
        }
        self.op.backward(x)?;
        if let Some(grad) = grad {
            for (d, c) in grad.data.iter_mut().zip(clean) {
                *d = if grad.accumulate { *d - c } else { -c };
            }
        }
        Ok(())
    }
}

/// A materialising causal kernel in f32 that trusts its caller in two ways.
fn naive(
    dims: AttentionDims,
    rule: Rule,
    qkv: &[f32],
    out: &mut [f32],
    subtract: bool,
    kv_of: fn(usize, AttentionDims) -> usize,
) {
    let AttentionDims { b, t, h, kv, d, .. } = dims;
    let width = (h + 2 * kv) * d;
    for (row, out) in out.chunks_exact_mut(d).enumerate() {
        let (i, head) = (row / h, row % h);
        let q = &qkv[i * width + head * d..][..d];
        let first = i / t * t;
        let at = |j: usize, block: usize| &qkv[j * width + (block + kv_of(head, dims)) * d..][..d];
        let scores: Vec<f32> = (first..first + t)
            .map(|j| match rule.mask.allows(i % t, j - first, 0, t) {
                true => rule.scale * q.iter().zip(at(j, h)).map(|(a, b)| a * b).sum::<f32>(),
                false => f32::NEG_INFINITY,
            })
            .collect();
        let largest = if subtract { scores.iter().copied().fold(f32::MIN, f32::max) } else { 0.0 };
        let e: Vec<f32> = scores.iter().map(|x| (x - largest).exp()).collect();
        let sum: f32 = e.iter().sum();
        out.fill(0.0);
        for (j, e) in e.iter().enumerate() {
            out.iter_mut().zip(at(first + j, h + kv)).for_each(|(o, v)| *o += e / sum * v);
        }
    }
    debug_assert_eq!(out.len(), b * t * h * d);
}

pub(super) fn no_max_subtraction(dims: AttentionDims, rule: Rule, qkv: &[f32], out: &mut [f32]) {
    naive(dims, rule, qkv, out, false, |head, dims| head / (dims.h / dims.kv));
}

pub(super) fn wrong_kv_head(dims: AttentionDims, rule: Rule, qkv: &[f32], out: &mut [f32]) {
    naive(dims, rule, qkv, out, true, |head, dims| head % dims.kv);
}

pub(super) fn nan_output(_: AttentionDims, _: Rule, _: &[f32], out: &mut [f32]) {
    out[0] = f32::NAN;
}
