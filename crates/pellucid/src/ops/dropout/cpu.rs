//! Masks drawn 128 elements at a time: sixteen Philox calls side by side, two elements per word.
#![allow(unsafe_code)] // disjoint parts of one output go to different threads
#![allow(clippy::needless_range_loop)] // lanes of several arrays at once

use super::KEY;
use crate::autograd::RunInfo;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::multiversion;

/// Philox calls side by side.
const SIDE: usize = 16;
/// Elements per block: four words of two halves for each call.
pub(super) const BLOCK: usize = 8 * SIDE;

/// Which elements are zero in this run; a function of seed, stream, step and element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    key: u64,
    /// 48 bits of the counter above the 48 that count calls; the stream's 32 stand above both.
    step: u64,
    stream: u32,
    /// Of 65536.
    zeros: u32,
    scale: f32,
}

impl Mask {
    /// `None` when nothing is dropped: not training, or p rounds to 0.
    pub(crate) fn new(run: RunInfo, p: f32, stream: u32) -> Option<Self> {
        // A p that rounds to 1 keeps one element in 65536, so that the scale stays finite.
        let zeros = ((f64::from(p) * 65536.0).round() as u32).min(65535);
        let scale = (65536.0 / (65536.0 - f64::from(zeros))) as f32;
        let key = run.seed ^ KEY;
        (run.training && zeros > 0).then_some(Self { key, step: run.step, stream, zeros, scale })
    }

    /// Multiplies `x`, which holds elements `start..`, by their part of the mask, on one thread.
    pub(crate) fn apply(self, start: usize, x: &mut [f32]) {
        multiply(self, start, x);
    }

    /// The factors of block `block`.
    #[inline(always)]
    fn factors(self, block: u64) -> [f32; BLOCK] {
        let first = block * SIDE as u64;
        let mut c = [[0u32; SIDE]; 4];
        for l in 0..SIDE {
            c[0][l] = (first as u32).wrapping_add(l as u32); // no carry: `first` is a multiple of SIDE
            c[1][l] = (first >> 32) as u32 & 0xFFFF | (self.step as u32) << 16;
            c[2][l] = (self.step >> 16) as u32;
            c[3][l] = self.stream;
        }
        let (mut k0, mut k1) = (self.key as u32, (self.key >> 32) as u32);
        for _ in 0..10 {
            for l in 0..SIDE {
                let p0 = u64::from(c[0][l]) * 0xD251_1F53;
                let p1 = u64::from(c[2][l]) * 0xCD9E_8D57;
                c[0][l] = (p1 >> 32) as u32 ^ c[1][l] ^ k0;
                c[2][l] = (p0 >> 32) as u32 ^ c[3][l] ^ k1;
                c[1][l] = p1 as u32;
                c[3][l] = p0 as u32;
            }
            k0 = k0.wrapping_add(0x9E37_79B9);
            k1 = k1.wrapping_add(0xBB67_AE85);
        }
        let mut factors = [0.0; BLOCK];
        let (low, high) = factors.split_at_mut(BLOCK / 2);
        for (w, words) in c.iter().enumerate() {
            for l in 0..SIDE {
                let keep = |half: u32| if half < self.zeros { 0.0 } else { self.scale };
                low[w * SIDE + l] = keep(words[l] & 0xFFFF);
                high[w * SIDE + l] = keep(words[l] >> 16);
            }
        }
        factors
    }
}

multiversion! {
    fn multiply<const FMA: bool>(mask: Mask, start: usize, x: &mut [f32]) {
        let end = start + x.len();
        for block in start / BLOCK..end.div_ceil(BLOCK) {
            let factors = mask.factors(block as u64);
            let from = (block * BLOCK).max(start);
            let to = ((block + 1) * BLOCK).min(end);
            let part = &mut x[from - start..to - start];
            if let Ok(part) = <&mut [f32; BLOCK]>::try_from(&mut *part) {
                part.iter_mut().zip(&factors).for_each(|(x, f)| *x *= f);
            } else {
                let factors = &factors[from - block * BLOCK..];
                part.iter_mut().zip(factors).for_each(|(x, f)| *x *= f);
            }
        }
    }
}

/// `x (N) *= mask`.
pub(super) fn apply(pool: &Pool, mask: Mask, x: &mut [f32]) {
    let data = Ptr(x.as_mut_ptr());
    pool.split(x.len(), 8 * BLOCK, &|range| {
        // SAFETY: ranges are disjoint and within x.
        let part = unsafe { data.slice(range.start, range.len()) };
        mask.apply(range.start, part);
    });
}
