//! Rows of a shard as batches `(B, T)`, each a function of the step number alone.

use super::random::{mix, permute, random_below};
use super::shard::Shard;
use crate::error::{Error, Kind, Result};
use std::sync::Arc;

/// A target that does not count.
pub const IGNORE: i32 = -100;

/// Which rows of the shard a step takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Every row begins anywhere, as in nanoGPT; rows may overlap and recur.
    Random,
    /// Every epoch takes each of the `(n - 1) / T` windows once, in an order of its own; what does
    /// not fill a last batch is left out.
    Epochs,
}

/// Ids and, for each, the id that comes next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `(B, T)`, row by row.
    pub ids: Vec<i32>,
    /// `(B, T)`: the next id, or [`IGNORE`].
    pub targets: Vec<i32>,
}

/// Training batches.
#[derive(Clone, Debug)]
pub struct Batches {
    shard: Arc<Shard>,
    rows: usize,
    length: usize,
    sampling: Sampling,
    seed: u64,
}

impl Batches {
    /// Batches of `rows` (B) rows of `length` (T) ids.
    ///
    /// # Errors
    /// B or T is 0, or the shard is too small for them.
    pub fn new(
        shard: Arc<Shard>,
        rows: usize,
        length: usize,
        sampling: Sampling,
        seed: u64,
    ) -> Result<Self> {
        let windows = windows(&shard, rows, length)?;
        if sampling == Sampling::Epochs && windows < rows as u64 {
            let (n, message) = (
                shard.len(),
                format!("the data has {windows} windows of T = {length}, fewer than B = {rows}"),
            );
            return Err(Error::new(Kind::Config, "batches", message)
                .fact(format!("{n} tokens"))
                .hint("lower the batch or the context, give more text, or sample at random"));
        }
        Ok(Self { shard, rows, length, sampling, seed })
    }

    /// Tokens that a step takes: `B * T`.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        self.rows as u64 * self.length as u64
    }

    /// Steps until every window was taken once; for random rows, until as many tokens were.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        ((self.shard.len() - 1) / self.length as u64 / self.rows as u64).max(1)
    }

    /// Writes the batch of a step into `ids` and `targets`, `(B, T)` each.
    ///
    /// # Errors
    /// Buffers of another size, or an unreadable shard.
    pub fn fill(&self, step: u64, ids: &mut [i32], targets: &mut [i32]) -> Result<()> {
        check_buffers(ids, targets, self.rows, self.length)?;
        let rows = ids.chunks_exact_mut(self.length).zip(targets.chunks_exact_mut(self.length));
        for (row, (ids, targets)) in rows.enumerate() {
            window(&self.shard, self.start(step, row as u64), ids, targets)?;
        }
        Ok(())
    }

    /// The batch of a step, in new memory.
    ///
    /// # Errors
    /// An unreadable shard.
    pub fn next(&self, step: u64) -> Result<Batch> {
        let size = self.rows * self.length;
        let mut batch = Batch { ids: vec![0; size], targets: vec![0; size] };
        self.fill(step, &mut batch.ids, &mut batch.targets)?;
        Ok(batch)
    }

    fn start(&self, step: u64, row: u64) -> u64 {
        let (n, length) = (self.shard.len(), self.length as u64);
        match self.sampling {
            Sampling::Random => random_below(n - length, self.seed, step, row),
            Sampling::Epochs => {
                let steps = self.steps_per_epoch();
                let (epoch, step) = (step / steps, step % steps);
                let index = step * self.rows as u64 + row;
                permute(index, (n - 1) / length, mix(mix(self.seed) ^ epoch)) * length
            }
        }
    }
}

/// Number of whole windows of T ids with their targets.
fn windows(shard: &Shard, rows: usize, length: usize) -> Result<u64> {
    let fail = |message: String| Error::new(Kind::Config, "batches", message);
    if rows == 0 || length == 0 {
        return Err(fail(format!("B = {rows}, T = {length}; both must be at least 1")));
    }
    let n = shard.len();
    if n < length as u64 + 1 {
        return Err(fail(format!("the data has {n} tokens; a row of T = {length} needs T + 1"))
            .hint("lower the context length or give more text"));
    }
    Ok((n - 1) / length as u64)
}

fn check_buffers(ids: &[i32], targets: &[i32], rows: usize, length: usize) -> Result<()> {
    if ids.len() == rows * length && targets.len() == ids.len() {
        return Ok(());
    }
    let message = format!("buffers of {} ids and {} targets", ids.len(), targets.len());
    Err(Error::new(Kind::Shape, "batches", message)
        .fact(format!("a batch has B = {rows} times T = {length}")))
}

/// One row: ids from `start` on, and as targets the ids after them.
fn window(shard: &Shard, start: u64, ids: &mut [i32], targets: &mut [i32]) -> Result<()> {
    shard.read(start, ids)?;
    let length = ids.len();
    targets[..length - 1].copy_from_slice(&ids[1..]);
    shard.read(start + length as u64, &mut targets[length - 1..])
}

/// Evaluation batches: the same rows every time.
#[derive(Clone, Debug)]
pub struct Evaluation {
    shard: Arc<Shard>,
    rows: usize,
    length: usize,
    /// Windows that are evaluated; all of them, or evenly spread ones.
    count: u64,
    windows: u64,
}

impl Evaluation {
    /// Every token of the shard but the first is a target exactly once, in windows of `length` (T)
    /// ids; `rows` (B) of them make a batch. The last row and the last batch are filled up with
    /// [`IGNORE`] targets.
    ///
    /// # Errors
    /// B or T is 0, or fewer than two tokens.
    pub fn all(shard: Arc<Shard>, rows: usize, length: usize) -> Result<Self> {
        let n = shard.len();
        if rows == 0 || length == 0 || n < 2 {
            let message = format!("B = {rows}, T = {length}, {n} tokens");
            return Err(Error::new(Kind::Config, "evaluation", message)
                .fact("B and T must be at least 1, and there must be two tokens"));
        }
        let windows = (n - 1).div_ceil(length as u64);
        Ok(Self { shard, rows, length, count: windows, windows })
    }

    /// At most `windows` windows, evenly spread over the shard.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn some(shard: Arc<Shard>, rows: usize, length: usize, windows: u64) -> Result<Self> {
        let mut evaluation = Self::all(shard, rows, length)?;
        evaluation.count = windows.clamp(1, evaluation.windows);
        Ok(evaluation)
    }

    /// Number of batches.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.count.div_ceil(self.rows as u64)
    }

    /// Writes batch `index` into `ids` and `targets`, `(B, T)` each; returns how many targets
    /// count.
    ///
    /// # Errors
    /// Buffers of another size, or an unreadable shard.
    pub fn fill(&self, index: u64, ids: &mut [i32], targets: &mut [i32]) -> Result<usize> {
        check_buffers(ids, targets, self.rows, self.length)?;
        ids.fill(0);
        targets.fill(IGNORE);
        let mut counted = 0;
        let rows = ids.chunks_exact_mut(self.length).zip(targets.chunks_exact_mut(self.length));
        for (row, (ids, targets)) in rows.enumerate() {
            let number = index * self.rows as u64 + row as u64;
            if number >= self.count {
                break;
            }
            let place = u128::from(number) * u128::from(self.windows) / u128::from(self.count);
            let start = place as u64 * self.length as u64;
            let length = (self.shard.len() - 1 - start).min(self.length as u64) as usize;
            window(&self.shard, start, &mut ids[..length], &mut targets[..length])?;
            counted += length;
        }
        Ok(counted)
    }
}
