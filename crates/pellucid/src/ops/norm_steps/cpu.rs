//! One row after another, each in cache. Sums over rows are made in fixed blocks, then added in block order, so
//! that thread count changes no bit.
#![allow(unsafe_code)] // disjoint rows of one output go to different threads

use super::NormDims;
use crate::autograd::Grad;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::linear::cpu::{Dims, add_blocks, block_sums};
use crate::ops::simd::{fma, multiversion, sum, sum2};

multiversion! {
    /// The mean; 0 unless centred.
    fn mean<const FMA: bool>(x: &[f32], centred: bool) -> f32 {
        if centred { sum(x, |v| v) / x.len() as f32 } else { 0.0 }
    }
}
multiversion! {
    fn size<const FMA: bool>(x: &[f32], mean: f32, eps: f32) -> f32 {
        (sum(x, |v| (v - mean) * (v - mean)) / x.len() as f32 + eps).sqrt()
    }
}
multiversion! {
    /// `Σ dy·(x - mean)`.
    fn along<const FMA: bool>(x: &[f32], dy: &[f32], mean: f32) -> f32 {
        sum2(x, dy, |x, dy| dy * (x - mean))
    }
}
multiversion! {
    /// `to = (x - mean)·factor`, or `+=`.
    fn shifted<const FMA: bool>(x: &[f32], mean: f32, factor: f32, to: &mut [f32], more: bool) {
        let items = to.iter_mut().zip(x);
        if more {
            items.for_each(|(to, x)| *to += (x - mean) * factor);
        } else {
            items.for_each(|(to, x)| *to = (x - mean) * factor);
        }
    }
}
multiversion! {
    /// `y = x·weight + bias`; an empty bias is none.
    fn weighted<const FMA: bool>(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
        let items = y.iter_mut().zip(x.iter().zip(weight));
        if bias.is_empty() {
            items.for_each(|(y, (x, w))| *y = x * w);
        } else {
            items.zip(bias).for_each(|((y, (x, w)), b)| *y = fma::<FMA>(*x, *w, *b));
        }
    }
}
multiversion! {
    /// `to += a·b`.
    fn add_product<const FMA: bool>(a: &[f32], b: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (a, b))| *to = fma::<FMA>(*a, *b, *to));
    }
}

/// Gives `each` rows of `data` (N, C), shared out among threads.
fn rows(pool: &Pool, dims: NormDims, data: &mut [f32], each: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let NormDims { n, c } = dims;
    assert_eq!(data.len(), n * c);
    let out = Ptr(data.as_mut_ptr());
    pool.split(n, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; data has n rows of c, checked above.
            each(row, unsafe { out.slice(row * c, c) });
        }
    });
}

/// scale (N) from x (N, C).
pub(super) fn scale(
    pool: &Pool,
    dims: NormDims,
    (eps, centred): (f32, bool),
    x: &[f32],
    scale: &mut [f32],
) {
    rows(pool, NormDims { c: 1, ..dims }, scale, &|row, scale| {
        let x = &x[row * dims.c..][..dims.c];
        scale[0] = size(x, mean(x, centred), eps);
    });
}

/// `dx = d_scale·(x - mean) / (C·scale)`.
pub(super) fn d_scale(
    pool: &Pool,
    dims: NormDims,
    centred: bool,
    (x, scale, d): (&[f32], &[f32], &[f32]),
    dx: &mut Grad<'_>,
) {
    let (c, more) = (dims.c, dx.accumulate);
    rows(pool, dims, dx.data, &|row, dx| {
        let x = &x[row * c..][..c];
        shifted(x, mean(x, centred), d[row] / (c as f32 * scale[row]), dx, more);
    });
}

/// `y = (x - mean) / scale`, or `+=`. Its gradient `dx = (dy - mean of dy) / scale` is the same of dy.
pub(super) fn normalise(
    pool: &Pool,
    dims: NormDims,
    centred: bool,
    (x, scale): (&[f32], &[f32]),
    y: &mut Grad<'_>,
) {
    let more = y.accumulate;
    rows(pool, dims, y.data, &|row, y| {
        let x = &x[row * dims.c..][..dims.c];
        shifted(x, mean(x, centred), 1.0 / scale[row], y, more);
    });
}

/// `d_scale = -Σ dy·(x - mean) / scale²`.
pub(super) fn d_scale_of_normalise(
    pool: &Pool,
    dims: NormDims,
    centred: bool,
    (x, scale, dy): (&[f32], &[f32], &[f32]),
    d: &mut Grad<'_>,
) {
    let (c, more) = (dims.c, d.accumulate);
    rows(pool, NormDims { c: 1, ..dims }, d.data, &|row, d| {
        let (x, dy, scale) = (&x[row * c..][..c], &dy[row * c..][..c], scale[row]);
        let value = -along(x, dy, mean(x, centred)) / scale / scale;
        d[0] = if more { d[0] + value } else { value };
    });
}

/// `y = x·weight + bias`; an empty bias is none.
pub(super) fn affine(
    pool: &Pool,
    dims: NormDims,
    x: &[f32],
    (weight, bias): (&[f32], &[f32]),
    y: &mut [f32],
) {
    let c = dims.c;
    rows(pool, dims, y, &|row, y| weighted(&x[row * c..][..c], weight, bias, y));
}

/// `dx = dy·weight`, or `+=`.
pub(super) fn d_affine(
    pool: &Pool,
    dims: NormDims,
    (dy, weight): (&[f32], &[f32]),
    dx: &mut Grad<'_>,
) {
    let (c, more) = (dims.c, dx.accumulate);
    rows(pool, dims, dx.data, &|row, dx| {
        let dy = &dy[row * c..][..c];
        if more { add_product(dy, weight, dx) } else { weighted(dy, weight, &[], dx) }
    });
}

/// Rows whose products are summed by one thread.
const BLOCK: usize = 64;

/// Elements of the blocks' sums.
pub(super) fn sums(dims: NormDims) -> usize {
    dims.n.div_ceil(BLOCK) * dims.c
}

/// `d_weight = Σ rows of dy·x`, or `+=`.
pub(super) fn d_weight(
    pool: &Pool,
    dims: NormDims,
    (x, dy): (&[f32], &[f32]),
    d: &mut Grad<'_>,
    scratch: &mut [f32],
) {
    let NormDims { n, c } = dims;
    let partial = &mut scratch[..sums(dims)];
    rows(pool, NormDims { n: n.div_ceil(BLOCK), c }, partial, &|block, sums| {
        sums.fill(0.0);
        let some = block * BLOCK * c..((block + 1) * BLOCK).min(n) * c;
        let some = x[some.clone()].chunks_exact(c).zip(dy[some].chunks_exact(c));
        some.for_each(|(x, dy)| add_product(x, dy, sums));
    });
    add_blocks(pool, partial, d.data, d.accumulate);
}

/// `d_bias = Σ rows of dy`, or `+=`.
pub(super) fn d_bias(
    pool: &Pool,
    dims: NormDims,
    dy: &[f32],
    d: &mut Grad<'_>,
    scratch: &mut [f32],
) {
    let columns = Dims { n: dims.n, o: dims.c, activation: None };
    let partial = &mut scratch[..columns.blocks() * dims.c];
    block_sums(pool, columns, dy, partial);
    add_blocks(pool, partial, d.data, d.accumulate);
}

/// Memory for either sum.
pub(super) fn scratch(dims: NormDims) -> usize {
    let columns = Dims { n: dims.n, o: dims.c, activation: None };
    sums(dims).max(columns.blocks() * dims.c)
}
