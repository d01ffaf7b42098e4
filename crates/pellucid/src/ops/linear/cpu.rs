#![allow(unsafe_code)] // tiles, rows and columns of one buffer go to several threads
//! What surrounds the matrix products. Forward: one visit to each finished tile, in cache. Backward: one pass that
//! makes `du` out of `pre` in place and sums columns in blocks of rows, whose sums are then added in the order of
//! the blocks, so that thread count changes no bit.

use crate::backend::cpu::gemm::Tile;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::activation::{Activation, apply_and_keep, apply_in_place, derivative_in_place};
use crate::ops::simd::multiversion;

/// Rows whose columns are summed by one thread.
const BLOCK: usize = 64;
/// Columns handled at one time: their sums stay in the first-level cache.
const COLUMNS: usize = 512;

/// Elements visited by several passes while they are in the first-level cache.
const PIECE: usize = 4096;

/// Sizes and what follows the product.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Dims {
    /// Rows.
    pub(in crate::ops) n: usize,
    /// Columns of `y`.
    pub(in crate::ops) o: usize,
    /// What follows the sum.
    pub(in crate::ops) activation: Option<Activation>,
}

impl Dims {
    /// Blocks of rows.
    pub(in crate::ops) fn blocks(&self) -> usize {
        self.n.div_ceil(BLOCK)
    }
}

multiversion! {
    fn add<const FMA: bool>(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// What is done to a finished tile of `x·wᵀ`.
pub(super) struct Finish<'a> {
    dims: Dims,
    bias: Option<&'a [f32]>,
    pre: Option<Ptr<f32>>,
    residual: Option<&'a [f32]>,
    /// Keeps the exclusive borrow of `pre`.
    life: std::marker::PhantomData<&'a mut [f32]>,
}

impl<'a> Finish<'a> {
    /// `pre` may be empty: then it is not kept.
    pub(super) fn new(
        dims: Dims,
        bias: Option<&'a [f32]>,
        pre: &'a mut [f32],
        residual: Option<&'a [f32]>,
    ) -> Self {
        let size = dims.n * dims.o;
        assert!(pre.is_empty() || pre.len() >= size, "lengths are checked by the tape");
        let pre = (!pre.is_empty()).then_some(Ptr(pre.as_mut_ptr()));
        Self { dims, bias, pre, residual, life: std::marker::PhantomData }
    }

    /// Bias, `pre`, activation, residual.
    pub(super) fn tile(&self, mut tile: Tile<'_>) {
        let (rows, cols) = (tile.rows.clone(), tile.cols.clone());
        debug_assert!(rows.end <= self.dims.n && cols.end <= self.dims.o);
        for (i, row) in rows.enumerate() {
            let y = tile.row_mut(i);
            let at = row * self.dims.o + cols.start;
            if let Some(bias) = self.bias {
                add(y, &bias[cols.clone()]);
            }
            if let Some(activation) = self.dims.activation {
                // SAFETY: tiles are disjoint and inside (N, O), as is `pre` (see `new`).
                let pre = self.pre.map(|pre| unsafe { pre.slice(at, cols.len()) });
                match pre {
                    Some(pre) => apply_and_keep(activation, y, pre),
                    None => apply_in_place(activation, y),
                }
            }
            if let Some(residual) = self.residual {
                add(y, &residual[at..at + cols.len()]);
            }
        }
    }
}

/// `y = act(pre) + residual`, to the same bits as [`Finish::tile`].
pub(super) fn recompute(
    pool: &Pool,
    dims: Dims,
    pre: &[f32],
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    let y_at = Ptr(y.as_mut_ptr());
    let piece = |range: std::ops::Range<usize>| {
        // SAFETY: ranges are disjoint and inside `y`.
        let y = unsafe { y_at.slice(range.start, range.len()) };
        // A copy does not read what it overwrites: faster than one pass from `pre` to `y` (measured).
        y.copy_from_slice(&pre[range.clone()]);
        if let Some(activation) = dims.activation {
            apply_in_place(activation, y);
        }
        if let Some(residual) = residual {
            add(y, &residual[range]);
        }
    };
    // Pieces that stay in the first-level cache from the first pass to the last.
    pool.split(y.len(), PIECE, &|range| {
        range.clone().step_by(PIECE).for_each(|at| piece(at..(at + PIECE).min(range.end)));
    });
}

/// `partial (blocks, O)`: sums of the columns of `dy (N, O)` over each block of rows.
pub(in crate::ops) fn block_sums(pool: &Pool, dims: Dims, dy: &[f32], partial: &mut [f32]) {
    let Dims { n, o, .. } = dims;
    assert!(partial.len() >= dims.blocks() * o, "lengths are checked by the tape");
    let partial = Ptr(partial.as_mut_ptr());
    pool.split(dims.blocks(), 1, &|blocks| {
        for block in blocks {
            // SAFETY: this block's sums are this thread's; inside `partial` by the assertion.
            let sums = unsafe { partial.slice(block * o, o) };
            sums.fill(0.0);
            for row in block * BLOCK..((block + 1) * BLOCK).min(n) {
                add(sums, &dy[row * o..][..o]);
            }
        }
    });
}

/// `du = dy·act'(pre)` in the place of `pre (N, O)`, and its [`block_sums`] unless `partial` is empty.
pub(super) fn inner_gradient(
    pool: &Pool,
    dims: Dims,
    activation: Activation,
    dy: &[f32],
    pre: &mut [f32],
    partial: &mut [f32],
) {
    let Dims { n, o, .. } = dims;
    let want_sums = !partial.is_empty();
    assert!(pre.len() >= n * o && (!want_sums || partial.len() >= dims.blocks() * o));
    let (pre, partial) = (Ptr(pre.as_mut_ptr()), Ptr(partial.as_mut_ptr()));
    let block = |block: usize, start: usize| {
        let mut sums = [0.0; COLUMNS];
        let len = COLUMNS.min(o - start);
        let sums = &mut sums[..len];
        for row in block * BLOCK..((block + 1) * BLOCK).min(n) {
            let at = row * o + start;
            // SAFETY: this block's rows are this thread's; inside `pre` by the assertion.
            let du = unsafe { pre.slice(at, len) };
            derivative_in_place(activation, du, &dy[at..at + len]);
            if want_sums {
                add(sums, du);
            }
        }
        if want_sums {
            // SAFETY: this block's sums are this thread's; inside `partial` by the assertion.
            unsafe { partial.slice(block * o + start, len) }.copy_from_slice(sums);
        }
    };
    pool.split(dims.blocks(), 1, &|blocks| {
        for b in blocks {
            (0..o).step_by(COLUMNS).for_each(|start| block(b, start));
        }
    });
}

/// `sums (O) = Σ partial (blocks, O)` in the order of the blocks, or `+=`.
pub(in crate::ops) fn add_blocks(pool: &Pool, partial: &[f32], sums: &mut [f32], accumulate: bool) {
    let o = sums.len();
    let sums = Ptr(sums.as_mut_ptr());
    pool.split(o, COLUMNS, &|columns| {
        // SAFETY: these columns are this range's only, inside `sums`.
        let sums = unsafe { sums.slice(columns.start, columns.len()) };
        if !accumulate {
            sums.fill(0.0);
        }
        for block in partial.chunks_exact(o) {
            add(sums, &block[columns.clone()]);
        }
    });
}
