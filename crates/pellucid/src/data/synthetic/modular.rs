//! a + b mod p (Power et al. 2022; taken apart by Nanda et al. 2023): learned by heart first, understood much later.

use super::{Law, Part, Row, Sizes, demand};
use crate::data::random::{mix, permute};
use crate::error::Result;

/// Rows `a b = c`, one for each pair; the seed says which pairs are held out.
#[derive(Clone, Debug)]
pub struct Modular {
    sizes: Sizes,
    learned: u64,
}

impl Modular {
    /// The word of the id after the numbers.
    pub const EQUALS: &str = "=";

    /// For p = symbols.
    ///
    /// # Errors
    /// T other than 3; nothing held out, or everything.
    pub fn new(sizes: Sizes) -> Result<Self> {
        let holds = sizes.time == 3 && (2..=1 << 12).contains(&sizes.symbols);
        demand(
            holds,
            &sizes,
            "`a b =` are three tokens, and p is 2 to 4096",
            "set train.time = 3",
        )?;
        let pairs = (sizes.symbols * sizes.symbols) as u64;
        let learned = ((1.0 - sizes.held_out) * pairs as f64) as u64;
        let hint = "set data.validation_fraction = 0.7";
        demand((1..pairs).contains(&learned), &sizes, "some pairs are held out, not all", hint)?;
        Ok(Self { sizes, learned })
    }
}

impl Law for Modular {
    fn count(&self, part: Part) -> Option<u64> {
        let pairs = (self.sizes.symbols * self.sizes.symbols) as u64;
        Some(if part == Part::Train { self.learned } else { pairs - self.learned })
    }

    fn row(&self, part: Part, number: u64) -> Row {
        let p = self.sizes.symbols as u64;
        let (first, count) = match part {
            Part::Train => (0, self.learned),
            Part::HeldOut => (self.learned, p * p - self.learned),
        };
        let pair = permute(first + number % count, p * p, mix(self.sizes.seed));
        let (a, b) = (pair / p, pair % p);
        let tokens = [a, b, p, (a + b) % p].map(|token| token as i32).to_vec();
        Row { tokens, learned: 3..4, asked: 3..4 }
    }

    fn has_answer(&self) -> bool {
        true
    }

    fn yardsticks(&self, row: &Row) -> Vec<(&'static str, f64)> {
        vec![("any number", row.asked.len() as f64 * (self.sizes.symbols as f64).ln())]
    }
}
