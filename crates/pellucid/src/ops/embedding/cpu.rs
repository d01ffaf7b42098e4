#![allow(unsafe_code)] // rows, and in the backward pass columns, of one buffer go to several threads
//! Forward: rows are split over threads. Backward: *columns* are, so every element receives its terms in the order
//! of the text whatever the thread count, and no two threads meet. Bound by memory.

use crate::backend::cpu::pool::{Pool, Ptr};

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dims {
    /// Batch.
    pub(super) b: usize,
    /// Positions.
    pub(super) t: usize,
    /// Width.
    pub(super) c: usize,
}

/// What is added.
#[derive(Clone, Copy)]
pub(super) enum Pos<'a> {
    /// Nothing.
    None,
    /// Row `p` of a table `(P, C)`.
    Table(&'a [f32]),
    /// Sines and cosines; the first rows are given.
    Sinusoidal(&'a [f32]),
}

/// `sin, cos, sin, …` of position `p`, in f64, rounded once.
fn sinusoidal(p: usize, row: &mut [f32], each: impl Fn(&mut f32, f32)) {
    let c = row.len() as f64;
    for (i, pair) in row.chunks_mut(2).enumerate() {
        let (sin, cos) = (p as f64 * 10000f64.powf(-((2 * i) as f64) / c)).sin_cos();
        each(&mut pair[0], sin as f32);
        if let Some(second) = pair.get_mut(1) {
            each(second, cos as f32);
        }
    }
}

/// Rows of positions `0..t`.
pub(super) fn sinusoidal_rows(t: usize, c: usize) -> Vec<f32> {
    let mut rows = vec![0.0; t * c];
    for (p, row) in rows.chunks_exact_mut(c.max(1)).enumerate() {
        sinusoidal(p, row, |to, value| *to = value);
    }
    rows
}

/// `y (B, T, C)`; `token` writes the scaled vector of an id. Ids and positions must have been checked.
pub(super) fn forward(
    pool: &Pool,
    dims: Dims,
    ids: &[i32],
    past: &[i32],
    token: &(dyn Fn(usize, &mut [f32]) + Sync),
    positions: Pos<'_>,
    y: &mut [f32],
) {
    let Dims { b, t, c } = dims;
    debug_assert!(y.len() >= b * t * c && ids.len() >= b * t);
    let y = Ptr(y.as_mut_ptr());
    pool.split(b * t, (8192 / c.max(1)).max(1), &|range| {
        for i in range {
            // SAFETY: row `i` belongs to this range only, and `y` has `b * t` rows.
            let y = unsafe { y.slice(i * c, c) };
            token(ids[i] as usize, y);
            let p = past[i / t] as usize + i % t;
            match positions {
                Pos::None => {}
                Pos::Table(table) => add(y, &table[p * c..][..c]),
                Pos::Sinusoidal(first) => match first.get(p * c..(p + 1) * c) {
                    Some(row) => add(y, row),
                    None => sinusoidal(p, y, |to, value| *to += value),
                },
            }
        }
    });
}

fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// `dw[row(i)] += scale · dy[i]` for every row `i` of `dy (B, T, C)`; all of `dw` is zeroed first unless
/// `accumulate`. Rows must have been checked.
pub(super) fn scatter(
    pool: &Pool,
    dims: Dims,
    row: &(dyn Fn(usize) -> usize + Sync),
    scale: f32,
    dy: &[f32],
    dw: &mut [f32],
    accumulate: bool,
) {
    let Dims { b, t, c } = dims;
    let len = dw.len();
    let dw = Ptr(dw.as_mut_ptr());
    if !accumulate {
        pool.split(len, 4096, &|range| {
            // SAFETY: ranges are disjoint and inside `dw`.
            unsafe { dw.slice(range.start, range.len()) }.fill(0.0);
        });
    }
    // 64 columns are four cache lines, so threads do not share any.
    pool.split(c, 64, &|columns| {
        for i in 0..b * t {
            let to = row(i) * c + columns.start;
            assert!(to + columns.len() <= len, "checked by the operation");
            // SAFETY: these columns belong to this range only; in bounds by the line above.
            let dw = unsafe { dw.slice(to, columns.len()) };
            for (w, d) in dw.iter_mut().zip(&dy[i * c + columns.start..]) {
                *w += scale * d;
            }
        }
    });
}
