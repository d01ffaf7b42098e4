//! Operands to panels of bf16 tiles.
//!
//! Inside a step of 32 values of k, tiles pair k with k + 16: a 32-bit element holds k in its low
//! half and k + 16 in its high half. Both operands use this order, so products meet their partners,
//! and pairing two vectors needs one shift and one blend in every storage order.

use std::arch::x86_64::*;

use super::amx::{K_STEP, PANEL, TILE_BYTES, panel_bytes};

/// One operand: `extent` rows of A or columns of B, each with `k` values.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    pub(crate) data: *const f32,
    /// Rows of A, columns of B.
    pub(crate) extent: usize,
    pub(crate) k: usize,
    /// Values between neighbours in the direction that is not contiguous.
    pub(crate) pitch: usize,
    /// Values of k are contiguous (else rows of A, columns of B are).
    pub(crate) k_contiguous: bool,
    /// B's tiles have k along rows; A's have k along columns.
    pub(crate) k_down: bool,
}

// SAFETY: read only.
unsafe impl Sync for Operand {}
// SAFETY: as above.
unsafe impl Send for Operand {}

impl Operand {
    fn at(&self, outer: usize, k: usize) -> *const f32 {
        let (outer_stride, k_stride) =
            if self.k_contiguous { (self.pitch, 1) } else { (1, self.pitch) };
        self.data.wrapping_add(outer * outer_stride + k * k_stride)
    }
}

/// Packs panels `panels` for `k` into `out`, one panel after another, of which only steps `only`
/// are written; k is padded with zeros to whole steps, rows and columns beyond the extent are zeros.
///
/// # Safety
/// AVX-512 (F, BW) and its bf16 conversions exist; `operand` describes readable memory; `out` has
/// room for the panels and is aligned to 64 bytes.
pub(crate) unsafe fn pack<const TERMS: usize>(
    operand: &Operand,
    panels: std::ops::Range<usize>,
    k: std::ops::Range<usize>,
    only: std::ops::Range<usize>,
    out: *mut u8,
) {
    let steps = k.len().div_ceil(K_STEP);
    let half = |panel: usize, step: usize, half: usize| {
        let outer = panel * PANEL + half * 16;
        let from = k.start + step * K_STEP;
        let rows = operand.extent.saturating_sub(outer).min(16);
        let depth = (k.end - from).min(K_STEP);
        let offset = panel_bytes(TERMS, steps) * (panel - panels.start);
        let out = out.wrapping_add(offset + step * TERMS * 2 * TILE_BYTES + half * TILE_BYTES);
        let start = operand.at(outer, from);
        // SAFETY: `rows` × `depth` values from (outer, from) are inside the operand.
        unsafe {
            if rows == 16 && depth == K_STEP {
                pack_tile::<TERMS, true>(operand, start, rows, depth, out);
            } else {
                pack_tile::<TERMS, false>(operand, start, rows, depth, out);
            }
        }
    };
    // Read memory in its own order.
    if operand.k_contiguous {
        for panel in panels.clone() {
            for h in 0..2 {
                only.clone().for_each(|step| half(panel, step, h));
            }
        }
    } else {
        for step in only {
            for panel in panels.clone() {
                (0..2).for_each(|h| half(panel, step, h));
            }
        }
    }
}

/// One tile per term, the terms two tiles apart.
///
/// # Safety
/// See [`pack`]; `rows` × `depth` values are readable at `from`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_tile<const TERMS: usize, const WHOLE: bool>(
    operand: &Operand,
    from: *const f32,
    rows: usize,
    depth: usize,
    out: *mut u8,
) {
    // Vector (h, q) of 16 values: the h-th half of the step's k.
    let (low, high) = (depth.min(16), depth.saturating_sub(16));
    let (half, count, mask) = if operand.k_contiguous {
        (16, [rows, rows], [ones(low), ones(high)])
    } else {
        (16 * operand.pitch, [low, high], [ones(rows), ones(rows)])
    };
    let ahead = operand.pitch * if operand.k_contiguous { 16 } else { K_STEP };
    let load = |h: usize, q: usize| {
        let mask = if q < count[h] { mask[h] } else { 0 };
        let vector = from.wrapping_add(h * half + q * operand.pitch);
        // Rows of the next tile or step are far apart in memory: a hint.
        _mm_prefetch::<_MM_HINT_T1>(vector.wrapping_add(ahead).cast());
        // SAFETY: a whole tile has all its values; else lanes outside the operand are masked off
        // and not accessed.
        unsafe { if WHOLE { _mm512_loadu_ps(vector) } else { _mm512_maskz_loadu_ps(mask, vector) } }
    };
    let mut finite = _mm512_setzero_ps();
    if operand.k_contiguous == operand.k_down {
        let low = transpose(std::array::from_fn(|q| load(0, q)));
        let high = transpose(std::array::from_fn(|q| load(1, q)));
        for q in 0..16 {
            // SAFETY: q < 16 rows of a tile.
            unsafe { split::<TERMS>(low[q], high[q], out.add(q * 64), &mut finite) };
        }
        if TERMS > 1 && any_nan(finite) {
            for q in 0..16 {
                // SAFETY: as above.
                unsafe { split_special(low[q], high[q], out.add(q * 64)) };
            }
        }
    } else {
        for q in 0..16 {
            // SAFETY: as above.
            unsafe { split::<TERMS>(load(0, q), load(1, q), out.add(q * 64), &mut finite) };
        }
        if TERMS > 1 && any_nan(finite) {
            for q in 0..16 {
                // SAFETY: as above.
                unsafe { split_special(load(0, q), load(1, q), out.add(q * 64)) };
            }
        }
    }
}

