//! How far predicted numbers are from the right ones: the loss of regression.
//!
//! `losses[n] = Σ_r (x[n,r] - y[n,r])² / R_n` over the row's R_n targets that are numbers, and
//! `loss = Σ (x - y)² / (all such targets)`; with none both are 0, and so is the gradient,
//! `dx = 2 (x - y) · grad_scale / (all such targets)`.
//!
//! Input: x (N, R). Integers: targets (N R), each the bits of an f32 (`f32::to_bits() as i32`), as integers are what a
//! tape is fed with; NaN, such as -100 as bits, leaves one out. Outputs: loss (1), and losses (N), which carry no
//! gradient. Saved: nothing (0 bytes). A few numbers a text: plain loops on one thread.

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};

/// The operation. See the module for shapes.
#[derive(Clone, Copy, Debug)]
pub struct SquaredError {
    n: usize,
    r: usize,
}

impl SquaredError {
    /// `n` rows of `r` numbers.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(n: usize, r: usize) -> Result<Self> {
        if n == 0 || r == 0 {
            let message = format!("(N={n}, R={r}); every size must be at least 1");
            return Err(Error::new(Kind::Shape, "squared error", message));
        }
        Ok(Self { n, r })
    }
}

impl Op for SquaredError {
    fn name(&self) -> &'static str {
        "squared error"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n * self.r]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.n * self.r]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![1, self.n]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn is_loss(&self) -> bool {
        true
    }
    fn flops(&self) -> (u64, u64) {
        let n = (self.n * self.r) as u64;
        (3 * n, 2 * n)
    }
    fn forward(&self, mut o: Forward<'_>) -> Result<()> {
        let (x, targets) = (o.inputs[0], o.ints[0]);
        o.outputs[0][0] = cpu::losses(self.r, x, targets, o.outputs[1]);
        Ok(())
    }
    fn backward(&self, mut o: Backward<'_>) -> Result<()> {
        let (x, targets) = (o.inputs[0], o.ints[0]);
        o.outputs[0][0] = cpu::losses(self.r, x, targets, o.outputs[1]);
        if let Some(dx) = &mut o.d_inputs[0] {
            cpu::gradient(x, targets, o.run.grad_scale, dx.data, dx.accumulate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_hold() {
        cases::cases().iter().for_each(|case| case.check().unwrap());
    }

    #[test]
    fn what_no_batch_counts_is_no_number() {
        assert!(f32::from_bits(-100i32 as u32).is_nan());
        assert!(SquaredError::new(0, 1).is_err() && SquaredError::new(1, 0).is_err());
    }
}

// This room does not know texts, labels, or what the numbers measure.
