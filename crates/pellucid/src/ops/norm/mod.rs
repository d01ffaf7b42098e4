//! Brings every position's vector to one size, so that depth neither blows it up nor fades it out.
//!
//! ```text
//! LayerNorm:  y = (x - mean) · rstd · weight + bias     mean = Σx/C   rstd = 1/√(Σ(x - mean)²/C + eps)
//! RMSNorm:    y = x · rstd · weight                                   rstd = 1/√(Σx²/C + eps)
//! ```
//!
//! x, y (N, C), N = B·T rows; weight, bias (C).
//! Saved: LayerNorm mean (N) and rstd (N), 8·N bytes; RMSNorm rstd (N), 4·N bytes. The backward pass reads x,
//! not y; y is cheap to recompute from x and what is saved.
//!
//! LayerNorm: Ba, Kiros, Hinton 2016 (the bias may be left out). RMSNorm: Zhang & Sennrich 2019.

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};
use cpu::{Affine, Statistics};

/// Sizes of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormDims {
    /// Rows N = B·T.
    pub n: usize,
    /// Width C.
    pub c: usize,
}

impl NormDims {
    /// All faults at once.
    pub(super) fn check(self, operation: &'static str, eps: f32) -> Result<()> {
        let Self { n, c } = self;
        let mut faults = vec![];
        if n == 0 || c == 0 || n.checked_mul(c).is_none() {
            faults.push("N and C must be at least 1 and N·C must fit the address space");
        }
        if !(eps > 0.0 && eps.is_finite()) {
            faults.push("eps must be positive and finite, else a row of zeros has no size");
        }
        let Some(first) = faults.first() else { return Ok(()) };
        let kind = if n == 0 || c == 0 { Kind::Shape } else { Kind::Config };
        let error = Error::new(kind, operation, *first);
        let error = faults[1..].iter().fold(error, |e, fault| e.fact(*fault));
        Err(error.fact(format!("N={n}, C={c}, eps={eps}")).hint("eps is usually 1e-5 or 1e-6"))
    }

    /// Blocks of rows whose parameter gradients are summed on their own, then in block order: at most 256,
    /// of at least 16 rows, whatever the number of threads, so that the sum's bits do not depend on it.
    fn blocks(self) -> cpu::Blocks {
        let rows = self.n.div_ceil(256).max(16);
        cpu::Blocks { rows, count: self.n.div_ceil(rows) }
    }
}

/// LayerNorm. Input x (N, C); params weight (C), bias (C) if there is one; output y (N, C).
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    dims: NormDims,
    eps: f32,
    bias: bool,
}

impl LayerNorm {
    /// Errors if a size is 0, the product overflows, or `eps` is not positive and finite.
    pub fn new(dims: NormDims, eps: f32, bias: bool) -> Result<Self> {
        dims.check("layer norm", eps)?;
        Ok(Self { dims, eps, bias })
    }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer norm"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.c]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.dims.c; 1 + usize::from(self.bias)]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.c]
    }
    fn saved(&self) -> Vec<usize> {
        vec![self.dims.n; 2]
    }
    fn scratch(&self, _threads: usize) -> usize {
        self.dims.blocks().count * self.dims.c * (1 + usize::from(self.bias))
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn cheap(&self) -> bool {
        true
    }
    fn flops(&self) -> (u64, u64) {
        let n = (self.dims.n * self.dims.c) as u64;
        let bias = u64::from(self.bias);
        // Mean 1, variance 3, normalise 2, weight 1; back: x̂ 2, dy·w 1, two sums 3, dx 4, d_weight 2.
        (n * (7 + bias), n * (12 + bias))
    }
    fn recompute_flops(&self) -> u64 {
        (self.dims.n * self.dims.c) as u64 * (3 + u64::from(self.bias))
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        let [mean, rstd] = &mut operands.saved[..] else { unreachable!("saved() has two") };
        let statistics = Statistics { mean: Some(mean), rstd };
        let affine = affine(&operands.params);
        let (x, y) = (operands.inputs[0], &mut *operands.outputs[0]);
        cpu::forward(operands.pool, self.dims, self.eps, x, affine, statistics, y);
        Ok(())
    }
    fn recompute(&self, mut operands: Forward<'_>) -> Result<()> {
        let affine = affine(&operands.params);
        let (x, y) = (operands.inputs[0], &mut *operands.outputs[0]);
        let (mean, rstd) = (Some(&*operands.saved[0]), &*operands.saved[1]);
        cpu::recompute(operands.pool, self.dims, x, affine, mean, rstd, y);
        Ok(())
    }
    fn backward(&self, mut operands: Backward<'_>) -> Result<()> {
        let (mean, rstd) = (&*operands.saved[0], &*operands.saved[1]);
        let rows = cpu::Rows {
            x: operands.inputs[0],
            dy: operands.d_outputs[0],
            weight: operands.params[0],
            mean: Some(mean),
            rstd,
        };
        let mut params = operands.d_params.iter_mut();
        let d_weight = params.next().and_then(Option::as_mut);
        let d_bias = params.next().and_then(Option::as_mut);
        let gradients = cpu::Gradients {
            dx: operands.d_inputs[0].as_mut().map(target),
            d_weight: d_weight.map(target),
            d_bias: d_bias.map(target),
        };
        let blocks = self.dims.blocks();
        cpu::backward(operands.pool, self.dims, blocks, rows, gradients, operands.scratch);
        Ok(())
    }
}

