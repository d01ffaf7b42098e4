//! Sixteen lanes of f32 on every machine: one zmm, two ymm, or an array.
//!
//! The order of every sum is written in terms of these sixteen lanes, so machines with a fused multiply-add
//! produce the same bits whatever the width of their registers.
#![allow(unsafe_code)] // intrinsics and raw tiles

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// Sixteen lanes. Every function may only be called where the machine has the instructions.
pub(super) trait Isa: Copy {
    type V: Copy;
    /// Vectors of a register block's row.
    const COLS: usize;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn splat(x: f32) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `p · 2^n` for whole `n` where the result is a normal number.
    unsafe fn scale2(p: Self::V, n: Self::V) -> Self::V;
    /// `v` where not `x < floor`, else 0; so NaN in `x` keeps `v`.
    unsafe fn unless_below(x: Self::V, floor: f32, v: Self::V) -> Self::V;
    /// Lanes `lo..hi` of `v`, the others `fill`.
    unsafe fn within(v: Self::V, lo: usize, hi: usize, fill: f32) -> Self::V {
        let mut x = [0.0f32; LANES];
        // SAFETY: the array holds sixteen floats.
        unsafe {
            Self::store(x.as_mut_ptr(), v);
            for (i, x) in x.iter_mut().enumerate() {
                if i < lo || i >= hi {
                    *x = fill;
                }
            }
            Self::load(x.as_ptr())
        }
    }
    /// Halves are added until one lane is left.
    unsafe fn sum(v: Self::V) -> f32 {
        let mut x = [0.0f32; LANES];
        // SAFETY: the array holds sixteen floats.
        unsafe { Self::store(x.as_mut_ptr(), v) };
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] += x[i + half];
            }
        }
        x[0]
    }
    unsafe fn largest(v: Self::V) -> f32 {
        let mut x = [0.0f32; LANES];
        // SAFETY: the array holds sixteen floats.
        unsafe { Self::store(x.as_mut_ptr(), v) };
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] = x[i].max(x[i + half]);
            }
        }
        x[0]
    }
    /// Turns a 16 x 16 block; strides in elements.
    unsafe fn transpose(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
        for i in 0..LANES {
            for j in 0..LANES {
                // SAFETY: the caller promised both blocks.
                unsafe { *dst.add(j * dst_row + i) = *src.add(i * src_row + j) };
            }
        }
    }
}

/// `2^x` for `x` up to about 100; 0 below -125. Relative error under 1e-7: the polynomial was fitted at six
/// Chebyshev points to `(2^r - 1) / r` on [-1/2, 1/2].
#[inline(always)]
pub(super) unsafe fn exp2<I: Isa>(x: I::V) -> I::V {
    const C: [f32; 6] =
        [1.546_336_4e-4, 1.339_086_3e-3, 9.618_083e-3, 5.550_357e-2, 2.402_265e-1, 6.931_472e-1];
    // SAFETY: lane operations only.
    unsafe {
        let n = I::round(x);
        let r = I::sub(x, n);
        let mut p = I::splat(C[0]);
        for c in &C[1..] {
            p = I::fma(p, r, I::splat(*c));
        }
        p = I::fma(p, r, I::splat(1.0));
        I::unless_below(x, -125.0, I::scale2(p, n))
    }
}

/// Plain arrays, for LLVM to vectorise as it can (NEON does well).
#[derive(Clone, Copy)]
pub(super) struct Portable;

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut c = [0.0; LANES];
    for i in 0..LANES {
        c[i] = f(a[i], b[i]);
    }
    c
}

