//! Products with fused multiply-adds on vectors.
//!
//! Every element of a result is one chain of multiply-adds in the order of `k`, whatever the block it is computed
//! in; so a row's bits do not depend on its neighbours.
#![allow(unsafe_code)] // raw tiles

use super::KEYS;
use super::engine::Engine;
use super::simd::{Isa, LANES};

/// Rows of a register block.
const ROWS: usize = 6;

/// Vectors of the instruction set `I`.
pub(super) struct Vectors<I>(std::marker::PhantomData<I>);

/// Element `(i, k)` is at `i * row + k * col`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    data: *const f32,
    row: usize,
    col: usize,
}

impl<I: Isa> Engine for Vectors<I> {
    type I = I;
    const STRIP: usize = ROWS;
    const GRAIN: usize = LANES;
    type Left = Left;
    type Right = (*const f32, usize);

    fn left_floats(_: usize, _: usize) -> usize {
        0
    }
    fn right_floats(k: usize, n: usize, turned: bool, copy: bool) -> usize {
        let width = if turned { KEYS } else { n.next_multiple_of(LANES) };
        if turned || copy || width != n { k * width } else { 0 }
    }
    #[inline(always)]
    unsafe fn new() -> Self {
        Self(std::marker::PhantomData)
    }
    #[inline(always)]
    unsafe fn left(
        &mut self,
        src: (*const f32, usize),
        _: (usize, usize),
        turned: bool,
        _: *mut f32,
    ) -> Left {
        let (row, col) = if turned { (1, src.1) } else { (src.1, 1) };
        Left { data: src.0, row, col }
    }
    #[inline(always)]
    unsafe fn right(
        &mut self,
        src: (*const f32, usize),
        (k, n): (usize, usize),
        turned: bool,
        copy: bool,
        buffer: *mut f32,
    ) -> (*const f32, usize) {
        let width = n.next_multiple_of(LANES);
        // SAFETY: the caller's promise.
        unsafe {
            if turned {
                turn::<I>(src, buffer, n, k);
                (buffer.cast_const(), KEYS)
            } else if copy || width != n {
                pack_rows(src, (buffer, width), k, n, 1.0);
                (buffer.cast_const(), width)
            } else {
                src
            }
        }
    }
    #[inline(always)]
    unsafe fn below(left: Left, i: usize) -> Left {
        // SAFETY: the caller's promise.
        Left { data: unsafe { left.data.add(i * left.row) }, ..left }
    }
    #[inline(always)]
    unsafe fn beyond((data, row): (*const f32, usize), k: usize, j: usize) -> (*const f32, usize) {
        // SAFETY: the caller's promise.
        (unsafe { data.add(k * row + j) }, row)
    }
    #[inline(always)]
    unsafe fn product(
        &mut self,
        (m, n, k): (usize, usize, usize),
        left: Left,
        right: (*const f32, usize),
        c: (*mut f32, usize),
        add: bool,
    ) {
        let n = n.div_ceil(LANES);
        let mut i = 0;
        while i < m {
            // SAFETY: the caller promised the tiles.
            unsafe {
                let a = Self::below(left, i);
                let c = (c.0.add(i * c.1), c.1);
                let step = match m - i {
                    ROWS.. => {
                        strip::<I, ROWS>(n, k, a, right, c, add);
                        ROWS
                    }
                    4.. => {
                        strip::<I, 4>(n, k, a, right, c, add);
                        4
                    }
                    2.. => {
                        strip::<I, 2>(n, k, a, right, c, add);
                        2
                    }
                    _ => {
                        strip::<I, 1>(n, k, a, right, c, add);
                        1
                    }
                };
                i += step;
            }
        }
    }
    #[inline(always)]
    unsafe fn flush(&mut self) {}
}

/// A block of M rows x N vectors of the result, all of it in registers.
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

/// Copies `rows` rows of `d` floats, times `scale`, to rows of `width` floats, filled up with zeros.
#[inline(always)]
pub(super) unsafe fn pack_rows(
    (src, src_row): (*const f32, usize),
    (dst, width): (*mut f32, usize),
    rows: usize,
    d: usize,
    scale: f32,
) {
    for i in 0..rows {
        // SAFETY: the caller promised both blocks; they do not overlap.
        let (from, to) = unsafe {
            (
                std::slice::from_raw_parts(src.add(i * src_row), d),
                std::slice::from_raw_parts_mut(dst.add(i * width), width),
            )
        };
        to[..d].iter_mut().zip(from).for_each(|(to, from)| *to = from * scale);
        to[d..].fill(0.0);
    }
}

/// Turns `keys` (at most 128) rows of `d` floats into `d` rows of 128, filled up with zeros to a multiple of 16.
#[inline(always)]
unsafe fn turn<I: Isa>((src, row): (*const f32, usize), dst: *mut f32, keys: usize, d: usize) {
    let (whole_keys, whole_d) = (keys / LANES * LANES, d / LANES * LANES);
    // SAFETY: the caller promised `keys` rows to read and `d` rows of 128 to write.
    unsafe {
        for s in (0..whole_keys).step_by(LANES) {
            for i in (0..whole_d).step_by(LANES) {
                I::transpose(src.add(s * row + i), row, dst.add(i * KEYS + s), KEYS);
            }
            for i in whole_d..d {
                for s in s..s + LANES {
                    *dst.add(i * KEYS + s) = *src.add(s * row + i);
                }
            }
        }
        for i in 0..d {
            for s in whole_keys..keys {
                *dst.add(i * KEYS + s) = *src.add(s * row + i);
            }
            for s in keys..keys.next_multiple_of(LANES) {
                *dst.add(i * KEYS + s) = 0.0;
            }
        }
    }
}
