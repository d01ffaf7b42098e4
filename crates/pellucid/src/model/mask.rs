//! Who may look at whom: none (encoder), causal (decoder), padding, window; one type, drawn in ASCII.
//!
//! The rule itself stands next to the kernel that obeys it, in `ops/attention/mask.rs`; here it is drawn.

pub use crate::ops::attention::Mask;

impl Mask {
    /// Draws the mask for the last `t` of `s` positions: one line per query, `#` where it may look.
    ///
    /// ```
    /// use pellucid::model::mask::Mask;
    /// assert_eq!(Mask::CAUSAL.ascii(4, 4), "#...\n##..\n###.\n####\n");
    /// ```
    #[must_use]
    pub fn ascii(self, t: usize, s: usize) -> String {
        self.ascii_row(t, s, s.saturating_sub(t), s)
    }

    /// Draws one batch row: `t` queries after `past` positions, `s` keys of which `length` are real.
    #[must_use]
    pub fn ascii_row(self, t: usize, s: usize, past: usize, length: usize) -> String {
        (0..t)
            .flat_map(|i| {
                (0..s)
                    .map(move |j| if self.allows(i, j, past, length) { '#' } else { '.' })
                    .chain(['\n'])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings() {
        let window = Mask { window: Some(2), ..Mask::CAUSAL };
        assert_eq!(window.ascii(4, 4), "#...\n##..\n.##.\n..##\n");
        assert_eq!(Mask::PADDING.ascii_row(2, 4, 0, 3), "###.\n###.\n");
        assert_eq!(Mask::CAUSAL.ascii(2, 4), "###.\n####\n");
        assert_eq!(Mask { window: Some(2), ..Mask::NONE }.ascii(3, 3), "##.\n###\n.##\n");
    }
}
