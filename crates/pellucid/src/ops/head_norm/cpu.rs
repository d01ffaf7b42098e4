//! Rows are split over threads; for the weights' gradients columns are, so that each sum has one order.
#![allow(unsafe_code)] // rows, and columns, of one buffer go to several threads

use super::HeadNormDims;
use crate::autograd::Grad;
use crate::backend::cpu::pool::{Pool, Ptr};

/// Heads of a row with what is kept of each.
const GRAIN: usize = 8;

/// Normalises `rows` in place and keeps x̂ and rstd.
pub(super) fn forward(
    pool: &Pool,
    dims: HeadNormDims,
    eps: f32,
    weights: [&[f32]; 2],
    rows: &mut [f32],
    (hat, rstd): (&mut [f32], &mut [f32]),
) {
    let HeadNormDims { n, h, d, .. } = dims;
    let heads = dims.heads();
    assert!(rows.len() == n * dims.row() && hat.len() == n * heads * d && rstd.len() == n * heads);
    let (rows, hat, rstd) = (Ptr(rows.as_mut_ptr()), Ptr(hat.as_mut_ptr()), Ptr(rstd.as_mut_ptr()));
    pool.split(n, GRAIN, &|range| {
        for head in range.start * heads..range.end * heads {
            let (row, at) = (head / heads, head % heads);
            // SAFETY: each row and its heads belong to one range; lengths were checked.
            let (x, hat, rstd) = unsafe {
                (
                    rows.slice(row * dims.row() + at * d, d),
                    hat.slice(head * d, d),
                    rstd.slice(head, 1),
                )
            };
            let square: f32 = x.iter().map(|x| x * x).sum();
            rstd[0] = 1.0 / (square / d as f32 + eps).sqrt();
            let weight = weights[usize::from(at >= h)];
            for ((x, hat), w) in x.iter_mut().zip(hat).zip(weight) {
                *hat = *x * rstd[0];
                *x = *hat * w;
            }
        }
    });
}

/// Turns the gradient of the rows after into that of the rows before, in place.
pub(super) fn backward(
    pool: &Pool,
    dims: HeadNormDims,
    weights: [&[f32]; 2],
    (hat, rstd): (&[f32], &[f32]),
    rows: &mut [f32],
) {
    let HeadNormDims { n, h, d, .. } = dims;
    let heads = dims.heads();
    assert!(rows.len() == n * dims.row());
    let rows = Ptr(rows.as_mut_ptr());
    pool.split(n, GRAIN, &|range| {
        for head in range.start * heads..range.end * heads {
            let (row, at) = (head / heads, head % heads);
            // SAFETY: each row belongs to one range; its length was checked.
            let dy = unsafe { rows.slice(row * dims.row() + at * d, d) };
            let (hat, weight) = (&hat[head * d..][..d], weights[usize::from(at >= h)]);
            let along: f32 =
                dy.iter().zip(weight).zip(hat).map(|((dy, w), hat)| dy * w * hat).sum();
            let along = along / d as f32;
            for ((dy, w), hat) in dy.iter_mut().zip(weight).zip(hat) {
                *dy = rstd[head] * (w * *dy - hat * along);
            }
        }
    });
}

/// The gradient of the queries' weights (`which` = 0) or the keys'.
pub(super) fn weight(
    pool: &Pool,
    dims: HeadNormDims,
    which: usize,
    hat: &[f32],
    dy: &[f32],
    grad: Grad<'_>,
) {
    let HeadNormDims { n, h, d, .. } = dims;
    let heads = dims.heads();
    assert_eq!(grad.data.len(), d);
    let (own, out, accumulate) =
        (if which == 0 { 0..h } else { h..heads }, Ptr(grad.data.as_mut_ptr()), grad.accumulate);
    pool.split(d, 16, &|columns| {
        // SAFETY: ranges of columns are disjoint and within the weights.
        let out = unsafe { out.slice(columns.start, columns.len()) };
        if !accumulate {
            out.fill(0.0);
        }
        for row in 0..n {
            for at in own.clone() {
                let dy = &dy[row * dims.row() + at * d..][columns.clone()];
                let hat = &hat[(row * heads + at) * d..][columns.clone()];
                out.iter_mut().zip(dy.iter().zip(hat)).for_each(|(w, (dy, hat))| *w += dy * hat);
            }
        }
    });
}
