//! Random numbers that are a function of a key and a counter: no state to save, none to lose.
//!
//! Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).

/// Four random words for `(key, counter)`.
#[must_use]
pub fn philox(key: u64, counter: u128) -> [u32; 4] {
    let (mut k0, mut k1) = (key as u32, (key >> 32) as u32);
    let mut c =
        [counter as u32, (counter >> 32) as u32, (counter >> 64) as u32, (counter >> 96) as u32];
    for _ in 0..10 {
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    c
}

/// A stream of random numbers that starts at `(key, stream)` and counts up.
#[derive(Clone, Debug)]
pub struct Random {
    key: u64,
    stream: u64,
    counter: u64,
    words: [u32; 4],
    left: usize,
}

impl Random {
    /// Streams with different `stream` numbers never overlap.
    #[must_use]
    pub fn new(key: u64, stream: u64) -> Self {
        Self { key, stream, counter: 0, words: [0; 4], left: 0 }
    }

    /// A uniform 32-bit word.
    pub fn word(&mut self) -> u32 {
        if self.left == 0 {
            self.words = philox(self.key, u128::from(self.stream) << 64 | u128::from(self.counter));
            self.counter += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.words[3 - self.left]
    }

    /// Uniform in `[0, 1)`, 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.word() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        let bits = (u64::from(self.word()) << 32 | u64::from(self.word())) >> 11;
        bits as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in `0..n`; `n` must not be 0 (Lemire's multiply-shift; bias below 2^-32 n).
    pub fn below(&mut self, n: usize) -> usize {
        let word = u64::from(self.word()) << 32 | u64::from(self.word());
        ((u128::from(word) * n as u128) >> 64) as usize
    }

    /// Standard normal (Box-Muller in f64).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform_f64()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform_f64()).cos()) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library.
    #[test]
    fn philox_gives_the_published_words() {
        assert_eq!(philox(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox(u64::MAX, u128::MAX),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut random = Random::new(7, 0);
        let n = 100_000;
        let (mut sum, mut squares) = (0.0f64, 0.0f64);
        for _ in 0..n {
            let x = f64::from(random.normal());
            sum += x;
            squares += x * x;
        }
        assert!((sum / n as f64).abs() < 0.02);
        assert!((squares / n as f64 - 1.0).abs() < 0.03);
    }
}
