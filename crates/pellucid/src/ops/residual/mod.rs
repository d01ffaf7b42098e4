//! A layer does not replace the stream, it adds to it; so the gradient has an unbroken way down.
//!
//! ```text
//! y = x + delta        x the stream, delta what a layer writes; all (N), N = B·T·C
//! ```
//!
//! Saved: nothing (0 bytes); the backward pass reads neither input nor output.
//! dx = dy is handed on by the tape without a copy ([`Op::residual`] names x): the stream's gradient is one
//! buffer from the last layer to the first, to which each layer's own input gradient is added. d_delta = dy is
//! a copy, because the layer's backward pass reads it while the stream's buffer goes on changing.
//!
//! He, Zhang, Ren, Sun 2015.

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};

/// `y = x + delta`. Inputs x (N), delta (N); output y (N).
#[derive(Clone, Copy, Debug)]
pub struct Residual {
    n: usize,
}

impl Residual {
    /// `n` elements, in whatever shape. Errors if `n` is 0.
    pub fn new(n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::new(Kind::Shape, "residual", "N is 0; N must be at least 1"));
        }
        Ok(Self { n })
    }
}

impl Op for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n; 2]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn residual(&self) -> Option<(usize, usize)> {
        Some((0, 0))
    }
    fn flops(&self) -> (u64, u64) {
        (self.n as u64, 0)
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        let (x, delta) = (operands.inputs[0], operands.inputs[1]);
        cpu::forward(operands.pool, x, delta, &mut *operands.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut operands: Backward<'_>) -> Result<()> {
        if let Some(delta) = &mut operands.d_inputs[1] {
            let dy = operands.d_outputs[0];
            cpu::backward(operands.pool, dy, &mut *delta.data, delta.accumulate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_hold() {
        for case in cases::cases() {
            case.check().unwrap();
        }
    }

    #[test]
    fn a_size_of_zero_is_refused() {
        assert_eq!(Residual::new(0).unwrap_err().kind(), Kind::Shape);
    }
}

// This room does not know which layer wrote delta, or what else reads the stream.
