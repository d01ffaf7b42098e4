#![allow(unsafe_code)] // rows and columns of one buffer go to several threads
//! Between the matrix products: passes over a row of logits while it is in cache. Each row is one thread's, so thread
//! count changes no bit.

use super::LinearCrossEntropy;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::{LANES, exp, max, multiversion, sum};
use std::ops::Range;

/// Numbers kept of a row between chunks of columns, two f32 for each sum so that many chunks lose nothing:
/// largest logit, sum of exponentials (2), sum of logits (2), the target's logit. After [`losses`]: largest, factor of
/// the exponentials, what every column loses, what the target loses.
pub(super) const STATE: usize = 6;

/// The state of rows of which nothing was seen.
pub(super) fn begin(state: &mut [f32]) {
    for row in state.as_chunks_mut::<STATE>().0 {
        *row = [f32::NEG_INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0];
    }
}

/// An f64 as two f32.
fn halves(x: f64) -> [f32; 2] {
    let high = x as f32;
    [high, if high.is_finite() { (x - f64::from(high)) as f32 } else { 0.0 }]
}

fn whole(high: f32, low: f32) -> f64 {
    f64::from(high) + f64::from(low)
}

/// Some columns of some rows.
pub(super) struct Chunk<'a> {
    pub(super) pool: &'a Pool,
    /// Of the rows.
    pub(super) targets: &'a [i32],
    pub(super) columns: Range<usize>,
}

impl Chunk<'_> {
    /// Adds the logits `z (rows, columns)` to what is known of their rows.
    pub(super) fn statistics(&self, op: &LinearCrossEntropy, z: &[f32], state: &mut [f32]) {
        let (v, state) = (self.columns.len(), Ptr(state.as_mut_ptr()));
        self.each_row(op, &|i| {
            let z = &z[i * v..][..v];
            // SAFETY: row `i` belongs to this call only; `sweep` sized the state.
            let state = unsafe { state.slice(i * STATE, STATE) };
            let (here, total) = max_and_sum(z, op.smoothing != 0.0);
            // A larger logit shrinks the sum so far; -inf and NaN alone must not make it NaN, or hide one.
            let largest = state[0].max(here);
            let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
            let before = (f64::from(state[0]) - f64::from(shift)).exp();
            let sum = whole(state[1], state[2]) * before + sum_of_exponentials(z, shift);
            [state[1], state[2]] = halves(sum);
            [state[3], state[4]] = halves(whole(state[3], state[4]) + f64::from(total));
            state[0] = largest;
            if let Some(target) = self.target(i) {
                state[5] = z[target];
            }
        });
    }

    /// Logits to gradients, by the state that [`losses`] left.
    pub(super) fn gradient(&self, op: &LinearCrossEntropy, z: &mut [f32], state: &[f32]) {
        let (v, z) = (self.columns.len(), Ptr(z.as_mut_ptr()));
        self.each_row(op, &|i| {
            // SAFETY: row `i` belongs to this call only; `z` is (rows, columns).
            let z = unsafe { z.slice(i * v, v) };
            if self.targets[i] == op.ignore {
                return z.fill(0.0);
            }
            let state = &state[i * STATE..][..STATE];
            gradient(z, state[0], state[1], state[2]);
            if let Some(target) = self.target(i) {
                z[target] -= state[3];
            }
        });
    }

    /// Row `i`'s target, if it is among these columns.
    fn target(&self, i: usize) -> Option<usize> {
        let target = usize::try_from(self.targets[i]).ok()?;
        self.columns.contains(&target).then(|| target - self.columns.start)
    }

    fn each_row(&self, op: &LinearCrossEntropy, work: &(dyn Fn(usize) + Sync)) {
        let grain = (4096 / self.columns.len().max(1)).max(1);
        debug_assert!(self.columns.end <= op.v);
        self.pool.split(self.targets.len(), grain, &|rows| rows.for_each(work));
    }
}

/// `losses (rows)`, and in the state what the gradient times `scale` needs.
pub(super) fn losses(
    op: &LinearCrossEntropy,
    targets: &[i32],
    state: &mut [f32],
    losses: &mut [f32],
    scale: f32,
) {
    let (v, eps) = (f64::from(op.v as u32), f64::from(op.smoothing));
    let (scale, zeta) = (f64::from(scale), f64::from(op.z_loss));
    let rows = state.as_chunks_mut::<STATE>().0.iter_mut();
    for (row, (loss, &target)) in rows.zip(losses.iter_mut().zip(targets)) {
        if target == op.ignore {
            *loss = 0.0;
            continue;
        }
        let (sum, total) = (whole(row[1], row[2]), whole(row[3], row[4]));
        let lse = f64::from(row[0]) + sum.ln();
        let chosen = f64::from(row[5]);
        *loss = (lse - (1.0 - eps) * chosen - eps * total / v + zeta * lse * lse) as f32;
        row[1] = (scale * (1.0 + 2.0 * zeta * lse) / sum) as f32;
        row[2] = (scale * eps / v) as f32;
        row[3] = (scale * (1.0 - eps)) as f32;
    }
}

multiversion! {
    /// The largest element, and the sum if it is wanted.
    fn max_and_sum<const FMA: bool>(z: &[f32], want_sum: bool) -> (f32, f32) {
        (max(z), if want_sum { sum(z, |x| x) } else { 0.0 })
    }
}

multiversion! {
    /// `Σ e^(z - largest)`. NaN in, NaN out.
    fn sum_of_exponentials<const FMA: bool>(z: &[f32], largest: f32) -> f64 {
        let mut lanes = [0.0f32; LANES];
        let (chunks, tail) = z.as_chunks::<LANES>();
        for chunk in chunks {
            for l in 0..LANES {
                lanes[l] += exp::<FMA>(chunk[l] - largest);
            }
        }
        for (lane, z) in lanes.iter_mut().zip(tail) {
            *lane += exp::<FMA>(*z - largest);
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum()
    }
}

multiversion! {
    /// `z = e^(z - largest)·factor - minus`.
    fn gradient<const FMA: bool>(z: &mut [f32], largest: f32, factor: f32, minus: f32) {
        for z in z {
            *z = exp::<FMA>(*z - largest) * factor - minus;
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
