//! At the speed of memory.
#![allow(unsafe_code)] // disjoint parts of one output go to different threads

use crate::backend::cpu::pool::{Pool, Ptr};

/// Elements per unit of work.
const GRAIN: usize = 4096;

/// `y = factor · x`, or `+=`.
pub(super) fn scale(pool: &Pool, factor: f32, x: &[f32], y: &mut [f32], accumulate: bool) {
    assert_eq!(x.len(), y.len());
    let out = Ptr(y.as_mut_ptr());
    pool.split(x.len(), GRAIN, &|range| {
        // SAFETY: ranges are disjoint and within x, which is as long as y.
        let y = unsafe { out.slice(range.start, range.len()) };
        let both = y.iter_mut().zip(&x[range]);
        if accumulate {
            both.for_each(|(y, x)| *y += factor * x);
        } else {
            both.for_each(|(y, x)| *y = factor * x);
        }
    });
}
