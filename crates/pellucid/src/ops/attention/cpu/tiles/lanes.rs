//! Sixteen lanes of f32 on their way into bf16 tiles.
#![allow(unsafe_code)] // loads, stores and reinterpreted registers

use super::kernel::TILE;
use std::arch::x86_64::*;

/// Degree 3 for products that round to bf16: relative error under 1e-4, a twentieth of that rounding's.
const ROUGH: [f32; 4] = [7.802_427_6e-2, 2.260_672_6e-1, 6.958_336e-1, 9.999_252e-1];
/// Degree 6: relative error under 7e-8, rounding included.
const FINE: [f32; 7] =
    [2.161_294e-4, 1.246_784e-3, 9.675_452e-3, 5.548_528e-2, 2.402_293_1e-1, 6.931_470_6e-1, 1.0];

/// `2^x`; what is below `2^-100` becomes that, so that no later product is subnormal (which would be slow). The
/// polynomials were fitted to the relative error on [0, 1] (weighted least squares, Lawson's iteration).
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn exp2<const TERMS: usize>(x: __m512) -> __m512 {
    let x = _mm512_max_ps(_mm512_set1_ps(-100.0), x); // the second operand wins when it is NaN
    let r = _mm512_reduce_ps::<9>(x); // x - floor(x)
    let c = if TERMS == 1 { &ROUGH[..] } else { &FINE[..] };
    let mut p = _mm512_set1_ps(c[0]);
    for c in &c[1..] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*c));
    }
    _mm512_scalef_ps(p, x) // times 2^floor(x)
}

/// Natural logarithm of positive numbers, within 3e-7 of 1 + |result|.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn ln(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    let (mut e, mut m) =
        (_mm512_getexp_ps(x), _mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(x));
    let large = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(m, _mm512_set1_ps(1.5));
    m = _mm512_mask_mul_ps(m, large, m, _mm512_set1_ps(0.5));
    e = _mm512_mask_add_ps(e, large, e, one);
    // ln m = 2 atanh z, z = (m - 1) / (m + 1) in [-1/7, 1/5]
    let z = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one));
    let z2 = _mm512_mul_ps(z, z);
    let mut p = _mm512_set1_ps(2.0 / 9.0);
    for c in [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
        p = _mm512_fmadd_ps(p, z2, _mm512_set1_ps(c));
    }
    _mm512_fmadd_ps(e, _mm512_set1_ps(std::f32::consts::LN_2), _mm512_mul_ps(p, z))
}

/// Which words of two registers go where.
static BESIDE: [u16; 32] = words(false);
static BETWEEN: [u16; 32] = words(true);

const fn words(between: bool) -> [u16; 32] {
    let (mut w, mut i) = ([0; 32], 0);
    while i < 32 {
        // The upper half of element i % 16, or i / 2, of the first or second register (+ 32).
        w[i] = if between {
            (i / 2 * 2 + 1 + i % 2 * 32) as u16
        } else {
            (i % 16 * 2 + 1 + i / 16 * 32) as u16
        };
        i += 1;
    }
    w
}

/// Sixteen values as terms; the upper halves of the elements are bf16.
pub(super) type Split = [__m512i; 3];

/// `x = x0 + x1 + x2` exactly, each rounded to 8 significant bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn rounded(x: __m512) -> Split {
    let round = |x: __m512| {
        let up = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
        _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(0xFFFF_0000_u32 as i32)))
    };
    let x0 = round(x);
    let rest = _mm512_sub_ps(x, x0);
    let x1 = round(rest);
    [x0, x1, _mm512_sub_ps(rest, x1)].map(|x| _mm512_castps_si512(x))
}

/// The same, cut instead of rounded: a little cheaper. The terms are up to twice as large, so of two operands of
/// a product only one should be cut.
#[inline]
#[target_feature(enable = "avx512f")]
fn cut(x: __m512) -> Split {
    let cut = |x: __m512| {
        let bits = _mm512_castps_si512(x);
        _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0xFFFF_0000_u32 as i32)))
    };
    let rest = _mm512_sub_ps(x, cut(x));
    [x, rest, _mm512_sub_ps(rest, cut(rest))].map(|x| _mm512_castps_si512(x))
}

/// [`Split`] for what is computed per pair of positions (`CUT`) or packed once. One term is left as it is.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn split<const TERMS: usize, const CUT: bool>(x: __m512) -> Split {
    match (TERMS, CUT) {
        (1, _) => [_mm512_castps_si512(x); 3],
        (_, true) => cut(x),
        (_, false) => rounded(x),
    }
}

