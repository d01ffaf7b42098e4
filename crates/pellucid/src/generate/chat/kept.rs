//! A model that remembers what it read from one prompt to the next.

use super::super::decode::NextLogits;
use super::super::speculate::VerifyLogits;
use crate::error::Result;

/// Reads of a prompt only what comes after the part that it shares with what was read before. The last id of a piece is
/// always read anew, for the logits after it, so prompts should come whole: `GenerateOptions::prefill` 0.
pub(super) struct Kept<'m> {
    model: &'m mut dyn VerifyLogits,
    /// What the model's cache holds.
    held: Vec<u32>,
    /// Positions of `held` that the present row has been given.
    at: usize,
    /// Positions that the present row found there.
    reused: usize,
}

impl<'m> Kept<'m> {
    pub(super) fn new(model: &'m mut dyn VerifyLogits) -> Self {
        model.reset();
        Self { model, held: vec![], at: 0, reused: 0 }
    }

    pub(super) fn reused(&self) -> usize {
        self.reused
    }

    /// Forgets from position `len` on; what cannot forget a part forgets all. Returns what is left.
    fn keep(&mut self, len: usize) -> usize {
        if len == self.held.len() {
            return len;
        }
        let kept = if len > 0 && self.model.truncate(len).is_ok() { len } else { 0 };
        if kept == 0 {
            self.model.reset();
        }
        self.held.truncate(kept);
        kept
    }
}

impl NextLogits for Kept<'_> {
    fn batch(&self) -> usize {
        self.model.batch()
    }
    fn capacity(&self) -> usize {
        self.model.capacity()
    }
    fn vocab(&self) -> usize {
        self.model.vocab()
    }
    fn reset(&mut self) {
        (self.at, self.reused) = (0, 0);
    }
    fn extend(&mut self, ids: &[i32], t: usize, new: &[usize]) -> Result<&[f32]> {
        let ids = &ids[..new.iter().copied().sum::<usize>().min(t)];
        let same = self.held[self.at..].iter().zip(ids).take_while(|(a, b)| **a as i32 == **b);
        let wanted = self.at + same.count().min(ids.len().saturating_sub(1));
        // Only the beginning of a prompt can find that the model holds more, or other, than it wants.
        let skip = self.keep(wanted).saturating_sub(self.at);
        let fresh = &ids[skip..];
        let logits = self.model.extend(fresh, fresh.len(), &[fresh.len()])?;
        self.held.extend(fresh.iter().map(|&id| id as u32));
        self.at = self.held.len();
        self.reused += skip;
        Ok(logits)
    }
}
