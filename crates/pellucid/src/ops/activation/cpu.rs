//! Activations over slices: one read and one write per element, vectorised.
//!
//! GELU's value and slope share one exponential: Φ(x) is the density times a Mills ratio ([`simd::normal`]).
//! The tanh form is evaluated as `x · sigmoid(2u)`, which needs no tanh and loses no digits for x < 0.
#![allow(unsafe_code)] // disjoint parts of one output go to different threads
#![cfg_attr(not(test), allow(dead_code))] // slice functions for other rooms

use super::{Activation, GatedDims};
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::{self, fma, multiversion};

/// Elements per unit of work: large enough to hide dispatch, a multiple of every vector and cache line.
const GRAIN: usize = 4096;

/// An activation as a type, so that each gets its own loop.
trait Curve {
    /// `act(x)`.
    fn value<const FMA: bool>(x: f32) -> f32;
    /// `(act(x), act'(x))`.
    fn both<const FMA: bool>(x: f32) -> (f32, f32);
}

struct Gelu;
struct GeluTanh;
struct Relu;
struct ReluSquared;
struct Silu;
struct Tanh;

impl Curve for Gelu {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        x * simd::normal::<FMA>(x).0
    }
    #[inline(always)]
    fn both<const FMA: bool>(x: f32) -> (f32, f32) {
        let (cumulative, density) = simd::normal::<FMA>(x);
        (x * cumulative, fma::<FMA>(x, density, cumulative))
    }
}

/// `2·√(2/π)`.
const TWICE: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

impl Curve for GeluTanh {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        x * simd::sigmoid::<FMA>(TWICE * x * fma::<FMA>(CUBIC * x, x, 1.0))
    }
    #[inline(always)]
    fn both<const FMA: bool>(x: f32) -> (f32, f32) {
        // Beyond ±20 the sigmoid is 0 or 1; the clamp keeps x³ finite.
        let c = if x > 20.0 { 20.0 } else { x };
        let c = if c < -20.0 { -20.0 } else { c };
        let u = TWICE * c * fma::<FMA>(CUBIC * c, c, 1.0);
        let (s, ds) = simd::sigmoid_and_slope::<FMA>(u);
        let slope = TWICE * c * fma::<FMA>(3.0 * CUBIC * c, c, 1.0);
        (x * s, fma::<FMA>(ds, slope, s))
    }
}

impl Curve for Relu {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x }
    }
    #[inline(always)]
    fn both<const FMA: bool>(x: f32) -> (f32, f32) {
        // 1 above 0, 0 elsewhere, but NaN stays.
        let slope = if x > 0.0 { 1.0 } else { 0.0 };
        (Self::value::<FMA>(x), if x.is_nan() { x } else { slope })
    }
}

impl Curve for ReluSquared {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        let r = Relu::value::<FMA>(x);
        r * r
    }
    #[inline(always)]
    fn both<const FMA: bool>(x: f32) -> (f32, f32) {
        let r = Relu::value::<FMA>(x);
        (r * r, r + r)
    }
}

impl Curve for Silu {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        x * simd::sigmoid::<FMA>(x)
    }
    #[inline(always)]
    fn both<const FMA: bool>(x: f32) -> (f32, f32) {
        let (s, ds) = simd::sigmoid_and_slope::<FMA>(x);
        (x * s, fma::<FMA>(x, ds, s))
    }
}

impl Curve for Tanh {
    #[inline(always)]
    fn value<const FMA: bool>(x: f32) -> f32 {
        let far = fma::<FMA>(2.0, simd::sigmoid::<FMA>(2.0 * x), -1.0);
        // Near 0 the difference loses digits: Taylor's series, whose next term is below 1e-7 of the sum.
        let q = x * x;
        let series = fma::<FMA>(q, 62.0 / 2835.0, -17.0 / 315.0);
        let series = fma::<FMA>(q, series, 2.0 / 15.0);
        let series = fma::<FMA>(q, series, -1.0 / 3.0);
        let near = x * fma::<FMA>(q, series, 1.0);
        if q < 0.09 { near } else { far }
    }
    #[inline(always)]
    fn both<const FMA: bool>(x: f32) -> (f32, f32) {
        let y = Self::value::<FMA>(x);
        (y, fma::<FMA>(-y, y, 1.0))
    }
}

multiversion! {
    fn map<const FMA: bool, A: Curve>(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = A::value::<FMA>(x);
        }
    }
}
multiversion! {
    fn map_in_place<const FMA: bool, A: Curve>(x: &mut [f32]) {
        for x in x {
            *x = A::value::<FMA>(*x);
        }
    }
}
multiversion! {
    fn pull<const FMA: bool, A: Curve>(x: &[f32], dy: &[f32], dx: &mut [f32], accumulate: bool) {
        let items = dx.iter_mut().zip(x.iter().zip(dy));
        if accumulate {
            items.for_each(|(dx, (&x, &dy))| *dx += dy * A::both::<FMA>(x).1);
        } else {
            items.for_each(|(dx, (&x, &dy))| *dx = dy * A::both::<FMA>(x).1);
        }
    }
}
multiversion! {
    fn map_and_keep<const FMA: bool, A: Curve>(x: &mut [f32], before: &mut [f32]) {
        for (x, before) in x.iter_mut().zip(before) {
            *before = *x;
            *x = A::value::<FMA>(*x);
        }
    }
}
multiversion! {
    fn pull_over<const FMA: bool, A: Curve>(x: &mut [f32], dy: &[f32]) {
        for (x, &dy) in x.iter_mut().zip(dy) {
            *x = dy * A::both::<FMA>(*x).1;
        }
    }
}
multiversion! {
    fn gate<const FMA: bool, A: Curve>(x: &[f32], y: &mut [f32]) {
        let (gate, up) = x.split_at(y.len());
        for (y, (&gate, &up)) in y.iter_mut().zip(gate.iter().zip(up)) {
            *y = A::value::<FMA>(gate) * up;
        }
    }
}
multiversion! {
    fn pull_gate<const FMA: bool, A: Curve>(x: &[f32], dy: &[f32], dx: &mut [f32], accumulate: bool) {
        let (gate, up) = x.split_at(dy.len());
        let (d_gate, d_up) = dx.split_at_mut(dy.len());
        let operands = gate.iter().zip(up).zip(dy);
        let items = d_gate.iter_mut().zip(d_up).zip(operands);
        if accumulate {
            items.for_each(|((d_gate, d_up), ((&gate, &up), &dy))| {
                let (value, slope) = A::both::<FMA>(gate);
                *d_gate += dy * up * slope;
                *d_up += dy * value;
            });
        } else {
            items.for_each(|((d_gate, d_up), ((&gate, &up), &dy))| {
                let (value, slope) = A::both::<FMA>(gate);
                *d_gate = dy * up * slope;
                *d_up = dy * value;
            });
        }
    }
}

