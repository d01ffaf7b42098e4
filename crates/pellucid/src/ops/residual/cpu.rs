//! Addition at the speed of memory.
#![allow(unsafe_code)] // disjoint parts of one output go to different threads

use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::multiversion;

/// Elements per unit of work.
const GRAIN: usize = 4096;

multiversion! {
    fn add<const FMA: bool>(x: &[f32], delta: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x.iter().zip(delta)).for_each(|(y, (x, delta))| *y = x + delta);
    }
}
multiversion! {
    fn accumulate_onto<const FMA: bool>(dy: &[f32], d: &mut [f32]) {
        d.iter_mut().zip(dy).for_each(|(d, dy)| *d += dy);
    }
}

/// y (N) = x + delta.
pub(super) fn forward(pool: &Pool, x: &[f32], delta: &[f32], y: &mut [f32]) {
    assert!(x.len() == delta.len() && delta.len() == y.len());
    let out = Ptr(y.as_mut_ptr());
    pool.split(x.len(), GRAIN, &|range| {
        // SAFETY: ranges are disjoint and within x, which is as long as y.
        let y = unsafe { out.slice(range.start, range.len()) };
        add(&x[range.clone()], &delta[range], y);
    });
}

/// d_delta (N) = dy, or += dy.
pub(super) fn backward(pool: &Pool, dy: &[f32], d_delta: &mut [f32], accumulate: bool) {
    assert_eq!(dy.len(), d_delta.len());
    let out = Ptr(d_delta.as_mut_ptr());
    pool.split(dy.len(), GRAIN, &|range| {
        // SAFETY: ranges are disjoint and within dy, which is as long as d_delta.
        let d = unsafe { out.slice(range.start, range.len()) };
        if accumulate {
            accumulate_onto(&dy[range], d);
        } else {
            d.copy_from_slice(&dy[range]);
        }
    });
}
