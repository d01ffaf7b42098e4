//! Machines without tiles: the `gemm` crate's vector kernels, or plain loops, on static parts.

use std::ops::Range;

use super::few::to_bf16;
use super::scratch::Purpose;
use super::{Call, GemmDims, Mat, Precision, Tile};
use crate::backend::cpu::features::Isa;
use crate::backend::cpu::pool::{Pool, Ptr};

/// Most rows and columns of C computed before `finish`.
const BLOCK: (usize, usize) = (256, 4096);
/// Parts start at multiples of this, about one micro-kernel.
const GRAIN: usize = 16;

/// `c = a·b`.
pub(super) fn product(call: &Call<'_>, pool: Option<&Pool>, c: Ptr<f32>, isa: Isa) {
    let GemmDims { m, n, k } = call.dims;
    if call.precision == Precision::F32 {
        return parts(call, call.a, call.b, pool, c, isa);
    }
    Purpose::Rows.lend((m * k + k * n) * size_of::<f32>(), |buffer| {
        let copy = Ptr(buffer.cast::<f32>());
        let b_copy = Ptr(copy.0.wrapping_add(m * k));
        // SAFETY: the buffer holds both copies, one after another.
        let a = unsafe { rounded(call.a, (m, k), copy, pool) };
        // SAFETY: as above.
        let b = unsafe { rounded(call.b, (k, n), b_copy, pool) };
        parts(call, a, b, pool, c, isa);
    });
}

/// A copy of `x (rows, cols)` without gaps, rounded to bf16, in the same order.
///
/// # Safety
/// `out` has room for it and is nobody else's as long as the copy lives.
unsafe fn rounded<'a>(
    x: Mat<'_>,
    (rows, cols): (usize, usize),
    out: Ptr<f32>,
    pool: Option<&Pool>,
) -> Mat<'a> {
    let (lines, len, pitch) =
        if x.col_stride == 1 { (rows, cols, x.row_stride) } else { (cols, rows, x.col_stride) };
    let work = |range: Range<usize>| {
        for i in range {
            // SAFETY: line `i` is inside `out`; lines of different ranges are disjoint.
            let to = unsafe { out.slice(i * len, len) };
            to.iter_mut().zip(&x.data[i * pitch..]).for_each(|(to, &x)| *to = to_bf16(x));
        }
    };
    match pool {
        Some(pool) => pool.split(lines, 1, &work),
        None => work(0..lines),
    }
    // SAFETY: written whole just now, and nobody writes it any more.
    let copy = Mat::rows(unsafe { out.slice(0, lines * len) }, len);
    if x.col_stride == 1 { copy } else { copy.t() }
}

fn parts(call: &Call<'_>, a: Mat<'_>, b: Mat<'_>, pool: Option<&Pool>, c: Ptr<f32>, isa: Isa) {
    let GemmDims { m, n, .. } = call.dims;
    let blocks = |rows: Range<usize>, cols: Range<usize>| {
        for i in rows.clone().step_by(BLOCK.0) {
            for j in cols.clone().step_by(BLOCK.1) {
                let rows = i..(i + BLOCK.0).min(rows.end);
                let cols = j..(j + BLOCK.1).min(cols.end);
                // SAFETY: workers have disjoint parts of c.
                let mut tile = unsafe { Tile::new(c, call.c_stride, rows, cols) };
                if isa == Isa::Portable {
                    loops(call, a, b, &mut tile);
                } else {
                    vectors(call, a, b, &mut tile);
                }
                if let Some(finish) = call.finish {
                    finish(tile);
                }
            }
        }
    };
    match pool {
        None => blocks(0..m, 0..n),
        Some(pool) if m >= n => pool.split(m, GRAIN, &|rows| blocks(rows, 0..n)),
        Some(pool) => pool.split(n, GRAIN, &|cols| blocks(0..m, cols)),
    }
}

/// Whatever vectors the `gemm` crate finds on this machine.
fn vectors(call: &Call<'_>, a: Mat<'_>, b: Mat<'_>, tile: &mut Tile<'_>) {
    let (rows, cols) = (tile.rows.clone(), tile.cols.clone());
    let stride = |stride: usize| stride as isize; // below the length of a slice
    // SAFETY: `Call::run` checked that all elements are inside; the tile is ours.
    unsafe {
        gemm::gemm(
            rows.len(),
            cols.len(),
            call.dims.k,
            tile.start,
            1,
            stride(tile.stride),
            call.accumulate,
            a.data.as_ptr().add(rows.start * a.row_stride),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr().add(cols.start * b.col_stride),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Plain Rust: rows of b added to rows of c, or dot products where k is contiguous.
fn loops(call: &Call<'_>, a: Mat<'_>, b: Mat<'_>, tile: &mut Tile<'_>) {
    let (first, cols, k) = (tile.rows.start, tile.cols.clone(), call.dims.k);
    for i in 0..tile.rows.len() {
        let row = tile.row_mut(i);
        if !call.accumulate {
            row.fill(0.0);
        }
        if b.col_stride == 1 {
            for l in 0..k {
                let x = a.element(first + i, l);
                let b_row = &b.data[l * b.row_stride + cols.start..][..cols.len()];
                row.iter_mut().zip(b_row).for_each(|(c, &b)| *c += x * b);
            }
        } else {
            for (c, j) in row.iter_mut().zip(cols.clone()) {
                let column = &b.data[j * b.col_stride..][..k];
                let mut sums = [0.0_f32; 8];
                if a.col_stride == 1 {
                    let x = &a.data[(first + i) * a.row_stride..][..k];
                    for (x, w) in x.chunks(8).zip(column.chunks(8)) {
                        sums.iter_mut().zip(x).zip(w).for_each(|((sum, x), w)| *sum += x * w);
                    }
                } else {
                    for (l, &w) in column.iter().enumerate() {
                        sums[l % 8] += a.element(first + i, l) * w;
                    }
                }
                *c += sums.iter().sum::<f32>();
            }
        }
    }
}
