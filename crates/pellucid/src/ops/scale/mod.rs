//! Every element times one number: `y = factor · x`, x and y (N). T5 scales what its tied head reads by 1/√C.
//!
//! In place. Saved: nothing (0 bytes); the backward pass reads neither input nor output: `dx = factor · dy`.

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};

/// `y = factor · x`; x and y (N).
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    n: usize,
    factor: f32,
}

impl Scale {
    /// `n` elements, in whatever shape.
    ///
    /// # Errors
    /// `n` is 0, or the factor no finite number.
    pub fn new(n: usize, factor: f32) -> Result<Self> {
        if n == 0 || !factor.is_finite() {
            let message = format!("N = {n}, factor = {factor}; N is at least 1, the factor finite");
            return Err(Error::new(Kind::Shape, "scale", message));
        }
        Ok(Self { n, factor })
    }
}

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        Some((0, 0))
    }
    fn flops(&self) -> (u64, u64) {
        (self.n as u64, self.n as u64)
    }
    fn forward(&self, mut o: Forward<'_>) -> Result<()> {
        cpu::scale(o.pool, self.factor, o.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut o: Backward<'_>) -> Result<()> {
        if let Some(dx) = &mut o.d_inputs[0] {
            cpu::scale(o.pool, self.factor, dx.data);
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
    fn nothing_and_infinity_are_refused() {
        assert!(Scale::new(0, 1.0).is_err() && Scale::new(1, f32::INFINITY).is_err());
    }
}

// This room does not know what is scaled, or why.
