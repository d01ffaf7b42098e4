//! A matrix product with everything that follows it done while its result is in cache.
//!
//! `y = act(x·wᵀ + bias) + residual`; bias, activation and residual are each optional.
//! Backward, with `du = dy · act'(pre)`: `dx = du·w`, `dw = duᵀ·x`, `d_bias = Σ rows of du`, `d_residual = dy`.
//!
//! Inputs: `x (N, I)`, and `residual (N, O)`, whose gradient the tape hands on. Parameters: `w (O, I)`, and
//! `bias (O)`. Output: `y (N, O)`. Saved: `pre (N, O)`, what the activation was given (`4·N·O` bytes), only with
//! an activation; the backward pass turns it into `du` in place. From it `y` is cheap to recompute, so that `pre`
//! and `y` need not both be kept.

#[cfg(any(test, feature = "cases"))]
mod cases;
pub(super) mod cpu;
/// The definition.
pub mod reference;
/// The same with a stored matrix, for inference.
pub mod stored;

#[cfg(any(test, feature = "cases"))]
pub use cases::cases;

use super::activation::Activation;
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::backend::cpu::gemm::{GemmDims, Mat, Precision, Tile, gemm};
use crate::error::Result;

/// The operation. See the module for shapes.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// Rows (`B·T`).
    pub n: usize,
    /// Columns of `x` (`I`).
    pub c_in: usize,
    /// Columns of `y` (`O`).
    pub c_out: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// What follows the sum.
    pub activation: Option<Activation>,
    /// Whether a residual is added at last.
    pub residual: bool,
    /// Of the three matrix products.
    pub precision: Precision,
}

impl Linear {
    /// The bare product `x (N, I) · wᵀ`, in f32.
    #[must_use]
    pub fn new(n: usize, c_in: usize, c_out: usize) -> Self {
        Self {
            n,
            c_in,
            c_out,
            bias: false,
            activation: None,
            residual: false,
            precision: Precision::F32,
        }
    }

    fn dims(&self) -> cpu::Dims {
        cpu::Dims { n: self.n, o: self.c_out, activation: self.activation }
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn inputs(&self) -> Vec<usize> {
        let x = self.n * self.c_in;
        if self.residual { vec![x, self.n * self.c_out] } else { vec![x] }
    }
    fn params(&self) -> Vec<usize> {
        let w = self.c_out * self.c_in;
        if self.bias { vec![w, self.c_out] } else { vec![w] }
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n * self.c_out]
    }
    fn saved(&self) -> Vec<usize> {
        if self.activation.is_some() { self.outputs() } else { vec![] }
    }
    fn scratch(&self, _threads: usize) -> usize {
        if self.bias { self.dims().blocks() * self.c_out } else { 0 }
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn residual(&self) -> Option<(usize, usize)> {
        self.residual.then_some((1, 0))
    }
    fn cheap(&self) -> bool {
        self.activation.is_some()
    }
    fn recompute_inputs(&self) -> u8 {
        match (self.activation, self.residual) {
            (None, _) => u8::MAX,
            (Some(_), false) => 0,
            (Some(_), true) => 2,
        }
    }
    fn recompute(&self, mut operands: Forward<'_>) -> Result<()> {
        if self.activation.is_none() {
            return self.forward(operands);
        }
        let residual = if self.residual { Some(operands.inputs[1]) } else { None };
        let (pre, y) = (&*operands.saved[0], &mut *operands.outputs[0]);
        cpu::recompute(operands.pool, self.dims(), pre, residual, y);
        Ok(())
    }
    fn flops(&self) -> (u64, u64) {
        let one = 2 * (self.n * self.c_in * self.c_out) as u64;
        let (forward, backward) = self.activation.map_or((0, 0), Activation::flops);
        let (elements, bias) = ((self.n * self.c_out) as u64, u64::from(self.bias));
        let finish = elements * (bias + forward + u64::from(self.residual));
        (one + finish, 2 * one + elements * (bias + backward))
    }
    fn recompute_flops(&self) -> u64 {
        match self.activation {
            None => self.flops().0,
            Some(a) => (self.n * self.c_out) as u64 * (a.flops().0 + u64::from(self.residual)),
        }
    }

    fn forward(&self, operands: Forward<'_>) -> Result<()> {
        let (x, w) = (operands.inputs[0], operands.params[0]);
        let mut outputs = operands.outputs.into_iter();
        // An inference tape need not keep `pre`; it is then empty or absent.
        let pre = operands.saved.into_iter().next().unwrap_or_default();
        let finish = cpu::Finish::new(
            self.dims(),
            operands.params.get(1).copied(),
            pre,
            if self.residual { Some(operands.inputs[1]) } else { None },
        );
        let dims = GemmDims { m: self.n, n: self.c_out, k: self.c_in };
        let x = Mat { data: x, row_stride: self.c_in, col_stride: 1 };
        let w = Mat { data: w, row_stride: 1, col_stride: self.c_in };
        let y = outputs.next().unwrap_or_default();
        let finish = |tile: Tile<'_>| finish.tile(tile);
        let bare = !self.bias && self.activation.is_none() && !self.residual;
        let finish: Option<&(dyn Fn(Tile<'_>) + Sync)> = if bare { None } else { Some(&finish) };
        gemm(operands.pool, self.precision, dims, x, w, y, self.c_out, false, finish);
        Ok(())
    }

    fn backward(&self, operands: Backward<'_>) -> Result<()> {
        let (n, i, o) = (self.n, self.c_in, self.c_out);
        let (pool, dy) = (operands.pool, operands.d_outputs[0]);
        let (x, w) = (operands.inputs[0], operands.params[0]);
        let dx = operands.d_inputs.into_iter().next().flatten();
        let mut d_params = operands.d_params.into_iter();
        let (dw, db) = (d_params.next().flatten(), d_params.next().flatten());

        let partial = if db.is_some() { &mut *operands.scratch } else { &mut [] };
        let mut du = dy;
        if let Some((activation, pre)) = self.activation.zip(operands.saved.into_iter().next()) {
            cpu::inner_gradient(pool, self.dims(), activation, dy, pre, partial);
            du = pre;
        } else if !partial.is_empty() {
            cpu::block_sums(pool, self.dims(), dy, partial);
        }
        if let Some(db) = db {
            cpu::add_blocks(pool, partial, db.data, db.accumulate);
        }
        let rows = Mat { data: du, row_stride: o, col_stride: 1 };
        if let Some(dx) = dx {
            let w = Mat { data: w, row_stride: i, col_stride: 1 };
            let dims = GemmDims { m: n, n: i, k: o };
            gemm(pool, self.precision, dims, rows, w, dx.data, i, dx.accumulate, None);
        }
        if let Some(dw) = dw {
            let columns = Mat { data: du, row_stride: 1, col_stride: o };
            let x = Mat { data: x, row_stride: i, col_stride: 1 };
            let dims = GemmDims { m: o, n: i, k: n };
            gemm(pool, self.precision, dims, columns, x, dw.data, i, dw.accumulate, None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

// This room does not know layers, or whether `w` is a projection, a head or an adapter.
