//! Separate examples of different lengths, one per row, filled up with padding.

use super::batch::{Batch, IGNORE};
use super::random::{mix, permute};
use crate::error::{Error, Kind, Result};

/// One sequence and how much of its beginning is given and not to be learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Prompt and answer.
    pub ids: Vec<u32>,
    /// Ids of the prompt: 0 to learn all.
    pub prompt: usize,
}

/// Batches of whole examples; every epoch takes each once, in an order of its own.
#[derive(Clone, Debug)]
pub struct ExampleBatches {
    examples: Vec<Example>,
    rows: usize,
    length: usize,
    pad: i32,
    seed: u64,
}

impl ExampleBatches {
    /// Batches of `rows` (B) examples of at most `length` (T) ids to predict from, so T + 1 in all;
    /// `pad` fills up the rest of a row and is no target.
    ///
    /// # Errors
    /// No example; one that is too long, or of which nothing is to be learned.
    pub fn new(
        examples: Vec<Example>,
        rows: usize,
        length: usize,
        pad: u32,
        seed: u64,
    ) -> Result<Self> {
        let fail = |message: String| Err(Error::new(Kind::Input, "examples", message));
        if examples.is_empty() || rows == 0 || length == 0 {
            return fail(format!("{} examples, B = {rows}, T = {length}", examples.len()));
        }
        for (number, example) in examples.iter().enumerate() {
            let (n, prompt) = (example.ids.len(), example.prompt);
            if n > length + 1 {
                let message = format!("example {number} has {n} ids; T = {length} takes T + 1");
                return Err(Error::new(Kind::Input, "examples", message)
                    .hint("cut it, leave it out, or raise the context length"));
            }
            if n < 2 || prompt >= n {
                return fail(format!(
                    "example {number}: {n} ids, of which {prompt} are given: nothing to learn"
                ));
            }
        }
        Ok(Self { examples, rows, length, pad: pad as i32, seed })
    }

    /// Steps until every example was taken once, rounded up: the epochs follow each other without a
    /// gap, in the middle of a batch if need be.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        (self.examples.len() as u64).div_ceil(self.rows as u64)
    }

    /// Writes the batch of a step into `ids` and `targets`, `(B, T)` each; returns how many targets
    /// count.
    ///
    /// # Errors
    /// Buffers of another size.
    pub fn fill(&self, step: u64, ids: &mut [i32], targets: &mut [i32]) -> Result<usize> {
        if ids.len() != self.rows * self.length || targets.len() != ids.len() {
            let message = format!("buffers of {} ids and {} targets", ids.len(), targets.len());
            return Err(Error::new(Kind::Shape, "examples", message)
                .fact(format!("a batch has B = {} times T = {}", self.rows, self.length)));
        }
        ids.fill(self.pad);
        targets.fill(IGNORE);
        let n = self.examples.len() as u64;
        let mut counted = 0;
        let rows = ids.chunks_exact_mut(self.length).zip(targets.chunks_exact_mut(self.length));
        for (row, (ids, targets)) in rows.enumerate() {
            let number = step * self.rows as u64 + row as u64;
            let index = permute(number % n, n, mix(mix(self.seed) ^ (number / n)));
            let Example { ids: from, prompt } = &self.examples[index as usize];
            for (at, pair) in from.windows(2).enumerate() {
                ids[at] = pair[0] as i32;
                if at + 1 >= *prompt {
                    targets[at] = pair[1] as i32;
                    counted += 1;
                }
            }
        }
        Ok(counted)
    }

    /// The batch of a step, in new memory.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn next(&self, step: u64) -> Result<Batch> {
        let size = self.rows * self.length;
        let mut batch = Batch { ids: vec![0; size], targets: vec![0; size] };
        self.fill(step, &mut batch.ids, &mut batch.targets)?;
        Ok(batch)
    }
}
