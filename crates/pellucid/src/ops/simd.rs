//! One plain loop, compiled for several instruction sets and chosen at run time; and the elementary
//! functions such loops need, written so that the compiler vectorises them.
//!
//! A kernel is a loop over chunks or slices that the compiler can vectorise. [`multiversion!`] compiles it
//! three times (AVX-512, AVX2 + FMA, the target's baseline) and calls the best one that the machine has.
//! Its first generic parameter says whether a fused multiply-add is one instruction there; without that,
//! `f32::mul_add` would be a slow library call. On aarch64 the baseline has NEON and fused multiply-adds.
//!
//! Largest errors, measured in the tests below on dense grids against f64:
//!
//! | function | error | outside |
//! |---|---|---|
//! | [`exp`] | 2 ulp | 0 below x = -87 (result < 2^-125.5), inf above 88.72, NaN stays |
//! | [`tanh`] | 4 ulp | ±1 at ±inf, NaN stays |
//! | [`sigmoid`] | 4 ulp | 0 below x = -88.72; NaN stays |
//! | [`erf`] | 4 ulp | ±1 at ±inf, NaN stays |
//! | [`normal`] | relative 4e-7 · (1 + x²/2), absolute 2e-7 | Φ is 0 below x = -13.2, 1 at inf; NaN stays |
//! | [`ln`] | 2 ulp | -inf at 0, NaN below 0, subnormals exact, inf and NaN stay |
//!
//! The same limits hold without fused multiply-adds. Coefficients are minimax fits (Remez exchange,
//! 40 digits) made for this file; intervals stand beside them.
#![cfg_attr(not(test), allow(dead_code))] // a complete set; rooms take what they need
#![allow(clippy::needless_range_loop)] // lanes of several arrays at once

/// Instruction sets that a kernel is compiled for, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

/// The best level of this machine. Cheap: the standard library caches the answer.
#[inline]
#[must_use]
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        return if wide { Level::Avx512 } else { Level::Avx2 };
    }
    Level::Baseline
}

/// Compiles a function for each [`Level`] and calls the best at run time.
///
/// `fn kernel<const FMA: bool>(x: &mut [f32]) { .. }` becomes `fn kernel(x: &mut [f32])`; type parameters may
/// follow `FMA` (`<const FMA: bool, A: Bound>` becomes `<A: Bound>`). Helpers that the body calls must be
/// `#[inline(always)]`, else they are compiled for the baseline. Dispatch costs about a nanosecond: call it
/// once per row or per range, not per element. The expansion contains `unsafe`, allowed there and only there.
macro_rules! multiversion {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<const $fma:ident : bool $(, $g:ident : $bound:path)*>(
            $($arg:ident : $ty:ty),* $(,)?
        ) $(-> $ret:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<const $fma: bool $(, $g: $bound)*>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                    body::<true $(, $g)*>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                    body::<true $(, $g)*>($($arg),*)
                }
                match $crate::ops::simd::level() {
                    // SAFETY: `level` saw every feature that `avx512` is compiled for.
                    $crate::ops::simd::Level::Avx512 => unsafe { avx512::<$($g),*>($($arg),*) },
                    // SAFETY: `level` saw AVX2 and FMA.
                    $crate::ops::simd::Level::Avx2 => unsafe { avx2::<$($g),*>($($arg),*) },
                    $crate::ops::simd::Level::Baseline => body::<false $(, $g)*>($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            body::<{ cfg!(target_arch = "aarch64") } $(, $g)*>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// `a·b + c`, fused where that is one instruction.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `c[0] + c[1]·x + …` (Horner).
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[N - 1];
    for i in (0..N - 1).rev() {
        y = fma::<FMA>(y, x, c[i]);
    }
    y
}

/// Adding it rounds a small f32 to an integer that then stands in the low mantissa bits (1.5·2^23).
const ROUND: f32 = 12_582_912.0;
const LN2_HIGH: f32 = 0.693_359_4; // 355/512: products with |n| ≤ 2^13 are exact
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `x = n·ln 2 + r`, |r| ≤ ln 2 / 2: `(bits whose low part is n, n, r)`.
#[inline(always)]
fn split_exponent<const FMA: bool>(x: f32) -> (u32, f32, f32) {
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, x));
    (shifted.to_bits(), n, r)
}

/// `(e^r - 1 - r) / r²` on |r| ≤ ln 2 / 2; error of e^r 3e-9.
const EXP: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_5];

/// `e^x`.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Comparisons written so that NaN falls through to `x`.
    let x = if x < -87.5 { -87.5 } else { x };
    let x = if x > 88.8 { 88.8 } else { x };
    let (bits, _, r) = split_exponent::<FMA>(x);
    let y = fma::<FMA>(r * r, polynomial::<FMA, 5>(r, EXP), r) + 1.0;
    // 2·y·2^(n-1): reaches infinity, and flushes to 0 (exponent bits 0) at n = -126.
    (y + y) * f32::from_bits(bits.wrapping_add(126) << 23)
}

