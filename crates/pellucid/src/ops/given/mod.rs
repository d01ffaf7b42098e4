//! A value from outside the tape: `y = state`, both (N). What one tape made, another goes on with.
//!
//! For inference only: nobody asks for the gradient of what is given.
//!
//! This room does not know what the numbers mean.

use crate::autograd::{Inference, InferenceOp};
use crate::error::Result;

/// `N` elements of a state as a value.
#[derive(Clone, Copy, Debug)]
pub struct Given(pub usize);

impl InferenceOp for Given {
    fn name(&self) -> &'static str {
        "given"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn states(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn forward(&self, mut operands: Inference<'_>) -> Result<()> {
        operands.outputs[0].copy_from_slice(operands.states[0]);
        Ok(())
    }
}
