//! A few rows times a matrix, at the speed of memory: the matrix is read once, in its own order.
//!
//! Sixteen lanes per sum and a fixed order, so a row's result does not depend on other rows, and
//! not on the number of threads.

use std::ops::Range;

use super::scratch::Purpose;
use super::{Call, Tile};
use crate::backend::cpu::features::Isa;
use crate::backend::cpu::pool::{Pool, Ptr};

const LANES: usize = 16;
/// Columns computed together where k is contiguous.
const TOGETHER: usize = 4;
/// Columns computed together where columns are contiguous; their sums stay in L1.
const STRIP: usize = 256;
/// Elements asked for ahead of those in use, in each of the columns together: memory is read without a pause.
const AHEAD: usize = 512;
/// Fewest multiply-adds worth another worker.
const GRAIN: usize = 1 << 15;

/// `c = a·b` for few rows of a.
pub(super) fn rows(call: &Call<'_>, pool: Option<&Pool>, c: Ptr<f32>, isa: Isa) {
    let (m, n, k) = (call.dims.m, call.dims.n, call.dims.k);
    Purpose::Rows.lend(m * k * size_of::<f32>(), |buffer| {
        // SAFETY: the buffer is aligned, large enough, and ours; every element is written here.
        let x: &mut [f32] = unsafe {
            std::ptr::write_bytes(buffer, 0, m * k * size_of::<f32>());
            std::slice::from_raw_parts_mut(buffer.cast(), m * k)
        };
        let bf16 = call.precision == super::Precision::Bf16;
        for (i, row) in x.chunks_exact_mut(k).enumerate() {
            for (l, value) in row.iter_mut().enumerate() {
                let a = call.a.element(i, l);
                *value = if bf16 { to_bf16(a) } else { a };
            }
        }
        let few = Few { call, x, c };
        let work = |range: Range<usize>| few.columns(range, isa, bf16);
        let grain = (GRAIN / (m * k)).next_multiple_of(LANES);
        match pool {
            Some(pool) => pool.split(n, grain, &work),
            None => work(0..n),
        }
    });
}

/// Nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let even = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1))) & 0xFFFF_0000;
    let nan = bits & 0x7FFF_FFFF > 0x7F80_0000;
    f32::from_bits(if nan { (bits | 0x0040_0000) & 0xFFFF_0000 } else { even })
}

struct Few<'a> {
    call: &'a Call<'a>,
    /// `(m, k)`.
    x: &'a [f32],
    c: Ptr<f32>,
}

