//! Rows of scores to rows of probabilities, each while it is in cache.

use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::{exp, max, multiversion, sum, sum2};

multiversion! {
    fn softmax_row<const FMA: bool>(x: &[f32], p: &mut [f32]) {
        let largest = max(x);
        if largest == f32::NEG_INFINITY {
            // Nothing may be seen; `max` passed over NaN, which must not vanish.
            let value = if x.iter().any(|x| x.is_nan()) { f32::NAN } else { 0.0 };
            return p.fill(value);
        }
        p.iter_mut().zip(x).for_each(|(p, x)| *p = exp::<FMA>(x - largest));
        let share = 1.0 / sum(p, |p| p);
        p.iter_mut().for_each(|p| *p *= share);
    }
}
multiversion! {
    /// A probability of 0 is a constant, whatever its gradient.
    fn d_softmax_row<const FMA: bool>(p: &[f32], dp: &[f32], dx: &mut [f32], accumulate: bool) {
        let mean = sum2(p, dp, |p, dp| if p == 0.0 { 0.0 } else { p * dp });
        let value = |p: f32, dp: f32| if p == 0.0 { 0.0 } else { p * (dp - mean) };
        let items = dx.iter_mut().zip(p.iter().zip(dp));
        if accumulate {
            items.for_each(|(dx, (p, dp))| *dx += value(*p, *dp));
        } else {
            items.for_each(|(dx, (p, dp))| *dx = value(*p, *dp));
        }
    }
}

/// Probabilities of rows of `s` scores.
pub(in crate::ops::attention_steps) fn softmax(pool: &Pool, s: usize, x: &[f32], p: &mut [f32]) {
    assert_eq!(x.len(), p.len());
    let (rows, out) = (x.len() / s, Ptr(p.as_mut_ptr()));
    pool.split(rows, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; p is as long as x.
            softmax_row(&x[row * s..][..s], unsafe { out.slice(row * s, s) });
        }
    });
}

/// Gradient of the scores.
pub(in crate::ops::attention_steps) fn d_softmax(
    pool: &Pool,
    s: usize,
    p: &[f32],
    dp: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    assert!(p.len() == dx.len() && dp.len() == dx.len());
    let (rows, out) = (p.len() / s, Ptr(dx.as_mut_ptr()));
    pool.split(rows, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; dx is as long as p.
            let dx = unsafe { out.slice(row * s, s) };
            d_softmax_row(&p[row * s..][..s], &dp[row * s..][..s], dx, accumulate);
        }
    });
}
