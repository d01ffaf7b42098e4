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
    Sinusoidal(Waves, &'a [f32]),
}

/// Where sines and cosines stand in a row, and their frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waves {
    /// By turns.
    Interleaved,
    /// All sines first.
    Halved,
    /// All sines first; the last frequency is 1/10000.
    Tensor2tensor,
}

impl Waves {
    /// Sine or cosine number `i` of `half` pairs stands where in a row, and turns how fast.
    fn pair(self, i: usize, c: usize) -> ((usize, usize), f64) {
        let half = c.div_ceil(2);
        let (at, steps) = match self {
            Self::Interleaved => ((2 * i, 2 * i + 1), c as f64 / 2.0),
            Self::Halved => ((i, half + i), c as f64 / 2.0),
            Self::Tensor2tensor => ((i, half + i), (half as f64 - 1.0).max(1.0)),
        };
        (at, 10000f64.powf(-(i as f64) / steps))
    }

    /// Position `p`, in f64, rounded once.
    fn write(self, p: usize, row: &mut [f32], each: impl Fn(&mut f32, f32)) {
        let c = row.len();
        for i in 0..c.div_ceil(2) {
            let ((first, second), frequency) = self.pair(i, c);
            let (sin, cos) = (p as f64 * frequency).sin_cos();
            each(&mut row[first], sin as f32);
            if let Some(second) = row.get_mut(second) {
                each(second, cos as f32);
            }
        }
    }

    /// Rows of positions `0..t`.
    pub(super) fn rows(self, t: usize, c: usize) -> Vec<f32> {
        let mut rows = vec![0.0; t * c];
        for (p, row) in rows.chunks_exact_mut(c.max(1)).enumerate() {
            self.write(p, row, |to, value| *to = value);
        }
        rows
    }
}

/// `y (B, T, C)`; `token` writes the scaled vector of an id; segments are ids and their table. All must have been
/// checked.
#[allow(clippy::too_many_arguments)] // the sum's four terms, sizes, threads and the result
pub(super) fn forward(
    pool: &Pool,
    dims: Dims,
    ids: &[i32],
    (past, offset): (&[i32], usize),
    token: &(dyn Fn(usize, &mut [f32]) + Sync),
    positions: Pos<'_>,
    segments: Option<(&[i32], &[f32])>,
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
            let p = past[i / t] as usize + i % t + offset;
            match positions {
                Pos::None => {}
                Pos::Table(table) => add(y, &table[p * c..][..c]),
                Pos::Sinusoidal(waves, first) => match first.get(p * c..(p + 1) * c) {
                    Some(row) => add(y, row),
                    None => waves.write(p, y, |to, value| *to += value),
                },
            }
            if let Some((ids, table)) = segments {
                add(y, &table[ids[i] as usize * c..][..c]);
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
