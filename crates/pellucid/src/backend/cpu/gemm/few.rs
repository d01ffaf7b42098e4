//! A few rows times a matrix, at the speed of memory: the matrix is read once, in its own order.
//!
//! Sixteen lanes per sum and a fixed order, so a row's result does not depend on other rows, and
//! not on the number of threads. Lanes are arrays that the compiler turns into vectors.

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
    ($name:ident, $fma:literal $(, $feature:literal)?) => {
        $(#[target_feature(enable = $feature)])?
        fn $name(few: &Few<'_>, range: Range<usize>, bf16: bool) {
            if bf16 { few.body::<$fma, true>(range) } else { few.body::<$fma, false>(range) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, true, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, true, "avx2,fma");
#[cfg(target_arch = "aarch64")]
compiled_for!(neon, true, "neon");
compiled_for!(portable, false);

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
    fn body<const FMA: bool, const BF16: bool>(&self, range: Range<usize>) {
        if self.call.b.row_stride == 1 {
            for j in range.clone().step_by(TOGETHER) {
                let cols = (range.end - j).min(TOGETHER);
                let mut i = 0;
                while i < self.call.dims.m {
                    i += match self.call.dims.m - i {
                        4.. => self.dots::<4, FMA, BF16>(i, j, cols),
                        2.. => self.dots::<2, FMA, BF16>(i, j, cols),
                        _ => self.dots::<1, FMA, BF16>(i, j, cols),
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
    fn dots<const R: usize, const FMA: bool, const BF16: bool>(
        &self,
        i: usize,
        j: usize,
        cols: usize,
    ) -> usize {
        let (k, b) = (self.call.dims.k, &self.call.b);
        let x: [&[f32]; R] = std::array::from_fn(|r| &self.x[(i + r) * k..][..k]);
        // Missing columns repeat the last one.
        let w: [&[f32]; TOGETHER] =
            std::array::from_fn(|q| &b.data[(j + q.min(cols - 1)) * b.col_stride..][..k]);
        let mut sums = [[[0.0_f32; LANES]; R]; TOGETHER];
        let whole = k / LANES * LANES;
        for l in (0..whole).step_by(LANES) {
            let x: [[f32; LANES]; R] = std::array::from_fn(|r| lanes(x[r], l));
            for q in 0..TOGETHER {
                let w: [f32; LANES] = lanes(w[q], l);
                for r in 0..R {
                    add::<FMA, BF16>(&mut sums[q][r], &w, &x[r]);
                }
            }
        }
        for q in 0..cols {
            for r in 0..R {
                let (mut w_rest, mut x_rest) = ([0.0; LANES], [0.0; LANES]);
                w_rest[..k - whole].copy_from_slice(&w[q][whole..]);
                x_rest[..k - whole].copy_from_slice(&x[r][whole..]);
                add::<FMA, BF16>(&mut sums[q][r], &w_rest, &x_rest);
                self.put(i + r, j + q, total(&sums[q][r]));
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

#[inline(always)]
fn lanes(x: &[f32], at: usize) -> [f32; LANES] {
    std::array::from_fn(|lane| x[at + lane])
}

#[inline(always)]
fn add<const FMA: bool, const BF16: bool>(
    sum: &mut [f32; LANES],
    w: &[f32; LANES],
    x: &[f32; LANES],
) {
    for lane in 0..LANES {
        let w = if BF16 { to_bf16(w[lane]) } else { w[lane] };
        sum[lane] = if FMA { w.mul_add(x[lane], sum[lane]) } else { w * x[lane] + sum[lane] };
    }
}

/// Halves added to halves.
#[inline(always)]
fn total(sum: &[f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| sum[i] + sum[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
