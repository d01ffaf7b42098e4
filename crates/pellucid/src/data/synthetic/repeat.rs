//! A random segment over and over: what an induction head is for (Olsson et al. 2022). The distance between copies differs
//! from row to row, so that no fixed look back does it; some distances are never learned from.

use super::{Law, Part, Row, Sizes, demand, random};
use crate::data::random::{mix, permute};
use crate::error::Result;

/// A mark that begins, then a segment of different random symbols, again and again up to the row's end. What is asked is
/// what is determined: from the second symbol of the second copy on.
#[derive(Clone, Debug)]
pub struct Repeat {
    sizes: Sizes,
    /// Lengths of segments, which are the distances between copies.
    learned: Vec<usize>,
    held_out: Vec<usize>,
}

impl Repeat {
    /// The word of the id after the symbols, which begins a row.
    pub const BEGIN: &str = "<s>";

    /// Segments of T/8 to T/2 symbols; `held_out` of these lengths are not learned from.
    ///
    /// # Errors
    /// A row too short for two lengths; fewer symbols than a segment has; nothing held out, or everything.
    pub fn new(sizes: Sizes) -> Result<Self> {
        let (least, most) = ((sizes.time / 8).max(2), sizes.time / 2);
        demand(most > least, &sizes, "a row holds two copies", "set train.time = 64")?;
        let symbols = sizes.symbols >= most;
        demand(
            symbols,
            &sizes,
            "a segment has up to T / 2 different symbols",
            "raise data.symbols",
        )?;
        let n = most - least + 1;
        let held = (sizes.held_out * n as f64).round() as usize;
        let hint = "set data.validation_fraction = 0.25";
        demand((1..n).contains(&held), &sizes, "some distances are held out, not all", hint)?;
        let mixed = |i: usize| permute(i as u64, n as u64, mix(sizes.seed)) as usize;
        let part = |held_out: bool| {
            (0..n).filter(|&i| (mixed(i) < held) == held_out).map(|i| least + i).collect()
        };
        Ok(Self { sizes, learned: part(false), held_out: part(true) })
    }

    /// Distances between copies of a part.
    #[must_use]
    pub fn distances(&self, part: Part) -> &[usize] {
        match part {
            Part::Train => &self.learned,
            Part::HeldOut => &self.held_out,
        }
    }
}

impl Law for Repeat {
    fn row(&self, part: Part, number: u64) -> Row {
        let mut random = random(&self.sizes, part, number);
        let n = self.sizes.time + 1;
        let distances = self.distances(part);
        let distance = distances[random.below(distances.len())];
        let mut symbols: Vec<i32> = (0..self.sizes.symbols as i32).collect();
        for i in 0..distance {
            let other = i + random.below(symbols.len() - i);
            symbols.swap(i, other);
        }
        let begin = self.sizes.symbols as i32;
        let copies = symbols[..distance].iter().copied().cycle();
        let tokens = [begin].into_iter().chain(copies).take(n).collect();
        Row { tokens, learned: 1..n, asked: distance + 2..n }
    }

    /// One of all symbols; one of the segment's, as likely each.
    fn yardsticks(&self, row: &Row) -> Vec<(&'static str, f64)> {
        let asked = row.asked.len() as f64;
        let segment = (row.asked.start - 2) as f64;
        vec![
            ("any symbol", asked * (self.sizes.symbols as f64).ln()),
            ("any symbol of the segment", asked * segment.ln()),
        ]
    }
}
