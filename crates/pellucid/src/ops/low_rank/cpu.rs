//! Thin matrix products on columns of wider rows.

use crate::autograd::Grad;
use crate::backend::cpu::gemm::{GemmDims, Mat, Precision, Tile, gemm};
use crate::backend::cpu::pool::Pool;

/// Sizes.
#[derive(Clone, Copy)]
pub(super) struct Dims {
    pub(super) n: usize,
    pub(super) i: usize,
    pub(super) o: usize,
    /// The first of the P columns of `y` that are added to.
    pub(super) first: usize,
    pub(super) p: usize,
    pub(super) r: usize,
    pub(super) scale: f32,
    pub(super) precision: Precision,
}

/// `h = s·x·aᵀ`, `y[:, first..] += h·bᵀ`.
pub(super) fn forward(
    pool: &Pool,
    dims: Dims,
    x: &[f32],
    (a, b): (&[f32], &[f32]),
    h: &mut [f32],
    y: &mut [f32],
) {
    let Dims { n, i, o, first, p, r, scale, precision } = dims;
    let scaled = |tile: Tile<'_>| times(tile, scale);
    let size = GemmDims { m: n, n: r, k: i };
    gemm(pool, precision, size, Mat::rows(x, i), Mat::rows(a, i).t(), h, r, false, Some(&scaled));
    let size = GemmDims { m: n, n: p, k: r };
    let b = Mat::rows(b, r).t();
    gemm(pool, precision, size, Mat::rows(h, r), b, &mut y[first..], o, true, None);
}

fn times(mut tile: Tile<'_>, scale: f32) {
    for row in 0..tile.rows.len() {
        tile.row_mut(row).iter_mut().for_each(|x| *x *= scale);
    }
}

/// Where gradients go.
pub(super) struct Gradients<'a> {
    pub(super) dx: Option<Grad<'a>>,
    pub(super) da: Option<Grad<'a>>,
    pub(super) db: Option<Grad<'a>>,
    /// Working memory, (N, R).
    pub(super) dh: &'a mut [f32],
}

/// Gradients of `x`, `a` and `b` from `dy (N, O)`.
pub(super) fn backward(
    pool: &Pool,
    dims: Dims,
    (x, h): (&[f32], &[f32]),
    (a, b): (&[f32], &[f32]),
    dy: &[f32],
    to: Gradients<'_>,
) {
    let Dims { n, i, o, first, p, r, scale, precision } = dims;
    let dy = Mat::rows(&dy[first..], o);
    if let Some(db) = to.db {
        let size = GemmDims { m: p, n: r, k: n };
        gemm(pool, precision, size, dy.t(), Mat::rows(h, r), db.data, r, db.accumulate, None);
    }
    if to.da.is_none() && to.dx.is_none() {
        return;
    }
    let dh = to.dh;
    let scaled = |tile: Tile<'_>| times(tile, scale);
    let size = GemmDims { m: n, n: r, k: p };
    gemm(pool, precision, size, dy, Mat::rows(b, r), dh, r, false, Some(&scaled));
    if let Some(da) = to.da {
        let size = GemmDims { m: r, n: i, k: n };
        let dh = Mat::rows(dh, r).t();
        gemm(pool, precision, size, dh, Mat::rows(x, i), da.data, i, da.accumulate, None);
    }
    if let Some(dx) = to.dx {
        let size = GemmDims { m: n, n: i, k: r };
        let dh = Mat::rows(dh, r);
        gemm(pool, precision, size, dh, Mat::rows(a, i), dx.data, i, dx.accumulate, None);
    }
}