/// The same body compiled for one instruction set.
macro_rules! compiled_for {
    ($name:ident, $fma:literal, $dots:ident $(, $feature:literal)?) => {
        $(#[target_feature(enable = $feature)])?
        fn $name(few: &Few<'_>, range: Range<usize>, bf16: bool) {
            if bf16 {
                few.body::<$fma, true>(range, $dots::<4, true>, $dots::<2, true>, $dots::<1, true>);
            } else {
                few.body::<$fma, false>(
                    range, $dots::<4, false>, $dots::<2, false>, $dots::<1, false>,
                );
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, true, dots_avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, true, dots_avx2, "avx2,fma");
#[cfg(target_arch = "aarch64")]
compiled_for!(neon, true, dots_plain, "neon");
compiled_for!(portable, false, dots_plain);

impl Few<'_> {
    fn columns(&self, range: Range<usize>, isa: Isa, bf16: bool) {
        let cols = range.clone();
        match isa {
            // SAFETY: `isa` was detected.
            #[cfg(target_arch = "x86_64")]
            Isa::Amx | Isa::Avx512 => unsafe { avx512(self, range, bf16) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2(self, range, bf16) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { neon(self, range, bf16) },
            _ => portable(self, range, bf16),
        }
        if let Some(finish) = self.call.finish {
            // SAFETY: `split` gave these columns to this worker alone.
            finish(unsafe { Tile::new(self.c, self.call.c_stride, 0..self.call.dims.m, cols) });
        }
    }

    #[inline(always)]
    fn body<const FMA: bool, const BF16: bool>(
        &self,
        range: Range<usize>,
        four: Dots<4>,
        two: Dots<2>,
        one: Dots<1>,
    ) {
        if self.call.b.row_stride == 1 {
            for j in range.clone().step_by(TOGETHER) {
                let cols = (range.end - j).min(TOGETHER);
                let mut i = 0;
                while i < self.call.dims.m {
                    i += match self.call.dims.m - i {
                        4.. => self.dots::<4>(i, j, cols, four),
                        2.. => self.dots::<2>(i, j, cols, two),
                        _ => self.dots::<1>(i, j, cols, one),
                    };
                }
            }
        } else {
            for j in range.clone().step_by(STRIP) {
                let cols = j..(j + STRIP).min(range.end);
                (0..self.call.dims.m).for_each(|i| self.strip::<FMA, BF16>(i, cols.clone()));
            }
        }
    }

    /// Rows `i..i + R` times columns `j..j + cols`, each column contiguous; returns R.
    #[inline(always)]
    fn dots<const R: usize>(&self, i: usize, j: usize, cols: usize, kernel: Dots<R>) -> usize {
        let (k, b) = (self.call.dims.k, &self.call.b);
        let x: [&[f32]; R] = std::array::from_fn(|r| &self.x[(i + r) * k..][..k]);
        // Missing columns repeat the last one.
        let w: [&[f32]; TOGETHER] =
            std::array::from_fn(|q| &b.data[(j + q.min(cols - 1)) * b.col_stride..][..k]);
        // SAFETY: the kernel is for this machine; all slices have k elements.
        let sums = unsafe {
            kernel(x.map(<[f32]>::as_ptr), w.map(<[f32]>::as_ptr), k, TOGETHER * b.col_stride)
        };
        for (q, sums) in sums.iter().enumerate().take(cols) {
            for (r, &sum) in sums.iter().enumerate() {
                self.put(i + r, j + q, sum);
            }
        }
        R
    }

    /// Row `i` times columns `cols`, contiguous in each row of b.
    #[inline(always)]
    fn strip<const FMA: bool, const BF16: bool>(&self, i: usize, cols: Range<usize>) {
        let (k, b) = (self.call.dims.k, &self.call.b);
        let mut sums = [0.0_f32; STRIP];
        for (l, &x) in self.x[i * k..][..k].iter().enumerate() {
            let row = &b.data[l * b.row_stride + cols.start..][..cols.len()];
            for (sum, &w) in sums.iter_mut().zip(row) {
                let w = if BF16 { to_bf16(w) } else { w };
                *sum = if FMA { w.mul_add(x, *sum) } else { w * x + *sum };
            }
        }
        for (j, &sum) in cols.zip(&sums) {
            self.put(i, j, sum);
        }
    }

    #[inline(always)]
    fn put(&self, i: usize, j: usize, sum: f32) {
        // SAFETY: (i, j) is inside c, and `split` gave column j to this worker alone.
        unsafe {
            let c = self.c.0.add(i * self.call.c_stride + j);
            *c = if self.call.accumulate { *c + sum } else { sum };
        }
    }
}

/// `R` contiguous rows times four contiguous columns of k elements; as many elements after a column begins the one
/// that is read after it.
type Dots<const R: usize> =
    unsafe fn([*const f32; R], [*const f32; TOGETHER], usize, usize) -> [[f32; R]; TOGETHER];

/// A [`Dots`] from one instruction set's vectors: one vector of sums for each result.
macro_rules! dots {
    ($name:ident, $feature:literal, $width:literal, $zero:path, $load:path, $fma:path,
     $round:path, $total:path) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $feature)]
        unsafe fn $name<const R: usize, const BF16: bool>(
            x: [*const f32; R],
            w: [*const f32; TOGETHER],
            k: usize,
            next: usize,
        ) -> [[f32; R]; TOGETHER] {
            let mut sums = [[$zero(); R]; TOGETHER];
            let mut step = |x: [*const f32; R], w: [*const f32; TOGETHER]| {
                // SAFETY: a whole vector is readable at each pointer.
                let x = x.map(|x| unsafe { $load(x) });
                for (sums, w) in sums.iter_mut().zip(w) {
                    // SAFETY: as above.
                    let w = unsafe { $load(w) };
                    let w = if BF16 { $round(w) } else { w };
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = $fma(w, x, *sum);
                    }
                }
            };
            let whole = k / $width * $width;
            // Hints first in the same columns, at their end in those that come after them.
            let edge = whole.saturating_sub(AHEAD) / $width * $width;
            let parts = [(0..edge, AHEAD), (edge..whole, (AHEAD + next).wrapping_sub(k))];
            for (part, ahead) in parts {
                for l in part.step_by($width) {
                    w.iter().for_each(|w| {
                        _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(l.wrapping_add(ahead)).cast());
                    });
                    step(x.map(|x| x.wrapping_add(l)), w.map(|w| w.wrapping_add(l)));
                }
            }
            if whole < k {
                let rest = |from: *const f32| {
                    let mut vector = [0.0_f32; $width];
                    for (l, value) in vector.iter_mut().enumerate().take(k - whole) {
                        // SAFETY: below k.
                        *value = unsafe { *from.add(whole + l) };
                    }
                    vector
                };
                let (x, w) = (x.map(rest), w.map(rest));
                step(x.each_ref().map(|x| x.as_ptr()), w.each_ref().map(|w| w.as_ptr()));
            }
            sums.map(|sums| sums.map(|sum| $total(sum)))
        }
    };
}
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
dots!(
    dots_avx512,
    "avx512f",
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_fmadd_ps,
    round_avx512,
    _mm512_reduce_add_ps
);
dots!(
    dots_avx2,
    "avx2,fma",
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_fmadd_ps,
    round_avx2,
    total_avx2
);

/// [`to_bf16`] of a vector.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn round_avx512(x: __m512) -> __m512 {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let up = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7FFF));
    let even = _mm512_and_si512(up, _mm512_set1_epi32(0xFFFF_0000_u32 as i32));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    _mm512_mask_mov_ps(_mm512_castsi512_ps(even), nan, x)
}

/// [`to_bf16`] of a vector.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn round_avx2(x: __m256) -> __m256 {
    let bits = _mm256_castps_si256(x);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let up = _mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7FFF));
    let even = _mm256_and_si256(up, _mm256_set1_epi32(0xFFFF_0000_u32 as i32));
    let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
    _mm256_blendv_ps(_mm256_castsi256_ps(even), x, nan)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn total_avx2(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// A [`Dots`] of plain Rust, for any machine.
unsafe fn dots_plain<const R: usize, const BF16: bool>(
    x: [*const f32; R],
    w: [*const f32; TOGETHER],
    k: usize,
    _next: usize,
) -> [[f32; R]; TOGETHER] {
    // SAFETY: the caller promises k elements at each pointer.
    let slice = |start| unsafe { std::slice::from_raw_parts(start, k) };
    w.map(|w| {
        x.map(|x| {
            let mut sums = [0.0_f32; LANES];
            let (x, w) = (slice(x).chunks(LANES), slice(w).chunks(LANES));
            for (x, w) in x.zip(w) {
                for ((sum, x), w) in sums.iter_mut().zip(x).zip(w) {
                    *sum += x * if BF16 { to_bf16(*w) } else { *w };
                }
            }
            sums.iter().sum()
        })
    })
}
