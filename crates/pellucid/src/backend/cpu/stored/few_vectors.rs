#![allow(unsafe_code)] // intrinsics
//! What the kernels for few rows ask of an instruction set.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Registers of `LANES` 32-bit lanes. Every function may only be called where the instructions exist, on pointers
/// to as many bytes as a register has.
pub(super) trait Vector: Copy {
    type I: Copy;
    type F: Copy;
    const LANES: usize;
    unsafe fn zero() -> Self::I;
    unsafe fn load(p: *const u8) -> Self::I;
    unsafe fn and(a: Self::I, mask: u32) -> Self::I;
    /// Each half of a lane, as an unsigned number, `BY` bits to the right.
    unsafe fn right<const BY: i32>(a: Self::I) -> Self::I;
    /// `sum +` the products of both signed halves of each lane with those of `x`.
    unsafe fn dot(sum: Self::I, w: Self::I, x: u32) -> Self::I;
    /// `(a + b - c)` as f32.
    unsafe fn total(a: Self::I, b: Self::I, c: i32) -> Self::F;
    /// bf16 numbers, half as many bytes as a register has.
    unsafe fn bf16(p: *const u8) -> Self::F;
    /// Low halves of lanes as bf16.
    unsafe fn low(a: Self::I) -> Self::F;
    /// High halves of lanes as bf16.
    unsafe fn high(a: Self::I) -> Self::F;
    unsafe fn load_f(p: *const f32) -> Self::F;
    unsafe fn store_f(p: *mut f32, a: Self::F);
    /// `sum + a · (b · x)`, each step rounded.
    unsafe fn scaled(sum: Self::F, a: Self::F, b: Self::F, x: f32) -> Self::F;
    /// `sum + a · x`.
    unsafe fn fma(a: Self::F, x: f32, sum: Self::F) -> Self::F;
    /// A hint that `p` is read soon.
    #[inline(always)]
    unsafe fn fetch(p: *const u8) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; nothing is accessed.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }
}

/// [`Vector::right`] with the constant's type that this intrinsic wants.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512bw")]
fn shift_512<const BY: i32>(a: __m512i) -> __m512i {
    match BY {
        4 => _mm512_srli_epi16::<4>(a),
        8 => _mm512_srli_epi16::<8>(a),
        _ => _mm512_srli_epi16::<12>(a),
    }
}

