//! The second step.

use super::reference::Sizes;
use super::{check, cpu};
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::Result;
use crate::ops::linear::cpu::{Dims, add_blocks, block_sums};

/// result (N, H, C), and param bias (C) if there is one, to y (N, C).
#[derive(Clone, Copy, Debug)]
pub struct SumHeads {
    pub(super) sizes: Sizes,
    pub(super) bias: bool,
}

impl SumHeads {
    /// `n` rows of `h` heads, each of which wrote `c` columns.
    ///
    /// # Errors
    /// A size is 0, or the product overflows.
    pub fn new(n: usize, h: usize, c: usize, bias: bool) -> Result<Self> {
        let sizes = Sizes { n, h, d: 1, c };
        check("sum of heads", sizes)?;
        Ok(Self { sizes, bias })
    }

    /// For the bias's gradient: columns of dy.
    fn columns(&self) -> Dims {
        Dims { n: self.sizes.n, o: self.sizes.c, activation: None }
    }
}

impl Op for SumHeads {
    fn name(&self) -> &'static str {
        "sum of heads"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.sizes.n * self.sizes.h * self.sizes.c]
    }
    fn params(&self) -> Vec<usize> {
        if self.bias { vec![self.sizes.c] } else { vec![] }
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.sizes.n * self.sizes.c]
    }
    fn scratch(&self, _threads: usize) -> usize {
        if self.bias { self.columns().blocks() * self.sizes.c } else { 0 }
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn flops(&self) -> (u64, u64) {
        let Sizes { n, h, c, .. } = self.sizes;
        let (y, bias) = ((n * c) as u64, u64::from(self.bias));
        // Back: heads' gradients are copies.
        (y * (h as u64 - 1 + bias), y * bias)
    }
    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let bias = x.params.first().copied().unwrap_or(&[]);
        cpu::sum(x.pool, self.sizes, x.inputs[0], bias, x.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let dy = x.d_outputs[0];
        if let Some(d) = &mut x.d_inputs[0] {
            cpu::d_sum(x.pool, self.sizes, dy, d);
        }
        if let Some(Some(d)) = x.d_params.first_mut() {
            let columns = self.columns();
            let partial = &mut x.scratch[..columns.blocks() * columns.o];
            block_sums(x.pool, columns, dy, partial);
            add_blocks(x.pool, partial, d.data, d.accumulate);
        }
        Ok(())
    }
}
