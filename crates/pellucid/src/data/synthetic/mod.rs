//! Sequences that follow a law and not a language: small worlds in which published behaviours can be seen.
//!
//! A row is a function of the seed, its part and its number alone, so there is no file and nothing to save.

mod markov;
mod modular;
mod repeat;
mod sort;
#[cfg(test)]
mod tests;

pub use markov::Markov;
pub use modular::Modular;
pub use repeat::Repeat;
pub use sort::Sort;

use super::random::mix;
use crate::error::{Error, Kind, Result};
use crate::tensor::random::Random;
use std::fmt::Debug;
use std::ops::Range;

/// What a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To learn from.
    Train,
    /// To be judged by: fresh, or of what is held out.
    HeldOut,
}

/// Sizes of a law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Symbols: their ids are 0..symbols.
    pub symbols: usize,
    /// T: a row has T + 1 tokens, of which the first T are read.
    pub time: usize,
    /// Part that is never learned from, where there is a finite number of inputs or of offsets, in 0..1.
    pub held_out: f64,
    /// Another seed, other rows.
    pub seed: u64,
}

/// A row and what is to be predicted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// T + 1 ids.
    pub tokens: Vec<i32>,
    /// Tokens that are targets in training.
    pub learned: Range<usize>,
    /// Tokens whose loss is reported.
    pub asked: Range<usize>,
}

/// How rows come to be.
pub trait Law: Debug + Send + Sync {
    /// Rows of a part that differ; none: without end.
    fn count(&self, _part: Part) -> Option<u64> {
        None
    }
    /// Row `number` of a part; beyond the last comes the first again.
    fn row(&self, part: Part, number: u64) -> Row;
    /// Whether what is asked is the one right answer to what stands before it.
    fn has_answer(&self) -> bool {
        false
    }
    /// What predictors with a name lose on what is asked of a row: nats in all, the worst first.
    fn yardsticks(&self, row: &Row) -> Vec<(&'static str, f64)>;
}

/// The random numbers of a row.
fn random(sizes: &Sizes, part: Part, number: u64) -> Random {
    let salt = match part {
        Part::Train => 0x7472_6169_6e00,
        Part::HeldOut => 0x6865_6c64_0000,
    };
    Random::new(mix(mix(sizes.seed) ^ salt), number)
}

/// An error unless `holds`.
fn demand(holds: bool, sizes: &Sizes, rule: &str, hint: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    let Sizes { symbols, time, held_out, .. } = sizes;
    let message = format!("symbols = {symbols}, T = {time}, part held out = {held_out}: {rule}");
    Err(Error::new(Kind::Config, "synthetic", message).hint(hint))
}