/// The parts in which the two 512-bit instruction sets agree.
#[cfg(target_arch = "x86_64")]
macro_rules! wide {
    ($name:ident, |$sum:ident, $w:ident, $x:ident| $dot:expr) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name;
        // SAFETY of every block: the trait's promise.
        #[allow(clippy::undocumented_unsafe_blocks)]
        impl Vector for $name {
            type I = __m512i;
            type F = __m512;
            const LANES: usize = 16;
            #[inline(always)]
            unsafe fn zero() -> __m512i {
                unsafe { _mm512_setzero_si512() }
            }
            #[inline(always)]
            unsafe fn load(p: *const u8) -> __m512i {
                unsafe { _mm512_loadu_si512(p.cast()) }
            }
            #[inline(always)]
            unsafe fn and(a: __m512i, mask: u32) -> __m512i {
                unsafe { _mm512_and_si512(a, _mm512_set1_epi32(mask as i32)) }
            }
            #[inline(always)]
            unsafe fn right<const BY: i32>(a: __m512i) -> __m512i {
                unsafe { shift_512::<BY>(a) }
            }
            #[inline(always)]
            unsafe fn dot($sum: __m512i, $w: __m512i, x: u32) -> __m512i {
                unsafe {
                    let $x = _mm512_set1_epi32(x as i32);
                    $dot
                }
            }
            #[inline(always)]
            unsafe fn total(a: __m512i, b: __m512i, c: i32) -> __m512 {
                unsafe {
                    let sum = _mm512_add_epi32(a, b);
                    _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(c)))
                }
            }
            #[inline(always)]
            unsafe fn bf16(p: *const u8) -> __m512 {
                unsafe {
                    let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
                }
            }
            #[inline(always)]
            unsafe fn low(a: __m512i) -> __m512 {
                unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(a)) }
            }
            #[inline(always)]
            unsafe fn high(a: __m512i) -> __m512 {
                unsafe {
                    let mask = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
                    _mm512_castsi512_ps(_mm512_and_si512(a, mask))
                }
            }
            #[inline(always)]
            unsafe fn load_f(p: *const f32) -> __m512 {
                unsafe { _mm512_loadu_ps(p) }
            }
            #[inline(always)]
            unsafe fn store_f(p: *mut f32, a: __m512) {
                unsafe { _mm512_storeu_ps(p, a) }
            }
            #[inline(always)]
            unsafe fn scaled(sum: __m512, a: __m512, b: __m512, x: f32) -> __m512 {
                unsafe {
                    let scale = _mm512_mul_ps(b, _mm512_set1_ps(x));
                    _mm512_add_ps(sum, _mm512_mul_ps(a, scale))
                }
            }
            #[inline(always)]
            unsafe fn fma(a: __m512, x: f32, sum: __m512) -> __m512 {
                unsafe { _mm512_fmadd_ps(a, _mm512_set1_ps(x), sum) }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
wide!(Vnni, |sum, w, x| _mm512_dpwssd_epi32(sum, w, x));
#[cfg(target_arch = "x86_64")]
wide!(Avx512, |sum, w, x| _mm512_add_epi32(sum, _mm512_madd_epi16(w, x)));

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2;
#[cfg(target_arch = "x86_64")]
// SAFETY of every block: the trait's promise.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Vector for Avx2 {
    type I = __m256i;
    type F = __m256;
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn and(a: __m256i, mask: u32) -> __m256i {
        unsafe { _mm256_and_si256(a, _mm256_set1_epi32(mask as i32)) }
    }
    #[inline(always)]
    unsafe fn right<const BY: i32>(a: __m256i) -> __m256i {
        unsafe { _mm256_srli_epi16::<BY>(a) }
    }
    #[inline(always)]
    unsafe fn dot(sum: __m256i, w: __m256i, x: u32) -> __m256i {
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(w, _mm256_set1_epi32(x as i32))) }
    }
    #[inline(always)]
    unsafe fn total(a: __m256i, b: __m256i, c: i32) -> __m256 {
        unsafe {
            let sum = _mm256_add_epi32(a, b);
            _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_set1_epi32(c)))
        }
    }
    #[inline(always)]
    unsafe fn bf16(p: *const u8) -> __m256 {
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    unsafe fn low(a: __m256i) -> __m256 {
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)) }
    }
    #[inline(always)]
    unsafe fn high(a: __m256i) -> __m256 {
        unsafe {
            let mask = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
            _mm256_castsi256_ps(_mm256_and_si256(a, mask))
        }
    }
    #[inline(always)]
    unsafe fn load_f(p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store_f(p: *mut f32, a: __m256) {
        unsafe { _mm256_storeu_ps(p, a) }
    }
    #[inline(always)]
    unsafe fn scaled(sum: __m256, a: __m256, b: __m256, x: f32) -> __m256 {
        unsafe {
            let scale = _mm256_mul_ps(b, _mm256_set1_ps(x));
            _mm256_add_ps(sum, _mm256_mul_ps(a, scale))
        }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, x: f32, sum: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, _mm256_set1_ps(x), sum) }
    }
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable;
const L: usize = 8;
#[inline(always)]
fn each<T>(f: impl Fn(usize) -> T) -> [T; L] {
    std::array::from_fn(f)
}
// SAFETY of every block: the trait's promise.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Vector for Portable {
    type I = [u32; L];
    type F = [f32; L];
    const LANES: usize = L;
    #[inline(always)]
    unsafe fn zero() -> [u32; L] {
        [0; L]
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> [u32; L] {
        each(|i| u32::from_le_bytes(unsafe { *p.cast::<[u8; 4]>().add(i) }))
    }
    #[inline(always)]
    unsafe fn and(a: [u32; L], mask: u32) -> [u32; L] {
        a.map(|a| a & mask)
    }
    #[inline(always)]
    unsafe fn right<const BY: i32>(a: [u32; L]) -> [u32; L] {
        a.map(|a| (a & 0xFFFF) >> BY | (a >> 16 >> BY) << 16)
    }
    #[inline(always)]
    unsafe fn dot(sum: [u32; L], w: [u32; L], x: u32) -> [u32; L] {
        let halves = |a: u32| (i32::from(a as i16), i32::from((a >> 16) as i16));
        let (x0, x1) = halves(x);
        each(|i| {
            let (w0, w1) = halves(w[i]);
            sum[i].wrapping_add((w0 * x0).wrapping_add(w1 * x1) as u32)
        })
    }
    #[inline(always)]
    unsafe fn total(a: [u32; L], b: [u32; L], c: i32) -> [f32; L] {
        each(|i| a[i].wrapping_add(b[i]).wrapping_sub(c as u32) as i32 as f32)
    }
    #[inline(always)]
    unsafe fn bf16(p: *const u8) -> [f32; L] {
        each(|i| {
            let bits = u16::from_le_bytes(unsafe { *p.cast::<[u8; 2]>().add(i) });
            f32::from_bits(u32::from(bits) << 16)
        })
    }
    #[inline(always)]
    unsafe fn low(a: [u32; L]) -> [f32; L] {
        a.map(|a| f32::from_bits(a << 16))
    }
    #[inline(always)]
    unsafe fn high(a: [u32; L]) -> [f32; L] {
        a.map(|a| f32::from_bits(a & 0xFFFF_0000))
    }
    #[inline(always)]
    unsafe fn load_f(p: *const f32) -> [f32; L] {
        unsafe { *p.cast::<[f32; L]>() }
    }
    #[inline(always)]
    unsafe fn store_f(p: *mut f32, a: [f32; L]) {
        unsafe { *p.cast::<[f32; L]>() = a }
    }
    #[inline(always)]
    unsafe fn scaled(sum: [f32; L], a: [f32; L], b: [f32; L], x: f32) -> [f32; L] {
        each(|i| sum[i] + a[i] * (b[i] * x))
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; L], x: f32, sum: [f32; L]) -> [f32; L] {
        each(|i| sum[i] + a[i] * x)
    }
}
