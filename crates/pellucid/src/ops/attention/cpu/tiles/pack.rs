//! Rows of f32 to panels of bf16 tiles.
#![allow(unsafe_code)] // raw rows and tiles

use super::kernel::{PANEL, TILE, step};
use super::lanes::{ones, pair, split, turn};
use std::arch::x86_64::*;

/// Rows in somebody's memory, times `scale`; what lies outside counts as 0.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) data: *const f32,
    /// Floats between rows.
    pub(super) pitch: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) scale: f32,
}

impl Source {
    /// From row `i`, column `j` on.
    fn beyond(self, i: usize, j: usize) -> Self {
        let data = self.data.wrapping_add(i * self.pitch + j);
        let (rows, cols) = (self.rows.saturating_sub(i), self.cols.saturating_sub(j));
        Self { data, rows, cols, ..self }
    }
}

/// Panels of 32 rows of the source, steps along its columns: a left operand as it stands, a right one turned.
///
/// # Safety
/// The source is readable; the panel at `out`, aligned to 64 bytes, has room for its steps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn along<const TERMS: usize, const TURN: bool>(source: Source, out: *mut u8) {
    for half in 0..2 {
        for k in 0..source.cols.div_ceil(PANEL) {
            let out = out.wrapping_add(k * step(TERMS) + half * TILE);
            // SAFETY: the caller's promise.
            unsafe { tile::<TERMS, false, TURN>(source.beyond(half * 16, k * PANEL), out) };
        }
    }
}

/// One step of 32 rows of the source for all panels of its columns, `panel` bytes apart: a right operand as it
/// stands, a left one turned.
///
/// # Safety
/// The source is readable; `out`, aligned to 64 bytes, has room for this step in every panel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn down<const TERMS: usize, const TURN: bool>(
    source: Source,
    out: *mut u8,
    panel: usize,
) {
    for j in 0..source.cols.div_ceil(PANEL) {
        for half in 0..2 {
            let out = out.wrapping_add(j * panel + half * TILE);
            let source = source.beyond(0, j * PANEL + half * 16);
            // SAFETY: the caller's promise.
            unsafe { tile::<TERMS, true, TURN>(source, out) };
        }
    }
}

/// One tile per term: 16 rows x 32 columns in pairs of columns, or 32 rows x 16 columns in pairs of rows
/// (`DOWN`).
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn tile<const TERMS: usize, const DOWN: bool, const TURN: bool>(
    source: Source,
    out: *mut u8,
) {
    let scale = _mm512_set1_ps(source.scale);
    let masks = [
        ones(source.cols),
        if DOWN { ones(source.cols) } else { ones(source.cols.saturating_sub(16)) },
    ];
    let load = |q: usize, second: usize| {
        let (row, col) = if DOWN { (2 * q + second, 0) } else { (q, 16 * second) };
        let mask = if row < source.rows { masks[second] } else { 0 };
        let from = source.data.wrapping_add(row * source.pitch + col);
        // The rows of the next panel are far away: a hint.
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(PANEL * source.pitch).cast());
        // SAFETY: masked lanes are not accessed, the others are in the source.
        _mm512_mul_ps(unsafe { _mm512_maskz_loadu_ps(mask, from) }, scale)
    };
    let mut words = [[_mm512_setzero_si512(); 16]; TERMS];
    for q in 0..16 {
        let (a, b) = (split::<TERMS, false>(load(q, 0)), split::<TERMS, false>(load(q, 1)));
        for term in 0..TERMS {
            let both = pair::<TERMS, DOWN>(a[term], b[term]);
            if TURN {
                words[term][q] = both;
            } else {
                // SAFETY: the caller's promise.
                unsafe { _mm512_store_si512(out.add(term * 2 * TILE + q * 64).cast(), both) };
            }
        }
    }
    if TURN {
        for (term, words) in words.iter().enumerate() {
            let to = out.wrapping_add(term * 2 * TILE);
            for (q, words) in turn(words).into_iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { _mm512_store_si512(to.add(q * 64).cast(), words) };
            }
        }
    }
}
