#![allow(unsafe_code)] // ranges of one buffer go to several threads
//! One pass over four arrays; bound by memory. Nothing is fused into multiply-adds, so every instruction set and
//! every thread count gives the same bits.

use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::multiversion;

/// Everything that is the same for all elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    pub(super) keep: f32,
    pub(super) multiplier: f32,
    pub(super) new1: f32,
    pub(super) beta2: f32,
    pub(super) new2: f32,
    pub(super) root: f32,
    pub(super) eps: f32,
    pub(super) rate: f32,
}

/// Lengths have been checked.
pub(super) fn update(
    pool: &Pool,
    factors: &Factors,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let n = p.len();
    let (p, m, v) = (Ptr(p.as_mut_ptr()), Ptr(m.as_mut_ptr()), Ptr(v.as_mut_ptr()));
    pool.split(n, 4096, &|range| {
        let (start, len) = (range.start, range.len());
        // SAFETY: ranges are disjoint and inside all three slices, whose lengths the caller compared.
        let (p, m, v) = unsafe { (p.slice(start, len), m.slice(start, len), v.slice(start, len)) };
        elements(factors, p, &g[range], m, v);
    });
}

multiversion! {
    fn elements<const FMA: bool>(f: &Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let f = *f;
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * f.multiplier;
            *m += (g - *m) * f.new1;
            *v = *v * f.beta2 + g * g * f.new2;
            let denominator = v.sqrt() / f.root + f.eps;
            *p = *p * f.keep - f.rate * (*m / denominator);
        }
    }
}

/// Writes `Σ g²` of block `i` to `to[first + i]`.
pub(super) fn squares(blocks: &[&[f32]], to: Ptr<f64>, first: usize) {
    // SAFETY: the caller gives every range of blocks to one thread, and `to` has a place for each block.
    let sums = unsafe { to.slice(first, blocks.len()) };
    for (sum, block) in sums.iter_mut().zip(blocks) {
        *sum = sum_of_squares(block);
    }
}

multiversion! {
    fn sum_of_squares<const FMA: bool>(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; 16];
        let (chunks, tail) = x.as_chunks::<16>();
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(tail) {
            *lane += f64::from(x) * f64::from(x);
        }
        lanes.iter().sum()
    }
}
