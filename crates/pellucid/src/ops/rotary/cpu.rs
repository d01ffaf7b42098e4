#![allow(unsafe_code)] // rows of one buffer go to several threads
//! In place, one row of cosines and sines for all heads of a position. Products and sums are not fused, so every
//! instruction set gives the same bits. Bound by memory.

use super::Style;
use crate::backend::cpu::pool::{Pool, Ptr};

/// Sizes and places of the heads in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Batch.
    pub b: usize,
    /// Positions.
    pub t: usize,
    /// Columns of a row.
    pub row: usize,
    /// First column of the first head.
    pub first: usize,
    /// Heads that are turned.
    pub heads: usize,
    /// Width of a head (`D`).
    pub width: usize,
}

/// Turns `x (B, T, row)` in place; `back` turns the other way. `table(p)` is `R/2` cosines and `R/2` sines.
#[allow(clippy::too_many_arguments)]
pub(super) fn rotate<'t>(
    pool: &Pool,
    dims: Dims,
    style: Style,
    rotary: usize,
    past: &[i32],
    x: &mut [f32],
    back: bool,
    table: &(dyn Fn(usize) -> &'t [f32] + Sync),
) {
    let rows = dims.b * dims.t;
    if rotary == 0 || dims.heads == 0 || rows == 0 {
        return;
    }
    debug_assert!(past.len() >= dims.b && x.len() >= rows * dims.row);
    let grain = (8192 / (dims.heads * dims.width)).max(1); // enough work to wake a thread for
    let x = Ptr(x.as_mut_ptr());
    pool.split(rows, grain, &|range| {
        for i in range {
            let angles = table(past[i / dims.t] as usize + i % dims.t);
            // SAFETY: row `i` belongs to this range only; `x` has `rows` rows (asserted above, checked by the tape).
            let row = unsafe { x.slice(i * dims.row + dims.first, dims.heads * dims.width) };
            for head in row.chunks_exact_mut(dims.width) {
                let (cos, sin) = angles.split_at(rotary / 2);
                match style {
                    Style::Half => half(&mut head[..rotary], cos, sin, back),
                    Style::Interleaved => interleaved(&mut head[..rotary], cos, sin, back),
                }
            }
        }
    });
}

fn half(head: &mut [f32], cos: &[f32], sin: &[f32], back: bool) {
    let (low, high) = head.split_at_mut(cos.len());
    let sign = if back { -1.0f32 } else { 1.0 };
    for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let s = s * sign;
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

fn interleaved(head: &mut [f32], cos: &[f32], sin: &[f32], back: bool) {
    let sign = if back { -1.0f32 } else { 1.0 };
    for ((pair, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
        let s = s * sign;
        (pair[0], pair[1]) = (pair[0] * c - pair[1] * s, pair[1] * c + pair[0] * s);
    }
}
