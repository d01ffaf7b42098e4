//! Norms over rows, each row handled while it is in cache.
//!
//! Forward: one pass over memory (mean, then squares around the mean, then y, all on a cached row).
//! Backward: one pass too; dx is per row, parameter gradients go to one partial sum per block of rows, and
//! partial sums are added in block order. RMSNorm is the same with mean 0 and no term for it.
#![allow(unsafe_code)] // disjoint rows of one output go to different threads

use super::NormDims;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::{LANES, fma, multiversion, sum};

/// Weight (C) and bias (C).
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
}

/// What the forward pass keeps; no mean: RMSNorm.
pub(super) struct Statistics<'a> {
    pub(super) mean: Option<&'a mut [f32]>,
    pub(super) rstd: &'a mut [f32],
}

/// What the backward pass reads; no mean: RMSNorm.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) mean: Option<&'a [f32]>,
    pub(super) rstd: &'a [f32],
}

/// A gradient to be written or added to.
pub(super) struct Target<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) accumulate: bool,
}

/// What the backward pass writes; `None`: nobody needs it.
pub(super) struct Gradients<'a> {
    pub(super) dx: Option<Target<'a>>,
    pub(super) d_weight: Option<Target<'a>>,
    pub(super) d_bias: Option<Target<'a>>,
}

/// Fixed blocks of rows, independent of the number of threads.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub(super) rows: usize,
    pub(super) count: usize,
}

multiversion! {
    /// `(mean, rstd)` of a row; mean 0 unless centered.
    fn statistics<const FMA: bool>(x: &[f32], eps: f32, centered: bool) -> (f32, f32) {
        let c = x.len() as f32;
        let mean = if centered { sum(x, |v| v) / c } else { 0.0 };
        let variance = sum(x, |v| (v - mean) * (v - mean)) / c;
        (mean, 1.0 / (variance + eps).sqrt())
    }
}
multiversion! {
    /// `y = (x - mean)·rstd·weight + bias`.
    fn normalize<const FMA: bool>(x: &[f32], mean: f32, rstd: f32, affine: Affine<'_>, y: &mut [f32]) {
        let items = y.iter_mut().zip(x.iter().zip(affine.weight));
        if let Some(bias) = affine.bias {
            items.zip(bias).for_each(|((y, (x, w)), b)| *y = fma::<FMA>((x - mean) * rstd, *w, *b));
        } else {
            items.for_each(|(y, (x, w))| *y = (x - mean) * rstd * w);
        }
    }
}
multiversion! {
    /// `(Σ dy·weight, Σ dy·weight·(x - mean))`, each in a fixed order.
    fn products<const FMA: bool>(x: &[f32], dy: &[f32], weight: &[f32], mean: f32) -> (f32, f32) {
        let (mut plain, mut along) = ([0.0; LANES], [0.0; LANES]);
        let (xs, x_tail) = x.as_chunks::<LANES>();
        let (dys, dy_tail) = dy.as_chunks::<LANES>();
        let (ws, w_tail) = weight.as_chunks::<LANES>();
        for ((x, dy), w) in xs.iter().zip(dys).zip(ws) {
            for l in 0..LANES {
                let g = dy[l] * w[l];
                plain[l] += g;
                along[l] = fma::<FMA>(g, x[l] - mean, along[l]);
            }
        }
        for (l, ((x, dy), w)) in x_tail.iter().zip(dy_tail).zip(w_tail).enumerate() {
            let g = dy * w;
            plain[l] += g;
            along[l] = fma::<FMA>(g, x - mean, along[l]);
        }
        (sum(&plain, |v| v), sum(&along, |v| v))
    }
}
multiversion! {
    /// `dx = rstd·(dy·weight - plain - (x - mean)·along)`.
    fn pull<const FMA: bool>(
        x: &[f32], dy: &[f32], weight: &[f32], shift: Shift, dx: &mut [f32], accumulate: bool
    ) {
        let Shift { mean, rstd, plain, along } = shift;
        let value = |x: f32, dy: f32, w: f32| {
            rstd * fma::<FMA>(-along, x - mean, dy * w - plain)
        };
        let items = dx.iter_mut().zip(x.iter().zip(dy).zip(weight));
        if accumulate {
            items.for_each(|(dx, ((&x, &dy), &w))| *dx += value(x, dy, w));
        } else {
            items.for_each(|(dx, ((&x, &dy), &w))| *dx = value(x, dy, w));
        }
    }
}
multiversion! {
    /// `d_weight += dy·(x - mean)·rstd`, `d_bias += dy`; d_bias may be empty.
    fn pull_params<const FMA: bool>(
        x: &[f32], dy: &[f32], mean: f32, rstd: f32, d_weight: &mut [f32], d_bias: &mut [f32]
    ) {
        let rows = x.iter().zip(dy);
        if d_bias.is_empty() {
            for (dw, (x, dy)) in d_weight.iter_mut().zip(rows) {
                *dw = fma::<FMA>(*dy, (x - mean) * rstd, *dw);
            }
        } else {
            for ((dw, db), (x, dy)) in d_weight.iter_mut().zip(d_bias).zip(rows) {
                *dw = fma::<FMA>(*dy, (x - mean) * rstd, *dw);
                *db += dy;
            }
        }
    }
}
multiversion! {
    fn add<const FMA: bool>(x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }
}

/// Numbers of one row.
#[derive(Clone, Copy)]
struct Shift {
    mean: f32,
    rstd: f32,
    plain: f32,
    along: f32,
}

