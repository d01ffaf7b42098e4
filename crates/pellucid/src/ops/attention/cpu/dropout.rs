//! Which probabilities are dropped: a function of where they stand, so nothing is stored.

use crate::tensor::random::philox;

/// Keeps these masks apart from all other uses of the run's seed.
const DOMAIN: u64 = 0x41C6_4E6D_7A77_9B1D;

/// Dropout of attention probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dropout {
    key: u64,
    /// Upper 64 bits of the counter.
    high: u64,
    /// Words below this are dropped.
    threshold: u32,
    /// What a kept probability is multiplied by.
    scale: f32,
}

impl Dropout {
    /// Dropout with probability `p` in `0..1` at micro-batch `step`, for the layer numbered `stream`.
    pub(crate) fn new(p: f32, seed: u64, step: u64, stream: u32) -> Self {
        let threshold = (f64::from(p) * 4_294_967_296.0) as u32;
        let kept = 1.0 - f64::from(threshold) / 4_294_967_296.0;
        Self {
            key: seed ^ DOMAIN ^ (step >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            high: u64::from(stream) << 32 | (step & 0xFFFF_FFFF),
            threshold,
            scale: (1.0 / kept) as f32,
        }
    }

    fn counter(&self, row: usize, block: usize) -> u128 {
        u128::from(self.high) << 64 | (row as u128 & 0xFFFF_FFFF) << 32 | block as u128
    }

    /// What the probability of key `s` in score row `row` (that is, `(b * H + h) * T + t`) is multiplied by.
    #[cfg(any(test, feature = "cases"))]
    pub(crate) fn factor(&self, row: usize, s: usize) -> f32 {
        let word = philox(self.key, self.counter(row, s / 4))[s % 4];
        if word < self.threshold { 0.0 } else { self.scale }
    }

    /// The factors of keys `s0..s0 + out.len()`; `s0` and the length are multiples of 4.
    pub(super) fn factors(&self, row: usize, s0: usize, out: &mut [f32]) {
        for (i, four) in out.chunks_exact_mut(4).enumerate() {
            let words = philox(self.key, self.counter(row, s0 / 4 + i));
            for (f, word) in four.iter_mut().zip(words) {
                *f = if word < self.threshold { 0.0 } else { self.scale };
            }
        }
    }
}
