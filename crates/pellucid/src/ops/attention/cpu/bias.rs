//! What is added to scores by distance: ALiBi's slopes and relative biases.
#![allow(unsafe_code)] // rows of raw tiles; each pair's own rows of the gradient

use super::simd::{Isa, LANES};
use super::{AttentionDims, Call};
use crate::backend::cpu::pool::Ptr;
use crate::ops::attention::relative::{place, span};
use crate::ops::attention::slope;
use std::f32::consts::LOG2_E;

/// Biases by distance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Biases<'a> {
    /// `(H, span)`.
    pub(crate) values: &'a [f32],
    /// `(B, H, span)`, to which gradients are added.
    pub(crate) gradient: Option<Ptr<f32>>,
}

/// Where column 0 of the tile of keys from `s0` on stands in a row of `(.., span)`; `None` for a query beyond the keys,
/// which looks at nothing.
fn start(dims: &AttentionDims, position: usize, s0: usize) -> Option<usize> {
    (position < dims.s).then(|| place(dims, s0 as isize - position as isize))
}

/// Adds what the model adds to scores of `head` by distance, to columns `c0..c1` of the row of query `t` of batch row
/// `b`, in base 2.
#[inline(always)]
pub(super) unsafe fn lean<I: Isa>(
    call: &Call<'_>,
    p: *mut f32,
    (c0, c1): (usize, usize),
    (b, head, t, s0): (usize, usize, usize, usize),
) {
    if call.alibi {
        let position = call.past(b) as f32 + t as f32 - s0 as f32;
        // SAFETY: the columns are in the row.
        unsafe { fall::<I>(p, (c0, c1), (-slope(head, call.dims.h) * LOG2_E, position)) };
    }
    if let Some(biases) = call.biases
        && let Some(start) = start(&call.dims, call.past(b) + t, s0)
    {
        let row = &biases.values[head * span(&call.dims) + start + c0..][..c1 - c0];
        // SAFETY: the columns are in the row of scores; those of biases were cut out.
        unsafe {
            for c in (c0..c1).step_by(LANES) {
                let bias = I::load(row[c - c0..].as_ptr());
                let p = p.add(c);
                I::store(p, I::fma(I::splat(LOG2_E), bias, I::load(p)));
            }
        }
    }
}

/// Adds `slope * |s - position|` to the scores in columns `c0..c1`.
#[inline(always)]
unsafe fn fall<I: Isa>(p: *mut f32, (c0, c1): (usize, usize), (slope, position): (f32, f32)) {
    let lanes: [f32; LANES] = std::array::from_fn(|i| i as f32);
    // SAFETY: the columns are in the row.
    unsafe {
        for c in (c0..c1).step_by(LANES) {
            let at = I::sub(I::load(lanes.as_ptr()), I::splat(position - c as f32));
            let away = I::max(at, I::sub(I::splat(0.0), at));
            I::store(p.add(c), I::fma(I::splat(slope), away, I::load(p.add(c))));
        }
    }
}

/// Adds the scores' gradients in columns `lo..hi` to those of the biases. Whoever owns `(b, head)` may call it.
#[inline(always)]
pub(super) unsafe fn collect(
    call: &Call<'_>,
    ds: *const f32,
    (lo, hi): (usize, usize),
    (b, head, t, s0): (usize, usize, usize, usize),
) {
    let Some(gradient) = call.biases.and_then(|b| b.gradient) else { return };
    let Some(start) = start(&call.dims, call.past(b) + t, s0) else { return };
    let at = (b * call.dims.h + head) * span(&call.dims) + start + lo;
    // SAFETY: the columns are in the row, the row of gradients is this pair's own.
    unsafe {
        let ds = std::slice::from_raw_parts(ds.add(lo), hi - lo);
        gradient.slice(at, hi - lo).iter_mut().zip(ds).for_each(|(to, ds)| *to += ds);
    }
}
