//! Additive attention to what is remembered of a source: generation.

use super::AdditiveDims;
use super::cpu::{self, Call};
use crate::autograd::{Inference, InferenceOp};
use crate::error::Result;

/// [`AdditiveAttention`](super::AdditiveAttention) that finds keys and values where somebody wrote them before.
///
/// Input: q `(B, T, C)`. Ints: lengths of the sources `(B)`. States: k `(B, S, C)`, then values `(B, S, E)`.
/// Parameter: v `(C)`. Output: `(B, T, E)`. Several rows that read one source are more queries of one row: `B`
/// counts sources.
#[derive(Clone, Copy, Debug)]
pub struct RememberedAdditive {
    dims: AdditiveDims,
}

impl RememberedAdditive {
    /// `dims.s` is how many positions of a source there is room for.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(dims: AdditiveDims) -> Result<Self> {
        dims.check()?;
        Ok(Self { dims })
    }
}

impl InferenceOp for RememberedAdditive {
    fn name(&self) -> &'static str {
        "remembered additive attention"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.operands()[0]]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.dims.b]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.dims.c]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.dims.b * self.dims.t * self.dims.e]
    }
    fn states(&self) -> Vec<usize> {
        self.dims.operands()[1..].to_vec()
    }
    fn scratch(&self, _threads: usize) -> usize {
        self.dims.b * self.dims.t * self.dims.s
    }
    fn flops(&self) -> u64 {
        self.dims.flops()
    }

    fn forward(&self, mut x: Inference<'_>) -> Result<()> {
        self.dims.check_lengths(x.ints[0])?;
        let (k, values) = (&*x.states[0], &*x.states[1]);
        let (q, v) = (x.inputs[0], x.params[0]);
        let call = Call { dims: self.dims, lengths: x.ints[0], q, k, values, v };
        cpu::forward(x.pool, call, x.outputs[0], x.scratch);
        Ok(())
    }
}