pub(crate) fn ones(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as __mmask16
}

#[target_feature(enable = "avx512f")]
fn any_nan(x: __m512) -> bool {
    _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x) != 0
}

/// Rounds to bf16 (one term), or splits exactly into three bf16 (three terms): each is the rest
/// rounded to 8 significant bits, and 3 × 8 bits are the 24 of an f32. `finite` becomes NaN if a
/// value or its rounding was not finite.
///
/// # Safety
/// 64 bytes are writable at `out` and at `out + 2048·term`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn split<const TERMS: usize>(low: __m512, high: __m512, out: *mut u8, finite: &mut __m512) {
    if TERMS == 1 {
        // SAFETY: both are 512 bits of plain data.
        let both: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) };
        let paired = _mm512_permutexvar_epi16(interleave(), both);
        // SAFETY: the caller's promise.
        return unsafe { _mm512_store_si512(out.cast(), paired) };
    }
    let (l0, h0) = (round(low), round(high));
    let (l_rest, h_rest) = (_mm512_sub_ps(low, l0), _mm512_sub_ps(high, h0));
    let (l1, h1) = (round(l_rest), round(h_rest));
    let (l2, h2) = (_mm512_sub_ps(l_rest, l1), _mm512_sub_ps(h_rest, h1));
    *finite = _mm512_add_ps(*finite, _mm512_add_ps(l2, h2));
    // SAFETY: the caller's promise.
    unsafe { store_terms([l0, l1, l2], [h0, h1, h2], out) };
}

/// [`split`] for values that are not finite or round to infinity: infinities and NaN stay in the
/// first term with zeros after it; values above the largest bf16 are cut, not rounded.
///
/// # Safety
/// As for [`split`].
#[cold]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn split_special(low: __m512, high: __m512, out: *mut u8) {
    let three = |x: __m512| {
        let bits = _mm512_castps_si512(x);
        let magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFF_FFFF));
        let limit = |bound: i32| _mm512_cmpge_epi32_mask(magnitude, _mm512_set1_epi32(bound));
        let (huge, endless, nan) = (limit(0x7F7F_8000), limit(0x7F80_0000), limit(0x7F80_0001));
        let cut = _mm512_and_si512(bits, _mm512_set1_epi32(0xFFFF_0000_u32 as i32));
        let cut = _mm512_mask_or_epi32(cut, nan, cut, _mm512_set1_epi32(0x0040_0000));
        let x0 = _mm512_mask_mov_ps(round(x), huge, _mm512_castsi512_ps(cut));
        let rest = _mm512_maskz_sub_ps(!endless, x, x0);
        let x1 = round(rest);
        [x0, x1, _mm512_sub_ps(rest, x1)]
    };
    // SAFETY: the caller's promise.
    unsafe { store_terms(three(low), three(high), out) };
}

/// Nearest value of 8 significant bits (ties away from zero), as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn round(x: __m512) -> __m512 {
    let up = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(0xFFFF_0000_u32 as i32)))
}

/// # Safety
/// As for [`split`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn store_terms(low: [__m512; 3], high: [__m512; 3], out: *mut u8) {
    for term in 0..3 {
        let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(low[term]));
        let paired = _mm512_mask_mov_epi16(low, 0xAAAA_AAAA, _mm512_castps_si512(high[term]));
        // SAFETY: the caller's promise.
        unsafe { _mm512_store_si512(out.add(term * 2 * TILE_BYTES).cast(), paired) };
    }
}

/// Word 2j from j, word 2j + 1 from j + 16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn interleave() -> __m512i {
    let counting = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    _mm512_add_epi32(
        _mm512_or_si512(counting, _mm512_slli_epi32::<16>(counting)),
        _mm512_set1_epi32(16 << 16),
    )
}

/// Transposes 16 × 16 values.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512; 16]) -> [__m512; 16] {
    let mut t = r;
    for i in (0..16).step_by(2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    let pd = |x: __m512| _mm512_castps_pd(x);
    let mut u = t;
    for i in (0..16).step_by(4) {
        u[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(t[i]), pd(t[i + 2])));
        u[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(t[i]), pd(t[i + 2])));
        u[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(t[i + 1]), pd(t[i + 3])));
        u[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(t[i + 1]), pd(t[i + 3])));
    }
    // u[4g + j] holds columns j, 4 + j, 8 + j, 12 + j of rows 4g..4g + 4 in its four lanes.
    let mut out = r;
    for j in 0..4 {
        let a = _mm512_shuffle_f32x4::<0x88>(u[j], u[4 + j]);
        let b = _mm512_shuffle_f32x4::<0x88>(u[8 + j], u[12 + j]);
        let c = _mm512_shuffle_f32x4::<0xDD>(u[j], u[4 + j]);
        let d = _mm512_shuffle_f32x4::<0xDD>(u[8 + j], u[12 + j]);
        out[j] = _mm512_shuffle_f32x4::<0x88>(a, b);
        out[8 + j] = _mm512_shuffle_f32x4::<0xDD>(a, b);
        out[4 + j] = _mm512_shuffle_f32x4::<0x88>(c, d);
        out[12 + j] = _mm512_shuffle_f32x4::<0xDD>(c, d);
    }
    out
}
