//! One product for each head, all threads in each; and sums of rows.
#![allow(unsafe_code)] // disjoint rows of one buffer go to different threads

use super::reference::Sizes;
use crate::autograd::Grad;
use crate::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm};
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::multiversion;

multiversion! {
    fn add<const FMA: bool>(to: &mut [f32], from: &[f32]) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
    }
}

/// result (N, H, C) from z (N, H·D) and w (C, H·D).
pub(super) fn results(pool: &Pool, sizes: Sizes, z: &[f32], w: &[f32], result: &mut [f32]) {
    let Sizes { n, h, d, c } = sizes;
    for head in 0..h {
        let (z, w) = (Mat::rows(&z[head * d..], h * d), Mat::rows(&w[head * d..], h * d).t());
        let (dims, to) = (GemmDims { m: n, n: c, k: d }, &mut result[head * c..]);
        gemm(pool, Precision::F32, dims, z, w, to, h * c, false, None);
    }
}

/// Gradient of z.
pub(super) fn d_z(pool: &Pool, sizes: Sizes, d_result: &[f32], w: &[f32], dz: &mut Grad<'_>) {
    let Sizes { n, h, d, c } = sizes;
    for head in 0..h {
        let from = Mat::rows(&d_result[head * c..], h * c);
        let w = Mat::rows(&w[head * d..], h * d);
        let (dims, to) = (GemmDims { m: n, n: d, k: c }, &mut dz.data[head * d..]);
        gemm(pool, Precision::F32, dims, from, w, to, h * d, dz.accumulate, None);
    }
}

/// Gradient of w.
pub(super) fn d_w(pool: &Pool, sizes: Sizes, d_result: &[f32], z: &[f32], dw: &mut Grad<'_>) {
    let Sizes { n, h, d, c } = sizes;
    for head in 0..h {
        let from = Mat::rows(&d_result[head * c..], h * c).t();
        let z = Mat::rows(&z[head * d..], h * d);
        let (dims, to) = (GemmDims { m: c, n: d, k: n }, &mut dw.data[head * d..]);
        gemm(pool, Precision::F32, dims, from, z, to, h * d, dw.accumulate, None);
    }
}

/// y (N, C): the heads of each row in order, then the bias; an empty bias is none.
pub(super) fn sum(pool: &Pool, sizes: Sizes, result: &[f32], bias: &[f32], y: &mut [f32]) {
    let Sizes { n, h, c, .. } = sizes;
    assert_eq!(y.len(), n * c);
    let out = Ptr(y.as_mut_ptr());
    pool.split(n, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; y has n rows of c, checked above.
            let y = unsafe { out.slice(row * c, c) };
            let result = &result[row * h * c..][..h * c];
            y.copy_from_slice(&result[..c]);
            result[c..].chunks_exact(c).for_each(|head| add(y, head));
            add(y, bias);
        }
    });
}

/// Each head's gradient is that of the sum.
pub(super) fn d_sum(pool: &Pool, sizes: Sizes, dy: &[f32], d: &mut Grad<'_>) {
    let Sizes { n, h, c, .. } = sizes;
    assert_eq!(d.data.len(), n * h * c);
    let (out, more) = (Ptr(d.data.as_mut_ptr()), d.accumulate);
    pool.split(n, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; d has n rows of h·c, checked above.
            let heads = unsafe { out.slice(row * h * c, h * c) };
            let dy = &dy[row * c..][..c];
            for head in heads.chunks_exact_mut(c) {
                if more { add(head, dy) } else { head.copy_from_slice(dy) }
            }
        }
    });
}
