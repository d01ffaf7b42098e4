//! The product in f64 and plain loops.

use super::{GemmDims, Mat, Precision};

/// `a (m, k) · b (k, n)`, `+ c` if given, as `(m, n)` row-major f64.
///
/// With [`Precision::Bf16`] operands are first rounded to bf16; nothing else is rounded.
#[must_use]
pub fn gemm(
    precision: Precision,
    dims: GemmDims,
    a: Mat<'_>,
    b: Mat<'_>,
    c: Option<(&[f32], usize)>,
) -> Vec<f64> {
    let enter = |x: f32| match precision {
        Precision::F32 => f64::from(x),
        Precision::Bf16 => half::bf16::from_f32(x).to_f64(),
    };
    let mut out = Vec::with_capacity(dims.m * dims.n);
    for i in 0..dims.m {
        for j in 0..dims.n {
            let start = c.map_or(0.0, |(c, stride)| f64::from(c[i * stride + j]));
            let term = |l: usize| enter(a.element(i, l)) * enter(b.element(l, j));
            out.push((0..dims.k).fold(start, |sum, l| sum + term(l)));
        }
    }
    out
}
