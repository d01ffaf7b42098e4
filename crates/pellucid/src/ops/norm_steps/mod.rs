//! A norm in three steps, for who wants to see or edit what lies between them; TransformerLens calls the first two
//! `hook_scale` and `hook_normalized`.
//!
//! ```text
//! NormScale:  scale = √(Σ(x - mean)²/C + eps)      mean = Σx/C, or 0 (RMSNorm)
//! Normalise:  y = (x - mean) / scale
//! Affine:     y = x · weight + bias                the bias may be left out
//! ```
//!
//! x, y (N, C), N = B·T rows; scale (N); weight, bias (C).
//! Saved: nothing. Backward: `NormScale` reads x and scale, `Normalise` its two inputs, `Affine` x.
//! One after another they are [`norm`](super::norm)'s LayerNorm (centred, with a bias) and RMSNorm.

mod affine;
mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;
#[cfg(test)]
mod tests;

pub use affine::Affine;

use crate::autograd::{Backward, Forward, Grad, Needs, Op};
use crate::error::{Error, Kind, Result};
use crate::ops::norm::NormDims;

/// Sizes of 0, or beyond the address space.
fn check(dims: NormDims, operation: &'static str) -> Result<()> {
    let NormDims { n, c } = dims;
    if n == 0 || c == 0 || n.checked_mul(c).is_none() {
        let message = "N and C must be at least 1 and N·C must fit the address space";
        return Err(Error::new(Kind::Shape, operation, message).fact(format!("N={n}, C={c}")));
    }
    Ok(())
}

/// How large each row is: x (N, C) to scale (N).
#[derive(Clone, Copy, Debug)]
pub struct NormScale {
    dims: NormDims,
    eps: f32,
    centred: bool,
}

impl NormScale {
    /// `centred`: LayerNorm, which takes off each row's mean; else RMSNorm.
    ///
    /// # Errors
    /// A size is 0, the product overflows, or `eps` is not positive and finite.
    pub fn new(dims: NormDims, eps: f32, centred: bool) -> Result<Self> {
        dims.check("norm scale", eps)?;
        Ok(Self { dims, eps, centred })
    }
}

impl Op for NormScale {
    fn name(&self) -> &'static str {
        "norm scale"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.c]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.dims.n]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 1 }
    }
    fn flops(&self) -> (u64, u64) {
        let n = (self.dims.n * self.dims.c) as u64;
        // Mean 1, difference 1, squares 2; back: difference and product.
        let mean = 2 * u64::from(self.centred);
        (n * (2 + mean), n * (1 + mean))
    }
    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let how = (self.eps, self.centred);
        cpu::scale(x.pool, self.dims, how, x.inputs[0], x.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let Some(dx) = &mut x.d_inputs[0] else { return Ok(()) };
        let read = (x.inputs[0], &*x.outputs[0], x.d_outputs[0]);
        cpu::d_scale(x.pool, self.dims, self.centred, read, dx);
        Ok(())
    }
}

/// Each row divided by its scale: x (N, C) and scale (N) to (N, C).
#[derive(Clone, Copy, Debug)]
pub struct Normalise {
    dims: NormDims,
    centred: bool,
}

impl Normalise {
    /// `centred`: each row's mean is taken off first.
    ///
    /// # Errors
    /// A size is 0, or the product overflows.
    pub fn new(dims: NormDims, centred: bool) -> Result<Self> {
        check(dims, "normalise")?;
        Ok(Self { dims, centred })
    }
}

impl Op for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.c, self.dims.n]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.c]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 0b11, outputs: 0 }
    }
    fn flops(&self) -> (u64, u64) {
        let n = (self.dims.n * self.dims.c) as u64;
        // Mean 1, difference 1, quotient 1; back: the same of dy, and x's mean, difference, product and sum.
        let mean = 2 * u64::from(self.centred);
        (n * (1 + mean), n * (3 + 2 * mean))
    }
    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let read = (x.inputs[0], x.inputs[1]);
        let mut y = Grad { data: x.outputs[0], accumulate: false };
        cpu::normalise(x.pool, self.dims, self.centred, read, &mut y);
        Ok(())
    }
    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let (of_x, scale, dy) = (x.inputs[0], x.inputs[1], x.d_outputs[0]);
        if let Some(dx) = &mut x.d_inputs[0] {
            cpu::normalise(x.pool, self.dims, self.centred, (dy, scale), dx);
        }
        if let Some(d) = &mut x.d_inputs[1] {
            let read = (of_x, scale, dy);
            cpu::d_scale_of_normalise(x.pool, self.dims, self.centred, read, d);
        }
        Ok(())
    }
}

// This room does not know blocks, residual streams, or who looks between the steps.
