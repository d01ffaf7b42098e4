#![allow(unsafe_code)] // rows and columns of one buffer go to several threads
//! Between the matrix products: three passes over a row of logits while it is in cache (largest; exponentials and
//! their sum, in place; scaling to the gradient). Each row is one thread's, so thread count changes no bit.

use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::{LANES, exp, max, multiversion, sum};

/// What fixes the loss of a row.
pub(super) struct Loss {
    /// Vocabulary.
    pub(super) v: usize,
    /// Label smoothing.
    pub(super) smoothing: f32,
    /// Weight of the squared log-sum-exp.
    pub(super) z_loss: f32,
    /// The target that excludes its row.
    pub(super) ignore: i32,
    /// With a value: logits become gradients times it.
    pub(super) scale: Option<f32>,
}

impl Loss {
    /// `losses (rows)` from `z (rows, V)`, which is spoiled: it becomes its gradient, or exponentials.
    pub(super) fn rows(&self, pool: &Pool, targets: &[i32], z: &mut [f32], losses: &mut [f32]) {
        let v = self.v;
        debug_assert!(z.len() == targets.len() * v && losses.len() == targets.len());
        let (z, losses) = (Ptr(z.as_mut_ptr()), Ptr(losses.as_mut_ptr()));
        pool.split(targets.len(), (4096 / v.max(1)).max(1), &|rows| {
            for i in rows {
                // SAFETY: row `i` of both belongs to this range only; lengths are asserted above.
                let (z, loss) = unsafe { (z.slice(i * v, v), z_loss_slot(losses, i)) };
                *loss = if targets[i] == self.ignore {
                    if self.scale.is_some() {
                        z.fill(0.0);
                    }
                    0.0
                } else {
                    self.row(z, targets[i] as usize)
                };
            }
        });
    }

    fn row(&self, z: &mut [f32], target: usize) -> f32 {
        let (v, eps) = (f64::from(self.v as u32), f64::from(self.smoothing));
        let chosen = f64::from(z[target]);
        let (largest, total) = max_and_sum(z, self.smoothing != 0.0);
        let exponentials = exponentials(z, largest);
        let lse = f64::from(largest) + exponentials.ln();
        let z_loss = f64::from(self.z_loss);
        let loss = lse - (1.0 - eps) * chosen - eps * f64::from(total) / v + z_loss * lse * lse;
        if let Some(scale) = self.scale {
            let scale = f64::from(scale);
            let factor = scale * (1.0 + 2.0 * z_loss * lse) / exponentials;
            gradient(z, factor as f32, (scale * eps / v) as f32);
            z[target] -= (scale * (1.0 - eps)) as f32;
        }
        loss as f32
    }
}

/// # Safety
/// As [`Ptr::slice`].
unsafe fn z_loss_slot<'a>(losses: Ptr<f32>, i: usize) -> &'a mut f32 {
    // SAFETY: the caller's promise.
    unsafe { &mut losses.slice(i, 1)[0] }
}

multiversion! {
    /// The largest element, and the sum if it is wanted.
    fn max_and_sum<const FMA: bool>(z: &[f32], want_sum: bool) -> (f32, f32) {
        (max(z), if want_sum { sum(z, |x| x) } else { 0.0 })
    }
}

multiversion! {
    /// `z = e^(z - largest)`; returns the sum. NaN in, NaN out.
    fn exponentials<const FMA: bool>(z: &mut [f32], largest: f32) -> f64 {
        let mut lanes = [0.0f32; LANES];
        let (chunks, tail) = z.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for l in 0..LANES {
                chunk[l] = exp::<FMA>(chunk[l] - largest);
                lanes[l] += chunk[l];
            }
        }
        for (lane, z) in lanes.iter_mut().zip(tail) {
            *z = exp::<FMA>(*z - largest);
            *lane += *z;
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum()
    }
}

multiversion! {
    /// `z = z·factor - minus`.
    fn gradient<const FMA: bool>(z: &mut [f32], factor: f32, minus: f32) {
        for z in z {
            *z = *z * factor - minus;
        }
    }
}

multiversion! {
    /// `y += x`.
    pub(super) fn add<const FMA: bool>(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// `sums (V) = Σ rows of z (rows, V)`, or `+=`; rows in order, threads own columns.
pub(super) fn column_sums(pool: &Pool, z: &[f32], sums: &mut [f32], accumulate: bool) {
    let v = sums.len();
    let sums = Ptr(sums.as_mut_ptr());
    pool.split(v, 512, &|columns| {
        for start in columns.clone().step_by(512) {
            let len = 512.min(columns.end - start);
            // SAFETY: these columns belong to this range only and are inside `sums`.
            let sums = unsafe { sums.slice(start, len) };
            if !accumulate {
                sums.fill(0.0);
            }
            for row in z.chunks_exact(v) {
                add(sums, &row[start..start + len]);
            }
        }
    });
}
