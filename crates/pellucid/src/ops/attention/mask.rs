//! Who may look at whom, as one rule.

use std::ops::Range;

/// Which key positions a query position may look at.
///
/// [`Mask::allows`] is the definition; [`Mask::range`] is the same rule as an interval of keys, which is how
/// the fast path skips what nobody may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mask {
    /// Only keys at or before the query (decoder).
    pub causal: bool,
    /// Only keys fewer than this many positions away, the query's own position included
    /// (sliding window: Beltagy et al., "Longformer", 2020). Must not be 0.
    pub window: Option<usize>,
    /// Only keys before the row's length; the op then takes the lengths as an integer input.
    pub padding: bool,
}

impl Mask {
    /// Everybody sees everybody (encoder without padding).
    pub const NONE: Self = Self { causal: false, window: None, padding: false };
    /// Nobody sees the future (decoder).
    pub const CAUSAL: Self = Self { causal: true, window: None, padding: false };
    /// Everybody sees everybody who is there (encoder on rows of different lengths).
    pub const PADDING: Self = Self { causal: false, window: None, padding: true };

    /// Whether query `t` of this call may look at key `s`.
    ///
    /// `past` positions stand before the first query, so the query's position is `past + t`;
    /// `length` is how many keys of this row are real.
    #[must_use]
    pub fn allows(self, t: usize, s: usize, past: usize, length: usize) -> bool {
        let position = past + t;
        (!self.causal || s <= position)
            && self.window.is_none_or(|w| s.abs_diff(position) < w)
            && (!self.padding || s < length)
    }

    /// The keys below `keys` that query `t` may look at; empty (`0..0`) when there is none.
    #[must_use]
    pub fn range(self, t: usize, past: usize, length: usize, keys: usize) -> Range<usize> {
        let position = past + t;
        let mut range = 0..keys;
        if let Some(w) = self.window {
            range.start = (position + 1).saturating_sub(w);
            range.end = range.end.min(position.saturating_add(w));
        }
        if self.causal {
            range.end = range.end.min(position + 1);
        }
        if self.padding {
            range.end = range.end.min(length);
        }
        if range.start < range.end { range } else { 0..0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_the_definition() {
        for bits in 0..4u8 {
            for window in [None, Some(1), Some(2), Some(5), Some(100)] {
                let mask = Mask { causal: bits & 1 == 1, window, padding: bits & 2 == 2 };
                for (t, past, length, keys) in (0..7usize).flat_map(|t| {
                    [0usize, 1, 4].into_iter().flat_map(move |past| {
                        [0usize, 1, 3, 9]
                            .into_iter()
                            .flat_map(move |l| [1usize, 5, 9].map(|k| (t, past, l, k)))
                    })
                }) {
                    let range = mask.range(t, past, length, keys);
                    for s in 0..keys {
                        let want = mask.allows(t, s, past, length);
                        assert_eq!(range.contains(&s), want, "{mask:?} t={t} s={s} past={past}");
                    }
                }
            }
        }
    }
}
