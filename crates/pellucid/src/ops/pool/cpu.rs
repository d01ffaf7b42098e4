//! Rows of the batch are split over threads. Bound by memory.
#![allow(unsafe_code)] // rows of one buffer go to several threads

use super::Pool;
use crate::backend::cpu::pool::{self, Ptr};

/// `y (B, C)` from `x (B, T, C)`; lengths must have been checked.
pub(super) fn forward(threads: &pool::Pool, op: &Pool, lengths: &[i32], x: &[f32], y: &mut [f32]) {
    let Pool { b, t, c, kind } = *op;
    assert!(x.len() == b * t * c && y.len() == b * c && lengths.len() == b);
    let out = Ptr(y.as_mut_ptr());
    threads.split(b, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; y has b rows of c elements.
            let y = unsafe { out.slice(row * c, c) };
            let positions = kind.positions(lengths[row] as usize);
            let share = 1.0 / positions.len() as f32;
            y.fill(0.0);
            for p in positions {
                y.iter_mut().zip(&x[(row * t + p) * c..][..c]).for_each(|(y, x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y *= share);
        }
    });
}

/// `dx (B, T, C)` from `dy (B, C)`.
pub(super) fn backward(
    threads: &pool::Pool,
    op: &Pool,
    lengths: &[i32],
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    let Pool { b, t, c, kind } = *op;
    assert!(dx.len() == b * t * c && dy.len() == b * c && lengths.len() == b);
    let out = Ptr(dx.as_mut_ptr());
    threads.split(b, 1, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range; dx has b rows of t·c elements.
            let dx = unsafe { out.slice(row * t * c, t * c) };
            if !accumulate {
                dx.fill(0.0);
            }
            let positions = kind.positions(lengths[row] as usize);
            let share = 1.0 / positions.len() as f32;
            for p in positions {
                let dy = &dy[row * c..][..c];
                dx[p * c..][..c].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += share * dy);
            }
        }
    });
}
