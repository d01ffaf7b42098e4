//! Backward: what a worker needs, and what is to do in a tile.

use super::Take;
use super::kernel::{BLOCK, PANEL, step};
use crate::ops::attention::AttentionDims;
use arrayvec::ArrayVec;

/// Panels of rows, or of keys, in a tile.
pub(super) const SIDE: usize = 4;

/// Panels of keys whose gradients are summed while all rows pass by: they stay in L2.
pub(super) const fn span(terms: usize) -> usize {
    if terms == 1 { 16 } else { 8 }
}

/// One worker's memory. Panels of operands are as `kernel` wants them.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    /// Queries times scale and log2(e), and gradients of the output: turned, a panel for each 32 rows; and as
    /// they stand, a panel for each 32 of D and a step for each 32 rows.
    pub(super) q: *mut u8,
    pub(super) q_down: *mut u8,
    pub(super) d_out: *mut u8,
    pub(super) d_out_down: *mut u8,
    /// Gradients of the queries but for scale `(panel, D / 32, 32 of D, 32 rows)`.
    pub(super) dq: *mut f32,
    /// Keys and values, a panel for each 32 keys; keys turned, a panel for each 32 of D.
    pub(super) k: *mut u8,
    pub(super) v: *mut u8,
    pub(super) k_down: *mut u8,
    /// Their gradients `(panel, D / 32, 32 keys, 32 of D)`.
    pub(super) dk: *mut f32,
    pub(super) dv: *mut f32,
    /// Scores and dP of a block.
    pub(super) scores: *mut f32,
    /// P and dS as left operands, `(panel of keys, panel of rows)` of a tile; dS as a right operand, `(panel of
    /// rows, panel of keys)`.
    pub(super) p: *mut u8,
    pub(super) ds: *mut u8,
    pub(super) ds_right: *mut u8,
    /// Dropout factors of a block.
    pub(super) kept: *mut f32,
    pub(super) gather: *mut f32,
}

impl Memory {
    pub(super) fn plan(dims: &AttentionDims, terms: usize, take: &mut Take) -> Self {
        let width = dims.d.div_ceil(PANEL);
        let (rows, keys) = ((dims.h / dims.kv * dims.t).div_ceil(PANEL), span(terms));
        let step = step(terms);
        Self {
            q: take.bytes(rows * width * step),
            q_down: take.bytes(rows * width * step),
            d_out: take.bytes(rows * width * step),
            d_out_down: take.bytes(rows * width * step),
            dq: take.floats(rows * width * BLOCK),
            k: take.bytes(keys * width * step),
            v: take.bytes(keys * width * step),
            k_down: take.bytes(keys * width * step),
            dk: take.floats(keys * width * BLOCK),
            dv: take.floats(keys * width * BLOCK),
            scores: take.floats(2 * BLOCK),
            p: take.bytes(SIDE * SIDE * step),
            ds: take.bytes(SIDE * SIDE * step),
            ds_right: take.bytes(SIDE * SIDE * step),
            kept: take.floats(BLOCK),
            gather: take.floats(PANEL * dims.d),
        }
    }
}

/// A tile: panels of rows from `rows` on, panels of keys from `keys` on (in the span).
#[derive(Clone, Default)]
pub(super) struct Visit {
    pub(super) rows: usize,
    pub(super) keys: usize,
    /// `(row panel, key panel)` of blocks that somebody looks at, counted in the tile.
    pub(super) blocks: ArrayVec<(usize, usize), { SIDE * SIDE }>,
    /// Panels of rows for each panel of keys, and the other way round: first and end.
    pub(super) of_keys: [(usize, usize); SIDE],
    pub(super) of_rows: [(usize, usize); SIDE],
}

impl Visit {
    pub(super) fn see(&mut self, row: usize, key: usize) {
        self.blocks.push((row, key));
        for (range, i) in [(&mut self.of_keys[key], row), (&mut self.of_rows[row], key)] {
            let first = if range.1 == 0 { i } else { range.0.min(i) };
            *range = (first, range.1.max(i + 1));
        }
    }

    /// Blocks that nobody looks at, but that products run over.
    pub(super) fn holes(&self) -> impl Iterator<Item = (usize, usize)> {
        let inside = |(first, end): (usize, usize), i| first <= i && i < end;
        (0..SIDE * SIDE).map(|i| (i / SIDE, i % SIDE)).filter(move |&(row, key)| {
            (inside(self.of_keys[key], row) || inside(self.of_rows[row], key))
                && !self.blocks.contains(&(row, key))
        })
    }
}