/// RMSNorm. Input x (N, C); param weight (C); output y (N, C).
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    dims: NormDims,
    eps: f32,
}

impl RmsNorm {
    /// Errors if a size is 0, the product overflows, or `eps` is not positive and finite.
    pub fn new(dims: NormDims, eps: f32) -> Result<Self> {
        dims.check("rms norm", eps)?;
        Ok(Self { dims, eps })
    }
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms norm"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.c]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.dims.c]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.c]
    }
    fn saved(&self) -> Vec<usize> {
        vec![self.dims.n]
    }
    fn scratch(&self, _threads: usize) -> usize {
        self.dims.blocks().count * self.dims.c
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn cheap(&self) -> bool {
        true
    }
    fn flops(&self) -> (u64, u64) {
        let n = (self.dims.n * self.dims.c) as u64;
        // Squares 2, normalise 1, weight 1; back: x̂ 1, dy·w 1, sum 2, dx 3, d_weight 2.
        (4 * n, 9 * n)
    }
    fn recompute_flops(&self) -> u64 {
        2 * (self.dims.n * self.dims.c) as u64
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        let statistics = Statistics { mean: None, rstd: &mut *operands.saved[0] };
        let affine = affine(&operands.params);
        let (x, y) = (operands.inputs[0], &mut *operands.outputs[0]);
        cpu::forward(operands.pool, self.dims, self.eps, x, affine, statistics, y);
        Ok(())
    }
    fn recompute(&self, mut operands: Forward<'_>) -> Result<()> {
        let affine = affine(&operands.params);
        let (x, y) = (operands.inputs[0], &mut *operands.outputs[0]);
        cpu::recompute(operands.pool, self.dims, x, affine, None, &*operands.saved[0], y);
        Ok(())
    }
    fn backward(&self, mut operands: Backward<'_>) -> Result<()> {
        let rows = cpu::Rows {
            x: operands.inputs[0],
            dy: operands.d_outputs[0],
            weight: operands.params[0],
            mean: None,
            rstd: &*operands.saved[0],
        };
        let gradients = cpu::Gradients {
            dx: operands.d_inputs[0].as_mut().map(target),
            d_weight: operands.d_params[0].as_mut().map(target),
            d_bias: None,
        };
        let blocks = self.dims.blocks();
        cpu::backward(operands.pool, self.dims, blocks, rows, gradients, operands.scratch);
        Ok(())
    }
}

fn affine<'a>(params: &[&'a [f32]]) -> Affine<'a> {
    Affine { weight: params[0], bias: params.get(1).copied() }
}

fn target<'a>(grad: &'a mut crate::autograd::Grad<'_>) -> cpu::Target<'a> {
    cpu::Target { data: &mut *grad.data, accumulate: grad.accumulate }
}

#[cfg(test)]
mod tests;

// This room does not know blocks, residual streams or where in a layer a norm stands.
