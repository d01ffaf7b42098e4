//! What each head writes: the projection behind attention, before its sum over heads is taken. TransformerLens calls
//! it `hook_result`.
//!
//! ```text
//! HeadResults:  result[n, h, :] = z[n, h, :] · W_O[:, h·D..(h+1)·D]ᵀ
//! SumHeads:     y[n, :]         = Σ_h result[n, h, :] + bias           the bias may be left out
//! ```
//!
//! z (N, H·D), N = B·T rows; W_O (C, H·D), as a linear layer has it; result (N, H, C), which is H times as large as
//! y (N, C); bias (C). One after the other they are [`linear`](super::linear), up to the order of sums.
//! Saved: nothing. Backward: `HeadResults` reads z, `SumHeads` nothing.

mod cpu;
/// The definition, in f64.
pub mod reference;
mod sum_heads;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;
#[cfg(test)]
mod tests;

pub use sum_heads::SumHeads;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};
use reference::Sizes;

fn check(operation: &'static str, sizes: Sizes) -> Result<()> {
    let Sizes { n, h, d, c } = sizes;
    let product = |sizes: &[usize]| sizes.iter().try_fold(4usize, |p, &n| p.checked_mul(n));
    let fits = [[n, h, c], [n, h, d], [c, h, d]].iter().all(|sizes| product(sizes).is_some());
    if [n, h, d, c].contains(&0) || !fits {
        let message = "N, H, D and C must be at least 1 and their products fit the address space";
        return Err(
            Error::new(Kind::Shape, operation, message).fact(format!("N={n}, H={h}, D={d}, C={c}"))
        );
    }
    Ok(())
}

/// z (N, H·D) and param W_O (C, H·D) to result (N, H, C).
#[derive(Clone, Copy, Debug)]
pub struct HeadResults {
    sizes: Sizes,
}

impl HeadResults {
    /// `n` rows, `h` heads of width `d`, each writing `c` columns.
    ///
    /// # Errors
    /// A size is 0, or a product overflows.
    pub fn new(n: usize, h: usize, d: usize, c: usize) -> Result<Self> {
        let sizes = Sizes { n, h, d, c };
        check("head results", sizes)?;
        Ok(Self { sizes })
    }
}

impl Op for HeadResults {
    fn name(&self) -> &'static str {
        "head results"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.sizes.n * self.sizes.h * self.sizes.d]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.sizes.c * self.sizes.h * self.sizes.d]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.sizes.n * self.sizes.h * self.sizes.c]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn flops(&self) -> (u64, u64) {
        let Sizes { n, h, d, c } = self.sizes;
        let product = 2 * (n * h * d) as u64 * c as u64;
        (product, 2 * product)
    }
    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        cpu::results(x.pool, self.sizes, x.inputs[0], x.params[0], x.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let d = x.d_outputs[0];
        if let Some(dz) = &mut x.d_inputs[0] {
            cpu::d_z(x.pool, self.sizes, d, x.params[0], dz);
        }
        if let Some(dw) = &mut x.d_params[0] {
            cpu::d_w(x.pool, self.sizes, d, x.inputs[0], dw);
        }
        Ok(())
    }
}

// This room does not know attention, residual streams, or who looks at a head.