/// Calls a loop with the type that stands for an [`Activation`].
macro_rules! with_curve {
    ($activation:expr, $f:ident($($arg:expr),*)) => {
        match $activation {
            Activation::Gelu => $f::<Gelu>($($arg),*),
            Activation::GeluTanh => $f::<GeluTanh>($($arg),*),
            Activation::Relu => $f::<Relu>($($arg),*),
            Activation::ReluSquared => $f::<ReluSquared>($($arg),*),
            Activation::Silu => $f::<Silu>($($arg),*),
            Activation::Tanh => $f::<Tanh>($($arg),*),
        }
    };
}

/// `y = act(x)` on one thread; equal lengths.
pub(crate) fn apply(activation: Activation, x: &[f32], y: &mut [f32]) {
    debug_assert_eq!(x.len(), y.len());
    with_curve!(activation, map(x, y));
}

/// `x = act(x)` on one thread, such as on the rows of a finished tile.
pub(crate) fn apply_in_place(activation: Activation, x: &mut [f32]) {
    with_curve!(activation, map_in_place(x));
}

/// `dx = dy · act'(x)` (`+=` if `accumulate`) on one thread; equal lengths.
pub(super) fn apply_derivative(
    activation: Activation,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    debug_assert!(x.len() == dy.len() && dy.len() == dx.len());
    with_curve!(activation, pull(x, dy, dx, accumulate));
}

/// `before = x`, `x = act(x)` on one thread; equal lengths.
pub(crate) fn apply_and_keep(activation: Activation, x: &mut [f32], before: &mut [f32]) {
    debug_assert_eq!(x.len(), before.len());
    with_curve!(activation, map_and_keep(x, before));
}

/// `x = dy · act'(x)` on one thread; equal lengths.
pub(crate) fn derivative_in_place(activation: Activation, x: &mut [f32], dy: &[f32]) {
    debug_assert_eq!(x.len(), dy.len());
    with_curve!(activation, pull_over(x, dy));
}

/// `y (N) = act(x (N))`.
pub(super) fn forward(pool: &Pool, activation: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    let out = Ptr(y.as_mut_ptr());
    pool.split(x.len(), GRAIN, &|range| {
        // SAFETY: ranges are disjoint and within x, which is as long as y.
        let y = unsafe { out.slice(range.start, range.len()) };
        apply(activation, &x[range], y);
    });
}

/// `dx (N) = dy · act'(x)`.
pub(super) fn backward(
    pool: &Pool,
    activation: Activation,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    assert!(x.len() == dy.len() && dy.len() == dx.len());
    let out = Ptr(dx.as_mut_ptr());
    pool.split(x.len(), GRAIN, &|range| {
        // SAFETY: ranges are disjoint and within x, which is as long as dx.
        let dx = unsafe { out.slice(range.start, range.len()) };
        apply_derivative(activation, &x[range.clone()], &dy[range], dx, accumulate);
    });
}

/// `y (N, F) = act(gate) · up` from `x = [gate | up] (N, 2F)`.
pub(super) fn gated_forward(
    pool: &Pool,
    activation: Activation,
    dims: GatedDims,
    x: &[f32],
    y: &mut [f32],
) {
    let GatedDims { n, f } = dims;
    assert!(x.len() == n * 2 * f && y.len() == n * f);
    let out = Ptr(y.as_mut_ptr());
    pool.split(n, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; y has n rows of f elements.
            let y = unsafe { out.slice(row * f, f) };
            with_curve!(activation, gate(&x[row * 2 * f..][..2 * f], y));
        }
    });
}

/// `dx (N, 2F)`: `d_gate = dy · up · act'(gate)`, `d_up = dy · act(gate)`.
pub(super) fn gated_backward(
    pool: &Pool,
    activation: Activation,
    dims: GatedDims,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    let GatedDims { n, f } = dims;
    assert!(x.len() == n * 2 * f && dx.len() == x.len() && dy.len() == n * f);
    let out = Ptr(dx.as_mut_ptr());
    pool.split(n, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; dx has n rows of 2f elements.
            let dx = unsafe { out.slice(row * 2 * f, 2 * f) };
            let (x, dy) = (&x[row * 2 * f..][..2 * f], &dy[row * f..][..f]);
            with_curve!(activation, pull_gate(x, dy, dx, accumulate));
        }
    });
}