impl Isa for Portable {
    type V = [f32; LANES];
    const COLS: usize = 1;
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: the caller promised sixteen floats; arrays of f32 need no more alignment than one.
        unsafe { *p.cast() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        // SAFETY: as for `load`.
        unsafe { *p.cast() = v };
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without the instruction, `mul_add` would be a call into libm.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        let mut d = [0.0; LANES];
        for i in 0..LANES {
            d[i] = if fused { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] };
        }
        d
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        // Adding 1.5 · 2^23 pushes the fraction out of the mantissa.
        let magic = 12_582_912.0f32;
        zip(a, a, |a, _| (a + magic) - magic)
    }
    #[inline(always)]
    unsafe fn scale2(p: Self::V, n: Self::V) -> Self::V {
        zip(p, n, |p, n| {
            let bits = (n + 12_582_912.0f32).to_bits() << 23;
            f32::from_bits(p.to_bits().wrapping_add(bits))
        })
    }
    #[inline(always)]
    unsafe fn unless_below(x: Self::V, floor: f32, v: Self::V) -> Self::V {
        zip(x, v, |x, v| if x < floor { 0.0 } else { v })
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Isa, LANES};
    use std::arch::x86_64::*;

    /// One zmm register.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512;

    // SAFETY (every block below): the caller promised the instructions and the pointers.
    #[allow(clippy::undocumented_unsafe_blocks)] // said once above
    impl Isa for Avx512 {
        type V = __m512;
        const COLS: usize = 4;
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn round(a: __m512) -> __m512 {
            unsafe { _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) }
        }
        #[inline(always)]
        unsafe fn scale2(p: __m512, n: __m512) -> __m512 {
            unsafe { _mm512_scalef_ps(p, n) }
        }
        #[inline(always)]
        unsafe fn unless_below(x: __m512, floor: f32, v: __m512) -> __m512 {
            unsafe {
                let keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(floor), _CMP_NLT_UQ);
                _mm512_maskz_mov_ps(keep, v)
            }
        }
        #[inline(always)]
        unsafe fn within(v: __m512, lo: usize, hi: usize, fill: f32) -> __m512 {
            let mask = ((1u32 << hi) - 1) & !((1u32 << lo) - 1);
            unsafe { _mm512_mask_mov_ps(_mm512_set1_ps(fill), mask as __mmask16, v) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            unsafe {
                let x = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0b01_00_11_10));
                let x = _mm512_add_ps(x, _mm512_shuffle_f32x4(x, x, 0b10_11_00_01));
                let x = _mm512_castps512_ps128(x);
                let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)))
            }
        }
        #[inline(always)]
        unsafe fn largest(v: __m512) -> f32 {
            unsafe {
                let x = _mm512_max_ps(v, _mm512_shuffle_f32x4(v, v, 0b01_00_11_10));
                let x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0b10_11_00_01));
                let x = _mm512_castps512_ps128(x);
                let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)))
            }
        }
        #[inline(always)]
        unsafe fn transpose(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
            unsafe {
                let mut a = [_mm512_setzero_ps(); LANES];
                let mut b = [_mm512_setzero_ps(); LANES];
                for (i, row) in a.iter_mut().enumerate() {
                    *row = _mm512_loadu_ps(src.add(i * src_row));
                }
                // Pairs of rows, then pairs of pairs, inside each 128-bit lane.
                for i in 0..8 {
                    b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                    b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
                }
                for i in 0..4 {
                    for h in 0..2 {
                        let x = _mm512_castps_pd(b[4 * i + h]);
                        let y = _mm512_castps_pd(b[4 * i + 2 + h]);
                        a[4 * i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
                        a[4 * i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
                    }
                }
                // a[4 i + c]: column c of each 4 x 4 block of block-row i. Now gather the lanes.
                for c in 0..4 {
                    let low01 = _mm512_shuffle_f32x4(a[c], a[4 + c], 0b10_00_10_00);
                    let high01 = _mm512_shuffle_f32x4(a[c], a[4 + c], 0b11_01_11_01);
                    let low23 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0b10_00_10_00);
                    let high23 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0b11_01_11_01);
                    b[c] = _mm512_shuffle_f32x4(low01, low23, 0b10_00_10_00);
                    b[8 + c] = _mm512_shuffle_f32x4(low01, low23, 0b11_01_11_01);
                    b[4 + c] = _mm512_shuffle_f32x4(high01, high23, 0b10_00_10_00);
                    b[12 + c] = _mm512_shuffle_f32x4(high01, high23, 0b11_01_11_01);
                }
                for (j, row) in b.iter().enumerate() {
                    _mm512_storeu_ps(dst.add(j * dst_row), *row);
                }
            }
        }
    }

    /// Two ymm registers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2;

    // SAFETY (every block below): the caller promised the instructions and the pointers.
    #[allow(clippy::undocumented_unsafe_blocks)] // said once above
    impl Isa for Avx2 {
        type V = [__m256; 2];
        const COLS: usize = 1;
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self::V {
            unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: Self::V) {
            unsafe {
                _mm256_storeu_ps(p, v[0]);
                _mm256_storeu_ps(p.add(8), v[1]);
            }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            unsafe { [_mm256_set1_ps(x); 2] }
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn round(a: Self::V) -> Self::V {
            unsafe {
                [
                    _mm256_round_ps(a[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                    _mm256_round_ps(a[1], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                ]
            }
        }
        #[inline(always)]
        unsafe fn scale2(p: Self::V, n: Self::V) -> Self::V {
            let mut out = p;
            for i in 0..2 {
                unsafe {
                    let bits = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n[i]));
                    let sum = _mm256_add_epi32(_mm256_castps_si256(p[i]), bits);
                    out[i] = _mm256_castsi256_ps(sum);
                }
            }
            out
        }
        #[inline(always)]
        unsafe fn unless_below(x: Self::V, floor: f32, v: Self::V) -> Self::V {
            let mut out = v;
            for i in 0..2 {
                unsafe {
                    let keep = _mm256_cmp_ps::<_CMP_NLT_UQ>(x[i], _mm256_set1_ps(floor));
                    out[i] = _mm256_and_ps(keep, v[i]);
                }
            }
            out
        }
    }
}
