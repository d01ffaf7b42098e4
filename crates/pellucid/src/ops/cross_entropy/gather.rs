//! Rows that count, side by side. Of a masked language model few do, and products over the others are for nothing.

use super::LinearCrossEntropy;
use super::cpu;
use super::sweep::{Gradients, Sweep};
use crate::autograd::Grad;
use crate::backend::cpu::pool::Pool;

/// The most rows that are moved: where more count, moving them gains less than it costs.
fn most(n: usize) -> usize {
    n * 3 / 4
}

/// Whether `count` rows of `n` are worth moving.
pub(super) fn worth(n: usize, count: usize) -> bool {
    (1..=most(n)).contains(&count)
}

/// Floats for vectors, their gradients, targets and losses of the rows that are moved.
pub(super) fn scratch(op: &LinearCrossEntropy) -> usize {
    most(op.n) * (2 * op.c + 2)
}

/// As [`Sweep::run`] of all rows; `count` of them count.
pub(super) fn run(
    op: &LinearCrossEntropy,
    pool: &Pool,
    (x, params, targets): (&[f32], &[&[f32]], &[i32]),
    count: usize,
    (losses, scratch): (&mut [f32], &mut [f32]),
    scale: Option<f32>,
    gradients: Gradients<'_>,
) {
    let c = op.c;
    let (near_x, rest) = scratch.split_at_mut(count * c);
    let (near_dx, rest) = rest.split_at_mut(count * c);
    let (near_targets, rest) = rest.split_at_mut(count);
    let (near_losses, rest) = rest.split_at_mut(count);
    let near_targets: &mut [i32] = bytemuck::cast_slice_mut(near_targets);
    let counted = || (0..op.n).filter(|&i| targets[i] != op.ignore).enumerate();
    for (to, from) in counted() {
        near_x[to * c..][..c].copy_from_slice(&x[from * c..][..c]);
        near_targets[to] = targets[from];
    }
    let Gradients { mut dx, dw, db } = gradients;
    let wanted = dx.as_ref().map(|_| Grad { data: &mut *near_dx, accumulate: false });
    let near = LinearCrossEntropy { n: count, ..op.clone() };
    let sweep = Sweep::new(&near, pool, near_x, params, near_targets);
    sweep.run(near_losses, rest, scale, Gradients { dx: wanted, dw, db });
    losses.fill(0.0);
    counted().for_each(|(from, to)| losses[to] = near_losses[from]);
    // Without a scale nobody asked for gradients.
    let Some(Grad { data, accumulate }) = dx.as_mut().filter(|_| scale.is_some()) else { return };
    if !*accumulate {
        data.fill(0.0);
    }
    for (from, to) in counted() {
        cpu::add(&mut data[to * c..][..c], &near_dx[from * c..][..c]);
    }
}