/// y (N, C) and the statistics (N) from x (N, C).
pub(super) fn forward(
    pool: &Pool,
    dims: NormDims,
    eps: f32,
    x: &[f32],
    affine: Affine<'_>,
    keep: Statistics<'_>,
    y: &mut [f32],
) {
    let NormDims { n, c } = dims;
    assert!(x.len() == n * c && y.len() == n * c && keep.rstd.len() == n);
    let centered = keep.mean.is_some();
    let means = keep.mean.map(|m| {
        assert_eq!(m.len(), n);
        Ptr(m.as_mut_ptr())
    });
    let (rstds, out) = (Ptr(keep.rstd.as_mut_ptr()), Ptr(y.as_mut_ptr()));
    pool.split(n, 1, &|rows| {
        // SAFETY: ranges of rows are disjoint; mean, rstd and y have n rows, checked above.
        let (rstds, y) = unsafe {
            (rstds.slice(rows.start, rows.len()), out.slice(rows.start * c, rows.len() * c))
        };
        // SAFETY: the same.
        let mut means = means.map(|m| unsafe { m.slice(rows.start, rows.len()) });
        let x = &x[rows.start * c..rows.end * c];
        for (row, (x, y)) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).enumerate() {
            let (mean, rstd) = statistics(x, eps, centered);
            normalize(x, mean, rstd, affine, y);
            rstds[row] = rstd;
            if let Some(means) = &mut means {
                means[row] = mean;
            }
        }
    });
}

/// y (N, C) again, from x and the statistics.
pub(super) fn recompute(
    pool: &Pool,
    dims: NormDims,
    x: &[f32],
    affine: Affine<'_>,
    mean: Option<&[f32]>,
    rstd: &[f32],
    y: &mut [f32],
) {
    let NormDims { n, c } = dims;
    assert!(x.len() == n * c && y.len() == n * c);
    let out = Ptr(y.as_mut_ptr());
    pool.split(n, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; y has n rows of c elements.
            let y = unsafe { out.slice(row * c, c) };
            let mean = mean.map_or(0.0, |mean| mean[row]);
            normalize(&x[row * c..][..c], mean, rstd[row], affine, y);
        }
    });
}

/// All gradients; `scratch` holds, per block, a partial d_weight (C) and, if there is a bias, d_bias (C).
pub(super) fn backward(
    pool: &Pool,
    dims: NormDims,
    blocks: Blocks,
    rows: Rows<'_>,
    gradients: Gradients<'_>,
    scratch: &mut [f32],
) {
    let NormDims { n, c } = dims;
    assert!(rows.x.len() == n * c && rows.dy.len() == n * c && rows.rstd.len() == n);
    let Gradients { dx, d_weight, d_bias } = gradients;
    let with_params = d_weight.is_some() || d_bias.is_some();
    let width = c * (1 + usize::from(d_bias.is_some()));
    assert!(!with_params || scratch.len() >= blocks.count * width);
    let accumulate = dx.as_ref().is_some_and(|dx| dx.accumulate);
    let dx = dx.map(|dx| {
        assert_eq!(dx.data.len(), n * c);
        Ptr(dx.data.as_mut_ptr())
    });
    let partials = Ptr(scratch.as_mut_ptr());
    pool.split(blocks.count, 1, &|range| {
        for block in range {
            let partial = if with_params {
                // SAFETY: each block belongs to one range; scratch has `width` per block, checked above.
                unsafe { partials.slice(block * width, width) }
            } else {
                &mut []
            };
            partial.fill(0.0);
            for row in block * blocks.rows..((block + 1) * blocks.rows).min(n) {
                // SAFETY: each row belongs to one block; dx has n rows of c elements.
                let dx = dx.map(|dx| unsafe { dx.slice(row * c, c) });
                backward_row(c, row, rows, dx, accumulate, partial);
            }
        }
    });
    for (i, target) in [d_weight, d_bias].into_iter().enumerate() {
        if let Some(target) = target {
            combine(pool, c, &scratch[..blocks.count * width], i * c, width, target);
        }
    }
}

/// One row's dx, and its share of the parameter gradients added to `partial` (empty: not needed).
fn backward_row(
    c: usize,
    row: usize,
    rows: Rows<'_>,
    dx: Option<&mut [f32]>,
    accumulate: bool,
    partial: &mut [f32],
) {
    let (x, dy) = (&rows.x[row * c..][..c], &rows.dy[row * c..][..c]);
    let (mean, rstd) = (rows.mean.map_or(0.0, |mean| mean[row]), rows.rstd[row]);
    if let Some(dx) = dx {
        let (plain, along) = products(x, dy, rows.weight, mean);
        let share = 1.0 / c as f32;
        let plain = if rows.mean.is_some() { plain * share } else { 0.0 };
        let shift = Shift { mean, rstd, plain, along: along * rstd * rstd * share };
        pull(x, dy, rows.weight, shift, dx, accumulate);
    }
    if !partial.is_empty() {
        let (d_weight, d_bias) = partial.split_at_mut(c);
        pull_params(x, dy, mean, rstd, d_weight, d_bias);
    }
}

/// `target (C) = Σ over blocks, in order, of partials[block][from..from + C]`.
fn combine(pool: &Pool, c: usize, partials: &[f32], from: usize, width: usize, target: Target<'_>) {
    assert_eq!(target.data.len(), c);
    let (out, accumulate) = (Ptr(target.data.as_mut_ptr()), target.accumulate);
    pool.split(c, 64, &|columns| {
        // SAFETY: ranges of columns are disjoint and within the target's c elements.
        let out = unsafe { out.slice(columns.start, columns.len()) };
        if !accumulate {
            out.fill(0.0);
        }
        for partial in partials.chunks_exact(width) {
            add(&partial[from..][..c][columns.clone()], out);
        }
    });
}
