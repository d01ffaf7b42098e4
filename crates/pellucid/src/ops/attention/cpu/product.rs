//! Small matrix products on tiles that are already in cache.
//!
//! Every element of the result is one chain of fused multiply-adds in the order of `k`, whatever the block it
//! is computed in; so a row's bits do not depend on its neighbours.
#![allow(unsafe_code)] // raw tiles

use super::simd::{Isa, LANES};

/// Rows of a register block.
pub(super) const ROWS: usize = 6;

/// The left operand: element `(i, k)` is at `i * row + k * col`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub(super) data: *const f32,
    pub(super) row: usize,
    pub(super) col: usize,
}

#[inline(always)]
unsafe fn block<I: Isa, const M: usize, const N: usize>(
    k: usize,
    a: Left,
    b: (*const f32, usize),
    c: (*mut f32, usize),
    add: bool,
) {
    // SAFETY: the caller promised the tiles.
    unsafe {
        let mut sums = [[I::splat(0.0); N]; M];
        if add {
            for (i, row) in sums.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = I::load(c.0.add(i * c.1 + j * LANES));
                }
            }
        }
        for p in 0..k {
            let mut right = [I::splat(0.0); N];
            for (j, r) in right.iter_mut().enumerate() {
                *r = I::load(b.0.add(p * b.1 + j * LANES));
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let left = I::splat(*a.data.add(i * a.row + p * a.col));
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = I::fma(left, right[j], *sum);
                }
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                I::store(c.0.add(i * c.1 + j * LANES), *sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn strip<I: Isa, const M: usize>(
    n: usize,
    k: usize,
    a: Left,
    b: (*const f32, usize),
    c: (*mut f32, usize),
    add: bool,
) {
    let mut j = 0;
    while j < n {
        // SAFETY: the caller promised the tiles.
        unsafe {
            let b = (b.0.add(j * LANES), b.1);
            let c = (c.0.add(j * LANES), c.1);
            let step = match n - j {
                4.. if I::COLS >= 4 => {
                    block::<I, M, 4>(k, a, b, c, add);
                    4
                }
                2.. if I::COLS >= 2 => {
                    block::<I, M, 2>(k, a, b, c, add);
                    2
                }
                _ => {
                    block::<I, M, 1>(k, a, b, c, add);
                    1
                }
            };
            j += step;
        }
    }
}

/// `c (m, 16 n) = a (m, k) · b (k, 16 n)`, added to `c` if `add`. `b` and `c` are `(data, row stride)`.
#[inline(always)]
pub(super) unsafe fn product<I: Isa>(
    (m, n, k): (usize, usize, usize),
    a: Left,
    b: (*const f32, usize),
    c: (*mut f32, usize),
    add: bool,
) {
    let mut i = 0;
    while i < m {
        // SAFETY: the caller promised the tiles.
        unsafe {
            let a = Left { data: a.data.add(i * a.row), ..a };
            let c = (c.0.add(i * c.1), c.1);
            let step = match m - i {
                ROWS.. => {
                    strip::<I, ROWS>(n, k, a, b, c, add);
                    ROWS
                }
                4.. => {
                    strip::<I, 4>(n, k, a, b, c, add);
                    4
                }
                2.. => {
                    strip::<I, 2>(n, k, a, b, c, add);
                    2
                }
                _ => {
                    strip::<I, 1>(n, k, a, b, c, add);
                    1
                }
            };
            i += step;
        }
    }
}
