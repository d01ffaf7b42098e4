//! Digits to be sorted (Karpathy's minGPT): the digits, then the same in order.

use super::{Law, Part, Row, Sizes, demand, random};
use crate::data::random::mix;
use crate::error::Result;
use crate::tensor::random::Random;

/// Draws that are made in search of an input of a part.
const TRIES: usize = 10_000;

/// Rows of n digits and the same n in order, where T = 2n - 1; a hash says which inputs are held out.
#[derive(Clone, Debug)]
pub struct Sort(Sizes);

impl Sort {
    /// Of these sizes.
    ///
    /// # Errors
    /// An even T; a part of the inputs that is empty.
    pub fn new(sizes: Sizes) -> Result<Self> {
        let odd = sizes.time >= 3 && !sizes.time.is_multiple_of(2);
        demand(
            odd,
            &sizes,
            "n digits and their order are read in 2n - 1 steps",
            "set train.time = 11",
        )?;
        demand(
            sizes.symbols >= 2,
            &sizes,
            "there are at least two digits",
            "set data.symbols = 3",
        )?;
        let law = Self(sizes);
        for part in [Part::Train, Part::HeldOut] {
            let mut draws = random(&sizes, part, 0);
            let found = (0..TRIES).any(|_| law.part(&law.draw(&mut draws)) == part);
            let hint = "set data.validation_fraction = 0.25";
            demand(found, &sizes, "some inputs are held out, not all", hint)?;
        }
        Ok(law)
    }

    fn digits(&self) -> usize {
        self.0.time.div_ceil(2)
    }

    /// Half of the inputs with more than n / 2 different digits are drawn again, as minGPT does: repeats would be rare.
    fn draw(&self, random: &mut Random) -> Vec<i32> {
        loop {
            let n = self.digits();
            let input: Vec<i32> = (0..n).map(|_| random.below(self.0.symbols) as i32).collect();
            let mut different = input.clone();
            different.sort_unstable();
            different.dedup();
            if random.below(2) == 0 || different.len() <= n / 2 {
                return input;
            }
        }
    }

    /// To which part an input belongs, whatever the seed.
    fn part(&self, input: &[i32]) -> Part {
        let hash = input.iter().fold(0, |hash, &digit| mix(hash ^ digit as u64));
        let place = (hash >> 11) as f64 / (1u64 << 53) as f64;
        if place < self.0.held_out { Part::HeldOut } else { Part::Train }
    }
}

impl Law for Sort {
    fn row(&self, part: Part, number: u64) -> Row {
        let mut random = random(&self.0, part, number);
        // It ends: `new` found an input of each part.
        let mut tokens = loop {
            let input = self.draw(&mut random);
            if self.part(&input) == part {
                break input;
            }
        };
        let n = tokens.len();
        let mut sorted = tokens.clone();
        sorted.sort_unstable();
        tokens.extend(sorted);
        Row { tokens, learned: n..2 * n, asked: n..2 * n }
    }

    fn has_answer(&self) -> bool {
        true
    }

    fn yardsticks(&self, row: &Row) -> Vec<(&'static str, f64)> {
        vec![("any digit", row.asked.len() as f64 * (self.0.symbols as f64).ln())]
    }
}
