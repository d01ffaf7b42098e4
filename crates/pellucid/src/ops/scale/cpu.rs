//! At the speed of memory.
#![allow(unsafe_code)] // disjoint parts of one buffer go to different threads

use crate::backend::cpu::pool::{Pool, Ptr};

/// Elements per unit of work.
const GRAIN: usize = 4096;

/// `x = factor · x`.
pub(super) fn scale(pool: &Pool, factor: f32, x: &mut [f32]) {
    let (len, x) = (x.len(), Ptr(x.as_mut_ptr()));
    pool.split(len, GRAIN, &|range| {
        // SAFETY: ranges are disjoint and inside x.
        unsafe { x.slice(range.start, range.len()) }.iter_mut().for_each(|x| *x *= factor);
    });
}
