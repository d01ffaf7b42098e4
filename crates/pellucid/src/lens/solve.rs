//! Products of matrices, and linear equations with a symmetric positive one.

use crate::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm};
use crate::backend::cpu::pool::Pool;
use nalgebra::{Cholesky, DMatrix, DVectorViewMut, Dyn};

/// `c (m, n) = a · b`, or added to it.
pub(super) fn product(
    pool: &Pool,
    (m, n, k): (usize, usize, usize),
    (a, b): (Mat<'_>, Mat<'_>),
    c: &mut [f32],
    accumulate: bool,
) {
    gemm(pool, Precision::F32, GemmDims { m, n, k }, a, b, c, n, accumulate, None);
}

/// A symmetric positive matrix, taken apart so that equations with it are solved (Cholesky).
pub(super) struct Positive(Cholesky<f64, Dyn>);

impl Positive {
    /// Of `a` (n, n), row-major, of which the lower triangle is read; none where it is not positive.
    pub(super) fn of(a: &[f64], n: usize) -> Option<Self> {
        Cholesky::new(DMatrix::from_row_slice(n, n, a)).map(Self)
    }

    /// `x` with `a x = b`, in place.
    pub(super) fn solve(&self, b: &mut [f64]) {
        let n = b.len();
        self.0.solve_mut(&mut DVectorViewMut::from_slice(b, n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved() {
        let a = [4.0, 1.0, 0.5, 1.0, 3.0, -1.0, 0.5, -1.0, 2.0];
        let l = Positive::of(&a, 3).unwrap();
        let mut x = [1.0, 2.0, 3.0];
        l.solve(&mut x);
        for (row, want) in a.chunks(3).zip([1.0, 2.0, 3.0]) {
            let got: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        assert!(Positive::of(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(Positive::of(&[f64::NAN], 1).is_none());
    }
}
