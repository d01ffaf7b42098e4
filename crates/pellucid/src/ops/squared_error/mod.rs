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
    use crate::autograd::RunInfo;
    use crate::backend::cpu::pool::Pool;
    use crate::ops::harness::{Produced, Values, produce};

    /// Loss, rows' losses and dx of 3 rows of one number.
    fn run(x: [f64; 3], targets: [f32; 3]) -> Produced {
        let op = SquaredError::new(3, 1).unwrap();
        let ints = vec![targets.iter().map(|t| t.to_bits() as i32).collect()];
        let values = Values { inputs: vec![x.to_vec()], params: vec![], ints };
        let run = RunInfo { training: true, grad_scale: 1.0, ..RunInfo::default() };
        produce(&op, &values, &[vec![1.0], vec![0.0; 3]], run, &Pool::new(1), None)
    }

    #[test]
    fn numbers_are_as_by_hand() {
        let got = run([1.0, 5.0, -2.0], [3.0, f32::NAN, -2.5]);
        assert_eq!(got.outputs, [vec![2.125], vec![4.0, 0.0, 0.25]]);
        assert_eq!(got.d_inputs, [[-2.0, 0.0, 0.5]]);
    }

    #[test]
    fn without_a_target_loss_and_gradient_are_zero() {
        let got = run([1.0, 5.0, -2.0], [f32::NAN; 3]);
        let all = [got.outputs, got.d_inputs].concat().concat();
        assert!(all.len() == 7 && all.iter().all(|&x| x == 0.0), "{all:?}");
    }

    #[test]
    fn a_prediction_that_is_no_number_is_seen() {
        let got = run([f64::NAN, 5.0, -2.0], [3.0, f32::NAN, -2.5]);
        assert!(got.outputs[0][0].is_nan() && got.outputs[1][0].is_nan());
        assert!(got.d_inputs[0][0].is_nan() && got.d_inputs[0][2] == 0.5);
        // Of a row that is left out it is not.
        assert_eq!(run([1.0, f64::NAN, -2.0], [3.0, f32::NAN, -2.5]).outputs[0], [2.125]);
    }

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
