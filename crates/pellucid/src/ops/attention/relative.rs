//! T5's relative positions (Raffel et al. 2020): near distances have a bucket each, far ones share.

use super::AttentionDims;
use crate::error::{Error, Kind, Result};

/// Which bucket a distance is in. A bias for each bucket and head is added to the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeBias {
    /// Buckets in all; a multiple of 4.
    pub buckets: usize,
    /// The distance from which on all are in the last bucket.
    pub max_distance: usize,
    /// Whether keys after the query have buckets of their own (encoders); else they are in that of distance 0.
    pub bidirectional: bool,
}

impl RelativeBias {
    pub(super) fn check(self) -> Result<()> {
        let half = self.buckets / 2;
        if self.buckets > 0 && self.buckets.is_multiple_of(4) && self.max_distance > half {
            return Ok(());
        }
        let Self { buckets, max_distance, .. } = self;
        let message = format!(
            "{buckets} buckets up to distance {max_distance}; buckets are a multiple of 4, and the distance above half of them"
        );
        Err(Error::new(Kind::Config, "attention", message))
    }

    /// The bucket of `offset`, the key's position less the query's.
    #[must_use]
    pub fn bucket(self, offset: isize) -> usize {
        let (first, buckets) = match (self.bidirectional, offset > 0) {
            (true, true) => (self.buckets / 2, self.buckets / 2),
            (true, false) => (0, self.buckets / 2),
            (false, _) => (0, self.buckets),
        };
        let away =
            if self.bidirectional { offset.unsigned_abs() } else { (-offset).max(0) as usize };
        let exact = buckets / 2;
        if away < exact {
            return first + away;
        }
        // In f32 and in this order, as the models were trained.
        let ratio = (away as f32 / exact as f32).ln()
            / ((self.max_distance as f64 / exact as f64).ln() as f32);
        let log = exact + (ratio * (buckets - exact) as f32) as usize;
        first + log.min(buckets - 1)
    }
}

/// Room on both sides of the distances, so that whole tiles may be read.
pub(super) const MARGIN: usize = 128;

/// Biases by distance, `(H, span)`: for offset `o` at `o + S - 1 + MARGIN`.
pub(super) fn span(dims: &AttentionDims) -> usize {
    2 * dims.s - 1 + 2 * MARGIN
}

/// Where the key at offset `offset` from the query stands.
pub(super) fn place(dims: &AttentionDims, offset: isize) -> usize {
    (offset + dims.s as isize - 1) as usize + MARGIN
}

/// Writes the biases of all distances, `(H, span)`, from the table `(buckets, H)`.
pub(super) fn expand(bias: RelativeBias, dims: &AttentionDims, table: &[f32], to: &mut [f32]) {
    let (span, most) = (span(dims), dims.s as isize - 1);
    to[..dims.h * span].fill(0.0);
    for offset in -most..=most {
        let (bucket, at) = (bias.bucket(offset), place(dims, offset));
        for h in 0..dims.h {
            to[h * span + at] = table[bucket * dims.h + h];
        }
    }
}

/// Adds the gradients of all distances, `(B, H, span)`, up into that of the table, in one order.
pub(super) fn collect(
    bias: RelativeBias,
    dims: &AttentionDims,
    from: &[f32],
    to: &mut [f32],
    accumulate: bool,
) {
    let (span, most) = (span(dims), dims.s as isize - 1);
    if !accumulate {
        to.fill(0.0);
    }
    for b in 0..dims.b {
        for h in 0..dims.h {
            let row = &from[(b * dims.h + h) * span..][..span];
            for offset in -most..=most {
                to[bias.bucket(offset) * dims.h + h] += row[place(dims, offset)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each bucket, as they follow each other from offset `from` to `to`: the bucket and how many offsets.
    fn runs(bias: RelativeBias, from: isize, to: isize) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = vec![];
        for offset in from..=to {
            let bucket = bias.bucket(offset);
            match runs.last_mut() {
                Some((last, n)) if *last == bucket => *n += 1,
                _ => runs.push((bucket, 1)),
            }
        }
        runs
    }

    /// What transformers 5.24's `T5Attention._relative_position_bucket` gives for offsets -300..=300.
    #[test]
    fn buckets_are_those_of_t5() {
        let bias = |buckets, max_distance, bidirectional| RelativeBias {
            buckets,
            max_distance,
            bidirectional,
        };
        for (bias, wanted) in GOLDEN.iter().map(|(b, m, both, w)| (bias(*b, *m, *both), *w)) {
            assert_eq!(runs(bias, -300, 300), wanted, "{bias:?}");
        }
    }

    type Runs = &'static [(usize, usize)];

    #[rustfmt::skip]
    const GOLDEN: [(usize, usize, bool, Runs); 4] = [
        (32, 128, true, &[(15, 210), (14, 27), (13, 18), (12, 14), (11, 9), (10, 7), (9, 4), (8, 4), (7, 1), (6, 1), (5, 1), (4, 1), (3, 1), (2, 1), (1, 1), (0, 1), (17, 1), (18, 1), (19, 1), (20, 1), (21, 1), (22, 1), (23, 1), (24, 4), (25, 4), (26, 7), (27, 9), (28, 14), (29, 18), (30, 27), (31, 210)]),
        (32, 128, false, &[(31, 188), (30, 14), (29, 12), (28, 10), (27, 10), (26, 8), (25, 7), (24, 6), (23, 6), (22, 5), (21, 4), (20, 4), (19, 3), (18, 3), (17, 2), (16, 3), (15, 1), (14, 1), (13, 1), (12, 1), (11, 1), (10, 1), (9, 1), (8, 1), (7, 1), (6, 1), (5, 1), (4, 1), (3, 1), (2, 1), (1, 1), (0, 301)]),
        (8, 20, true, &[(3, 294), (2, 5), (1, 1), (0, 1), (5, 1), (6, 5), (7, 294)]),
        (8, 20, false, &[(7, 287), (6, 5), (5, 3), (4, 2), (3, 1), (2, 1), (1, 1), (0, 301)]),
    ];
}
