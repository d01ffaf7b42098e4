//! The third step.

use super::{NormDims, check, cpu};
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::Result;

/// `y = x·weight + bias`: x and y (N, C); params weight (C), bias (C) if there is one. Not in place: somebody may
/// look at x.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    dims: NormDims,
    bias: bool,
}

impl Affine {
    /// With or without a bias.
    ///
    /// # Errors
    /// A size is 0, or the product overflows.
    pub fn new(dims: NormDims, bias: bool) -> Result<Self> {
        check(dims, "affine")?;
        Ok(Self { dims, bias })
    }
}

impl Op for Affine {
    fn name(&self) -> &'static str {
        "affine"
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
    fn scratch(&self, _threads: usize) -> usize {
        cpu::scratch(self.dims)
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn flops(&self) -> (u64, u64) {
        let (n, bias) = ((self.dims.n * self.dims.c) as u64, u64::from(self.bias));
        (n * (1 + bias), n * (3 + bias))
    }
    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let params = (x.params[0], x.params.get(1).copied().unwrap_or(&[]));
        cpu::affine(x.pool, self.dims, x.inputs[0], params, x.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let dy = x.d_outputs[0];
        if let Some(dx) = &mut x.d_inputs[0] {
            cpu::d_affine(x.pool, self.dims, (dy, x.params[0]), dx);
        }
        if let Some(Some(d)) = x.d_params.get_mut(0) {
            cpu::d_weight(x.pool, self.dims, (x.inputs[0], dy), d, x.scratch);
        }
        if let Some(Some(d)) = x.d_params.get_mut(1) {
            cpu::d_bias(x.pool, self.dims, dy, d, x.scratch);
        }
        Ok(())
    }
}
