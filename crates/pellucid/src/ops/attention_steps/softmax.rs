//! The second step.

use super::cpu;
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};

/// Rows of scores `(N, S)` to rows of probabilities `(N, S)`. Not in place: somebody may look at either.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    pub(super) rows: usize,
    pub(super) s: usize,
}

impl Softmax {
    /// `rows` rows (`B·H·T`) of `s` scores.
    ///
    /// # Errors
    /// A size is 0, or their product does not fit the address space.
    pub fn new(rows: usize, s: usize) -> Result<Self> {
        if rows == 0 || s == 0 || rows.checked_mul(s).is_none() {
            let message = format!(
                "{rows} rows of {s} scores; both are at least 1, and their product fits the address space"
            );
            return Err(Error::new(Kind::Shape, "softmax", message));
        }
        Ok(Self { rows, s })
    }
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.rows * self.s]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.rows * self.s]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 0, outputs: 1 }
    }
    fn flops(&self) -> (u64, u64) {
        let n = (self.rows * self.s) as u64;
        // Largest, difference, exp, sum, share; back: products and their sum, difference, product.
        (5 * n, 4 * n)
    }
    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        cpu::softmax(x.pool, self.s, x.inputs[0], x.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let Some(grad) = &mut x.d_inputs[0] else { return Ok(()) };
        cpu::d_softmax(x.pool, self.s, x.outputs[0], x.d_outputs[0], grad.data, grad.accumulate);
        Ok(())
    }
}
