//! Forward, between the products: a block's scores to exponentials.
#![allow(unsafe_code)] // raw blocks and tiles

use super::kernel::{PANEL, TILE};
use super::lanes::{exp2, put, split};
use super::rows::Looks;
use crate::ops::attention::cpu::LANES;
use std::arch::x86_64::*;

/// A panel's softmax at a tile of keys, for each half of its rows.
pub(super) struct Softmax {
    pub(super) looks: [Looks; 2],
    /// What exponentials refer to.
    pub(super) reference: [__m512; 2],
    /// Sums before this tile, and of it.
    pub(super) before: [__m512; 2],
    pub(super) sums: [__m512; 2],
}

/// Raises `largest` (four chains for each half) to the scores of a block of keys from `s0` on.
///
/// # Safety
/// `scores` holds a block.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn find_largest<const MASKED: bool>(
    scores: *const f32,
    looks: &[Looks; 2],
    s0: usize,
    largest: &mut [[__m512; 4]; 2],
) {
    for s in (0..PANEL).step_by(4) {
        for chain in 0..4 {
            for half in 0..2 {
                // SAFETY: inside the block.
                let x = unsafe { _mm512_loadu_ps(scores.add((s + chain) * PANEL + half * LANES)) };
                let m = &mut largest[half][chain];
                *m = if MASKED {
                    _mm512_mask_max_ps(*m, looks[half].at(s0 + s + chain), *m, x)
                } else {
                    _mm512_max_ps(*m, x)
                };
            }
        }
    }
}

/// A block of scores to exponentials, a step of a right operand at `p`.
///
/// # Safety
/// `scores` and `kept` hold a block, `p` a step.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
pub(super) unsafe fn exponentials<const TERMS: usize, const MASKED: bool, const DROPPED: bool>(
    scores: *const f32,
    p: *mut u8,
    softmax: &mut Softmax,
    s0: usize,
    kept: *const f32,
) {
    let mut sums = softmax.sums;
    for s in (0..PANEL).step_by(2) {
        for half in 0..2 {
            let e = |s: usize| {
                let at = s * PANEL + half * LANES;
                // SAFETY: inside the blocks.
                unsafe {
                    let x = _mm512_sub_ps(_mm512_loadu_ps(scores.add(at)), softmax.reference[half]);
                    let mut e = exp2::<TERMS>(x);
                    if MASKED {
                        e = _mm512_maskz_mov_ps(softmax.looks[half].at(s0 + s), e);
                    }
                    let kept = if DROPPED { _mm512_loadu_ps(kept.add(at)) } else { e };
                    (e, if DROPPED { _mm512_mul_ps(e, kept) } else { e })
                }
            };
            let ((e0, p0), (e1, p1)) = (e(s), e(s + 1));
            sums[half] = _mm512_add_ps(sums[half], _mm512_add_ps(e0, e1));
            let (p0, p1) = (split::<TERMS, true>(p0), split::<TERMS, true>(p1));
            // SAFETY: inside the step.
            unsafe { put::<TERMS, true>(&p0, &p1, p.add(half * TILE + s / 2 * 64)) };
        }
    }
    softmax.sums = sums;
}
