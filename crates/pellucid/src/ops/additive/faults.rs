//! A plain kernel of its own that may be wrong in one way.

use super::{AdditiveAttention, AdditiveDims};
use crate::autograd::{Backward, Forward, Grad, Needs, Op};
use crate::error::Result;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// Nothing: the kernel that the others are made of.
    None,
    /// Every position counts as much.
    Mean,
    /// Scores are `v · (q + k)`, in which q does not matter.
    NoTanh,
    /// Padding is looked at.
    IgnoresLengths,
    /// The position after the right one answers.
    Shifted,
    /// The backward pass forgets that probabilities sum to 1.
    NoDelta,
    /// The backward pass forgets the slope of tanh.
    NoSlope,
}

pub(super) const FAULTS: [(&str, Fault); 6] = [
    ("mean instead of softmax", Fault::Mean),
    ("tanh forgotten", Fault::NoTanh),
    ("padding looked at", Fault::IgnoresLengths),
    ("keys shifted by one", Fault::Shifted),
    ("sum of the softmax forgotten backward", Fault::NoDelta),
    ("slope of tanh forgotten backward", Fault::NoSlope),
];

/// In f64 and plain loops.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) op: AdditiveAttention,
    pub(super) fault: Fault,
}

impl Plain {
    fn length(&self, lengths: &[i32], b: usize) -> usize {
        if self.fault == Fault::IgnoresLengths { self.op.dims.s } else { lengths[b] as usize }
    }

    /// Where key `s` of batch row `b` lies.
    fn key(&self, b: usize, s: usize) -> usize {
        let AdditiveDims { s: keys, c, .. } = self.op.dims;
        let s = if self.fault == Fault::Shifted { (s + 1) % keys } else { s };
        (b * keys + s) * c
    }

    /// `f(u)` for the hidden units of one pair.
    fn units(&self, (q, k): (&[f32], &[f32]), at: (usize, usize)) -> Vec<f64> {
        let sum = |i: usize| f64::from(q[at.0 + i]) + f64::from(k[at.1 + i]);
        let f = |u: f64| if self.fault == Fault::NoTanh { u } else { u.tanh() };
        (0..self.op.dims.c).map(|i| f(sum(i))).collect()
    }

    fn probabilities(
        &self,
        (q, k, v): (&[f32], &[f32], &[f32]),
        lengths: &[i32],
        row: usize,
    ) -> Vec<f64> {
        let AdditiveDims { t, c, .. } = self.op.dims;
        let n = self.length(lengths, row / t);
        if self.fault == Fault::Mean {
            return vec![1.0 / n as f64; n];
        }
        let score = |s: usize| -> f64 {
            let units = self.units((q, k), (row * c, self.key(row / t, s)));
            units.iter().zip(v).map(|(u, v)| u * f64::from(*v)).sum()
        };
        let e: Vec<f64> = (0..n).map(|s| score(s).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|e| e / sum).collect()
    }
}

impl Op for Plain {
    fn name(&self) -> &'static str {
        "wrong additive attention"
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
    fn needs(&self) -> Needs {
        self.op.needs()
    }

    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let AdditiveDims { t, s: keys, e, .. } = self.op.dims;
        let operands = (x.inputs[0], x.inputs[1], x.params[0]);
        for (row, out) in x.outputs[0].chunks_exact_mut(e).enumerate() {
            let p = self.probabilities(operands, x.ints[0], row);
            for (j, out) in out.iter_mut().enumerate() {
                let value = |s: usize| f64::from(x.inputs[2][(row / t * keys + s) * e + j]);
                *out = p.iter().enumerate().map(|(s, p)| p * value(s)).sum::<f64>() as f32;
            }
        }
        Ok(())
    }

    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let AdditiveDims { b, t, s: keys, c, e } = self.op.dims;
        let (q, k, values, v) = (x.inputs[0], x.inputs[1], x.inputs[2], x.params[0]);
        let mut grads: Vec<&mut Grad<'_>> =
            x.d_inputs.iter_mut().chain(x.d_params.iter_mut()).flatten().collect();
        for grad in grads.iter_mut().filter(|g| !g.accumulate) {
            grad.data.fill(0.0);
        }
        for row in 0..b * t {
            let p = self.probabilities((q, k, v), x.ints[0], row);
            let d_out = &x.d_outputs[0][row * e..][..e];
            let said = |s: usize| (row / t * keys + s) * e;
            let dp: Vec<f64> = (0..p.len())
                .map(|s| d_out.iter().zip(&values[said(s)..]).map(|(d, v)| f64::from(d * v)).sum())
                .collect();
            let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
            let mean = if self.fault == Fault::NoDelta { 0.0 } else { mean };
            for (s, p) in p.iter().enumerate() {
                let to = &mut grads[2].data[said(s)..];
                to.iter_mut().zip(d_out).for_each(|(to, d)| *to += (p * f64::from(*d)) as f32);
                let (d, at) = (p * (dp[s] - mean), self.key(row / t, s));
                for (i, y) in self.units((q, k), (row * c, at)).into_iter().enumerate() {
                    let slope = if self.fault == Fault::NoSlope { 1.0 } else { 1.0 - y * y };
                    let du = (d * f64::from(v[i]) * slope) as f32;
                    grads[0].data[row * c + i] += du;
                    grads[1].data[at + i] += du;
                    grads[3].data[i] += (d * y) as f32;
                }
            }
        }
        Ok(())
    }
}
