//! Products of matrices, and linear equations with a symmetric positive one.

use crate::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm};
use crate::backend::cpu::pool::Pool;

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

/// The lower triangle `L` of `L Lᵀ = a`, (n, n) row-major; none where `a` is not positive.
pub(super) fn cholesky(a: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut l = a.to_vec();
    for j in 0..n {
        let (above, below) = l.split_at_mut((j + 1) * n);
        let row = &mut above[j * n..];
        let d = row[j] - row[..j].iter().map(|x| x * x).sum::<f64>();
        if !(d > 0.0) {
            return None;
        }
        row[j] = d.sqrt();
        for other in below.chunks_exact_mut(n) {
            let sum: f64 = other[..j].iter().zip(&row[..j]).map(|(a, b)| a * b).sum();
            other[j] = (other[j] - sum) / row[j];
        }
    }
    Some(l)
}

/// `x` with `L Lᵀ x = b`, in place.
pub(super) fn solve(l: &[f64], b: &mut [f64]) {
    let n = b.len();
    for i in 0..n {
        let sum: f64 = (0..i).map(|j| l[i * n + j] * b[j]).sum();
        b[i] = (b[i] - sum) / l[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|j| l[j * n + i] * b[j]).sum();
        b[i] = (b[i] - sum) / l[i * n + i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved() {
        let a = [4.0, 1.0, 0.5, 1.0, 3.0, -1.0, 0.5, -1.0, 2.0];
        let l = cholesky(&a, 3).unwrap();
        let mut x = [1.0, 2.0, 3.0];
        solve(&l, &mut x);
        for (row, want) in a.chunks(3).zip([1.0, 2.0, 3.0]) {
            let got: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        assert!(cholesky(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(cholesky(&[f64::NAN], 1).is_none());
    }
}