/// One term of two vectors in one register: beside each other, or (`BETWEEN`) element by element.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn pair<const TERMS: usize, const MIX: bool>(a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: 64 bytes are readable at either constant; registers are plain data.
    unsafe {
        if TERMS == 1 {
            let both = _mm512_cvtne2ps_pbh(_mm512_castsi512_ps(b), _mm512_castsi512_ps(a));
            let both: __m512i = std::mem::transmute(both);
            if !MIX {
                return both;
            }
            return _mm512_permutexvar_epi16(_mm512_loadu_si512((&raw const HALVES).cast()), both);
        }
        let words = if MIX { &raw const BETWEEN } else { &raw const BESIDE };
        _mm512_permutex2var_epi16(a, _mm512_loadu_si512(words.cast()), b)
    }
}

/// Word `2 j` from word `j`, word `2 j + 1` from word `16 + j`.
static HALVES: [u16; 32] = {
    let (mut w, mut i) = ([0; 32], 0);
    while i < 32 {
        w[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    w
};

/// Writes a row of a tile in all its terms.
///
/// # Safety
/// 64 bytes are writable at `to` and at every further pair of tiles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn put<const TERMS: usize, const MIX: bool>(a: &Split, b: &Split, to: *mut u8) {
    for term in 0..TERMS {
        let row = pair::<TERMS, MIX>(a[term], b[term]);
        // SAFETY: the caller's promise.
        unsafe { _mm512_store_si512(to.add(term * 2 * TILE).cast(), row) };
    }
}

/// Turns 16 x 16 elements of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn turn(r: &[__m512i; 16]) -> [__m512i; 16] {
    let mut t = *r;
    for i in (0..16).step_by(2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    let mut u = t;
    for i in (0..16).step_by(4) {
        u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // u[4 g + j]: columns j, 4 + j, 8 + j, 12 + j of rows 4 g..4 g + 4, one in each 128 bits.
    let mut out = u;
    for j in 0..4 {
        let a = _mm512_shuffle_i32x4::<0x88>(u[j], u[4 + j]);
        let b = _mm512_shuffle_i32x4::<0x88>(u[8 + j], u[12 + j]);
        let c = _mm512_shuffle_i32x4::<0xDD>(u[j], u[4 + j]);
        let d = _mm512_shuffle_i32x4::<0xDD>(u[8 + j], u[12 + j]);
        out[j] = _mm512_shuffle_i32x4::<0x88>(a, b);
        out[8 + j] = _mm512_shuffle_i32x4::<0xDD>(a, b);
        out[4 + j] = _mm512_shuffle_i32x4::<0x88>(c, d);
        out[12 + j] = _mm512_shuffle_i32x4::<0xDD>(c, d);
    }
    out
}

/// The first `count` lanes.
#[inline]
pub(super) fn ones(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

/// Writes a block `(16 of D, 16 rows)`, turned, times a factor for each row, `d0` floats behind each of `to` that
/// is not null; adds to what is there if `add`.
///
/// # Safety
/// `block` points at 16 x 16 elements in rows of 32; the lanes of `mask` are readable and writable there.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn put_turned(
    block: *const f32,
    scale: __m512,
    (mask, add): (__mmask16, bool),
    (to, d0): (&[*mut f32; 16], usize),
) {
    let mut rows = [_mm512_setzero_si512(); 16];
    for (i, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let x = unsafe { _mm512_loadu_ps(block.add(i * 32)) };
        *row = _mm512_castps_si512(_mm512_mul_ps(x, scale));
    }
    for (row, to) in turn(&rows).into_iter().zip(to) {
        if !to.is_null() {
            // SAFETY: the caller's promise.
            unsafe { store(_mm512_castsi512_ps(row), (mask, add), to.wrapping_add(d0)) };
        }
    }
}

/// Writes or adds `scale * row`, or, if the scale is 0, 0 (the row may be anything then).
///
/// # Safety
/// The lanes of `mask` are readable and writable at `to`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn put_row(
    row: __m512,
    scale: f32,
    (mask, add): (__mmask16, bool),
    to: *mut f32,
) {
    let row =
        if scale == 0.0 { _mm512_setzero_ps() } else { _mm512_mul_ps(row, _mm512_set1_ps(scale)) };
    // SAFETY: the caller's promise.
    unsafe { store(row, (mask, add), to) };
}

/// Writes or adds a row.
///
/// # Safety
/// As for [`put_row`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(mut row: __m512, (mask, add): (__mmask16, bool), to: *mut f32) {
    // SAFETY: masked lanes are not accessed, the others are in the gradient.
    unsafe {
        if add {
            row = _mm512_add_ps(row, _mm512_maskz_loadu_ps(mask, to));
        }
        _mm512_mask_storeu_ps(to, mask, row);
    }
}

/// `Σ a b`
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = _mm512_setzero_ps();
    for c in (0..a.len()).step_by(16) {
        let mask = ones(a.len() - c);
        // SAFETY: masked lanes are not accessed; both are equally long.
        unsafe {
            let a = _mm512_maskz_loadu_ps(mask, a[c..].as_ptr());
            sum = _mm512_fmadd_ps(a, _mm512_maskz_loadu_ps(mask, b[c..].as_ptr()), sum);
        }
    }
    _mm512_reduce_add_ps(sum)
}