/// `e^x - 1` for 0 ≤ x < 80, to relative precision near 0.
#[inline(always)]
fn exp_minus_one<const FMA: bool>(x: f32) -> f32 {
    let (bits, _, r) = split_exponent::<FMA>(x);
    let y = fma::<FMA>(r * r, polynomial::<FMA, 5>(r, EXP), r);
    let power = f32::from_bits(bits.wrapping_add(127) << 23);
    fma::<FMA>(power, y, power - 1.0)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let a = if a > 10.0 { 10.0 } else { a };
    let e = exp_minus_one::<FMA>(a + a);
    (e / (e + 2.0)).copysign(x)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    // Where e^-x overflows the quotient is 0, so no case distinction is needed.
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// `(sigmoid(x), sigmoid'(x))`; the derivative `s·(1 - s)` loses no digits where s is close to 1.
#[inline(always)]
pub(crate) fn sigmoid_and_slope<const FMA: bool>(x: f32) -> (f32, f32) {
    let e = exp::<FMA>(-x.abs());
    let s = 1.0 / (1.0 + e);
    (if x < 0.0 { e * s } else { s }, e * s * s)
}

/// `Φ(-a)·e^(a²/2) / t` in `t = 1 / (1 + a/4)` on 0 ≤ a ≤ 13.3; error 5e-8.
const MILLS: [f32; 9] = [
    0.099_804_89,
    0.098_396_8,
    0.104_566_23,
    0.029_843_504,
    0.208_768_59,
    -0.215_654_85,
    0.304_549_63,
    -0.156_806_1,
    0.026_531_255,
];

/// `(Φ(-a), e^(-a²/2))` for a ≥ 0.
#[inline(always)]
fn normal_tail<const FMA: bool>(a: f32) -> (f32, f32) {
    let t = 1.0 / fma::<FMA>(a, 0.25, 1.0);
    let e = exp::<FMA>(-0.5 * a * a);
    (e * t * polynomial::<FMA, 9>(t, MILLS), e)
}

/// The standard normal's cumulative probability `Φ(x)` and density `φ(x) = e^(-x²/2) / √(2π)`,
/// for little more than the price of one: both share the exponential.
#[inline(always)]
pub(crate) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let (tail, e) = normal_tail::<FMA>(x.abs());
    (if x < 0.0 { tail } else { 1.0 - tail }, e * 0.398_942_3)
}

/// `erf(x) / x` in x² on |x| ≤ 3/4; error 2e-9.
const ERF: [f32; 6] = [
    std::f32::consts::FRAC_2_SQRT_PI,
    -0.376_126_2,
    0.112_833_77,
    -0.026_834_624,
    0.005_114_346,
    -0.000_674_951_36,
];

/// The error function `2/√π ∫₀ˣ e^(-t²) dt`.
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let near = x * polynomial::<FMA, 6>(x * x, ERF);
    let (tail, _) = normal_tail::<FMA>(a * std::f32::consts::SQRT_2);
    let far = fma::<FMA>(-2.0, tail, 1.0).copysign(x);
    if a < 0.75 { near } else { far }
}

/// `(ln(1+f) - f + f²/2) / f³` on √½ ≤ 1+f ≤ √2; error of the logarithm 6e-9.
const LN: [f32; 8] = [
    0.333_333_3,
    -0.250_008_2,
    0.200_012_27,
    -0.166_233_57,
    0.142_017_59,
    -0.131_601_83,
    0.127_615_75,
    -0.076_344_95,
];

/// Natural logarithm.
#[inline(always)]
pub(crate) fn ln<const FMA: bool>(x: f32) -> f32 {
    let small = x < f32::MIN_POSITIVE;
    let scaled = if small { x * 8_388_608.0 } else { x };
    // Subtracting the bits of √½ puts the mantissa's break at √½, so that m ∈ [√½, √2).
    let bits = scaled.to_bits().wrapping_sub(0x3F35_04F3);
    let n = ((bits as i32) >> 23) as f32 - if small { 23.0 } else { 0.0 };
    let f = f32::from_bits((bits & 0x007F_FFFF) + 0x3F35_04F3) - 1.0;
    let z = f * f;
    let low = fma::<FMA>(n, LN2_LOW, z * f * polynomial::<FMA, 8>(f, LN));
    let y = fma::<FMA>(n, LN2_HIGH, f + fma::<FMA>(-0.5, z, low));
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    // Negative or NaN.
    if x >= 0.0 { y } else { f32::NAN }
}

/// Lanes of every reduction, whatever the instruction set, so that the order of additions is one.
pub(crate) const LANES: usize = 32;

/// Adds the lanes up, halving each time.
#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `Σ f(x[i])` in a fixed order.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] += f(chunk[l]);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(tail) {
        *lane += f(v);
    }
    add_lanes(lanes)
}

/// `Σ f(x[i], y[i])` in a fixed order; `x` and `y` are equally long.
#[inline(always)]
pub(crate) fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    debug_assert_eq!(x.len(), y.len());
    let mut lanes = [0.0; LANES];
    let ((xs, x_tail), (ys, y_tail)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            lanes[l] += f(x[l], y[l]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_tail.iter().zip(y_tail)) {
        *lane += f(x, y);
    }
    add_lanes(lanes)
}

/// Largest element; NaN is passed over, -inf for an empty slice.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] = larger(lanes[l], chunk[l]);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(tail) {
        *lane = larger(*lane, v);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
#[path = "simd_tests.rs"]
mod tests;
