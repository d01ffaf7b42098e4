//! Random numbers that are a function of their coordinates, so there is no state to save.

/// The finaliser of SplitMix64 (Steele et al. 2014): a bijection in which every input bit moves
/// every output bit.
pub(super) fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// 64 random bits for `(seed, step, row)`.
pub(super) fn bits(seed: u64, step: u64, row: u64) -> u64 {
    mix(mix(mix(seed) ^ step) ^ row.wrapping_mul(GOLDEN))
}

/// A number below `n`, uniform up to n/2^64, for `(seed, step, row)`; 0 if `n` is 0.
#[must_use]
pub fn random_below(n: u64, seed: u64, step: u64, row: u64) -> u64 {
    ((u128::from(bits(seed, step, row)) * u128::from(n)) >> 64) as u64
}

/// Where `index` goes in the permutation of `0..n` that `key` names: a Feistel network on the
/// next even number of bits, walked until it falls below `n` (Black and Rogaway 2002). Takes no
/// memory. `index` must be below `n`.
#[must_use]
pub fn permute(index: u64, n: u64, key: u64) -> u64 {
    debug_assert!(index < n, "index {index} of {n}");
    if n < 2 {
        return 0;
    }
    let half = (u64::BITS - (n - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut at = index;
    loop {
        let (mut left, mut right) = (at >> half, at & mask);
        for round in 0..6 {
            (left, right) = (right, left ^ (bits(key, round, right) & mask));
        }
        at = (left << half) | right;
        if at < n {
            return at;
        }
    }
}
