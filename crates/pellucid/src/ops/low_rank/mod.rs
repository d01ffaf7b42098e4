//! An addition of low rank to some columns of a linear layer's output: LoRA (Hu et al. 2021).
//!
//! ```text
//! h = s · x · aᵀ        y[:, first..first + P] += h · bᵀ
//! ```
//!
//! Inputs: `x (N, I)`, `y (N, O)`, the second in place. Parameters: `a (R, I)`, `b (P, R)`, with R ≪ I, P. Saved:
//! `h (N, R)` (`4·N·R` bytes). Backward: `db = dyᵀ·h`, `dh = s·dy·b`, `da = dhᵀ·x`, `dx = dh·a`, and y's gradient is
//! handed on. The product `b·a`, as large as the layer's own matrix, is never made, nor is its gradient.

#[cfg(any(test, feature = "cases"))]
mod cases;
mod cpu;
/// The definition, in f64.
pub mod reference;

#[cfg(any(test, feature = "cases"))]
pub use cases::cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::backend::cpu::gemm::Precision;
use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// The operation. See the module for shapes.
#[derive(Clone, Debug)]
pub struct LowRank {
    n: usize,
    c_in: usize,
    c_out: usize,
    /// Columns of `y` that are added to.
    columns: Range<usize>,
    rank: usize,
    scale: f32,
    precision: Precision,
}

impl LowRank {
    /// `n` rows of `c_in` to `columns` among `c_out`.
    ///
    /// # Errors
    /// A size of 0, columns outside `c_out`, a scale that is not finite.
    pub fn new(
        n: usize,
        (c_in, c_out): (usize, usize),
        columns: Range<usize>,
        (rank, scale): (usize, f32),
        precision: Precision,
    ) -> Result<Self> {
        let empty = n == 0 || c_in == 0 || rank == 0 || columns.is_empty();
        if empty || columns.end > c_out || !scale.is_finite() {
            let message = format!(
                "N = {n}, I = {c_in}, O = {c_out}, columns {columns:?}, R = {rank}, scale {scale}; \
                 sizes are at least 1, columns inside O, the scale finite"
            );
            return Err(Error::new(Kind::Shape, "low_rank", message));
        }
        Ok(Self { n, c_in, c_out, columns, rank, scale, precision })
    }

    fn dims(&self) -> cpu::Dims {
        cpu::Dims {
            n: self.n,
            i: self.c_in,
            o: self.c_out,
            first: self.columns.start,
            p: self.columns.len(),
            r: self.rank,
            scale: self.scale,
            precision: self.precision,
        }
    }
}

impl Op for LowRank {
    fn name(&self) -> &'static str {
        "low_rank"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n * self.c_in, self.n * self.c_out]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.rank * self.c_in, self.columns.len() * self.rank]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n * self.c_out]
    }
    fn saved(&self) -> Vec<usize> {
        vec![self.n * self.rank]
    }
    fn scratch(&self, _threads: usize) -> usize {
        self.n * self.rank
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        Some((1, 0))
    }
    fn flops(&self) -> (u64, u64) {
        let one = 2 * (self.n * self.rank * (self.c_in + self.columns.len())) as u64;
        (one, 2 * one)
    }

    fn forward(&self, mut o: Forward<'_>) -> Result<()> {
        // An inference tape need not keep `h`; it then lies in the scratch.
        let h = match o.saved.iter_mut().next() {
            Some(h) if !h.is_empty() => &mut **h,
            _ => &mut *o.scratch,
        };
        cpu::forward(o.pool, self.dims(), o.inputs[0], (o.params[0], o.params[1]), h, o.outputs[0]);
        Ok(())
    }

    fn backward(&self, o: Backward<'_>) -> Result<()> {
        let mut d_inputs = o.d_inputs.into_iter();
        let (dx, dy) = (d_inputs.next().flatten(), d_inputs.next().flatten());
        // In place: y's gradient arrives where it is to be handed on, and stays as it is.
        let Some(dy) = dy else { return Ok(()) };
        let mut d_params = o.d_params.into_iter();
        let gradients = cpu::Gradients {
            dx,
            da: d_params.next().flatten(),
            db: d_params.next().flatten(),
            dh: o.scratch,
        };
        let (params, h) = ((o.params[0], o.params[1]), &*o.saved[0]);
        cpu::backward(o.pool, self.dims(), (o.inputs[0], h), params, dy.data, gradients);
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
    fn columns_outside_and_empty_sizes_are_refused() {
        let new = |columns, rank| LowRank::new(3, (4, 5), columns, (rank, 1.0), Precision::F32);
        assert!(new(2..5, 1).is_ok());
        for wrong in [new(2..6, 1), new(2..2, 1), new(0..5, 0)] {
            assert_eq!(wrong.unwrap_err().kind(), Kind::Shape);
        }
    }
}

// This room does not know which projection it adds to, or that its matrix is frozen.
