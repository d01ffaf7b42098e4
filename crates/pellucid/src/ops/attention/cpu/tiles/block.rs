//! Backward, between the products: a block's scores and dP to P and dS, in the forms the products want.
#![allow(unsafe_code)] // raw blocks and tiles

use super::kernel::{PANEL, TILE};
use super::lanes::{Split, exp2, put, split};
use super::rows::Looks;
use crate::ops::attention::cpu::LANES;
use std::arch::x86_64::*;

/// A block of scores `(32 keys from s on, 32 rows)` and what its rows know.
pub(super) struct Block {
    pub(super) scores: *const f32,
    /// Gradients of the probabilities.
    pub(super) dp: *const f32,
    /// Dropout factors.
    pub(super) kept: *const f32,
    pub(super) s: usize,
    pub(super) looks: [Looks; 2],
    /// Log-sum-exp in base 2.
    pub(super) lse: [__m512; 2],
    /// `rowsum(dO O)`
    pub(super) delta: [__m512; 2],
}

/// Where a block's results go, each a step of a panel.
#[derive(Clone, Copy)]
pub(super) struct Forms {
    /// P and dS as left operands, keys down.
    pub(super) p: *mut u8,
    pub(super) ds: *mut u8,
    /// dS as a right operand, keys down.
    pub(super) ds_right: *mut u8,
}

impl Forms {
    /// Nobody looks.
    ///
    /// # Safety
    /// `bytes` are writable at each.
    pub(super) unsafe fn clear(self, bytes: usize) {
        for form in [self.p, self.ds, self.ds_right] {
            // SAFETY: the caller's promise.
            unsafe { form.write_bytes(0, bytes) };
        }
    }
}

/// `P = exp(scores - lse)`, `dS = P (W dP - delta)` with the dropout factors `W`; what goes to dV is `P W`.
///
/// # Safety
/// Blocks are readable; a step is writable at each form.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
pub(super) unsafe fn differentiate<const TERMS: usize, const MASKED: bool, const DROPPED: bool>(
    x: &Block,
    forms: Forms,
) {
    for s in (0..PANEL).step_by(2) {
        let zero: Split = [_mm512_setzero_si512(); 3];
        let (mut p, mut ds) = ([[zero; 2]; 2], [[zero; 2]; 2]);
        for i in 0..2 {
            for half in 0..2 {
                let at = (s + i) * PANEL + half * LANES;
                // SAFETY: inside the blocks.
                unsafe {
                    let score = _mm512_loadu_ps(x.scores.add(at));
                    let mut dp = _mm512_loadu_ps(x.dp.add(at));
                    let mut e = exp2::<TERMS>(_mm512_sub_ps(score, x.lse[half]));
                    let mut dropped = e;
                    if DROPPED {
                        let kept = _mm512_loadu_ps(x.kept.add(at));
                        dp = _mm512_mul_ps(dp, kept);
                        dropped = _mm512_mul_ps(e, kept);
                    }
                    let mut d = _mm512_mul_ps(e, _mm512_sub_ps(dp, x.delta[half]));
                    if MASKED {
                        let seen = x.looks[half].at(x.s + s + i);
                        e = _mm512_maskz_mov_ps(seen, e);
                        d = _mm512_maskz_mov_ps(seen, d);
                        dropped = if DROPPED { _mm512_maskz_mov_ps(seen, dropped) } else { e };
                    }
                    p[i][half] = split::<TERMS, true>(dropped);
                    ds[i][half] = split::<TERMS, true>(d);
                }
            }
        }
        // SAFETY: inside the steps.
        unsafe {
            for i in 0..2 {
                let row = (s + i) / 16 * TILE + (s + i) % 16 * 64;
                put::<TERMS, false>(&p[i][0], &p[i][1], forms.p.add(row));
                put::<TERMS, false>(&ds[i][0], &ds[i][1], forms.ds.add(row));
            }
            for half in 0..2 {
                let row = half * TILE + s / 2 * 64;
                put::<TERMS, true>(&ds[0][half], &ds[1][half], forms.ds_right.add(row));
            }
        }
    }
}
