//! A smaller model as a drafter.

use super::pace::{Costs, Pace};
use super::{Drafter, Proposal, VerifyLogits};
use crate::error::{Error, Kind, Result};
use crate::generate::sampler::{Draw, Sampler, Sampling, pick};

/// Proposes what a model with the same tokenizer draws, with the same settings.
pub struct DraftModel<'a> {
    model: &'a mut dyn VerifyLogits,
    sampler: Sampler,
    pace: Pace,
    /// What the model's cache holds.
    known: Vec<u32>,
    text: Vec<u32>,
}

impl std::fmt::Debug for DraftModel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DraftModel").field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl<'a> DraftModel<'a> {
    /// Draws with the settings of the large model.
    ///
    /// # Errors
    /// Those of [`Sampling::validate`]; a model with several rows.
    pub fn new(model: &'a mut dyn VerifyLogits, sampling: Sampling, costs: Costs) -> Result<Self> {
        if model.batch() != 1 {
            let message = format!("a draft model with {} rows; it needs one", model.batch());
            return Err(Error::new(Kind::Input, "speculate", message));
        }
        model.reset();
        Ok(Self {
            model,
            sampler: Sampler::new(sampling)?,
            pace: Pace::new(costs),
            known: vec![],
            text: vec![],
        })
    }
}

impl Drafter for DraftModel<'_> {
    fn propose(
        &mut self,
        history: &[u32],
        most: usize,
        row: u64,
        into: &mut Proposal,
    ) -> Result<()> {
        // The last proposal is not read by this model, so it may stand after the last position.
        let room = (self.model.capacity() + 1).saturating_sub(history.len());
        let count = self.pace.tokens(most).min(room);
        if count == 0 {
            return Ok(());
        }
        // What was refused, or belongs to another text, is forgotten; the last token is always read again.
        let same = self.known.iter().zip(history).take_while(|(a, b)| a == b).count();
        self.known.truncate(same.min(history.len() - 1));
        self.model.truncate(self.known.len())?;
        self.text.clear();
        self.text.extend_from_slice(history);
        for _ in 0..count {
            let new = &self.text[self.known.len()..];
            let ids: Vec<i32> = new.iter().map(|&id| id as i32).collect();
            let logits = self.model.extend(&ids, ids.len(), &[ids.len()])?;
            self.known.extend_from_slice(new);
            let position = self.text.len() as u64;
            let id = if self.sampler.sampling().temperature == 0.0 {
                self.sampler.sample(logits, &self.text, row, position)?
            } else {
                let mut q = vec![];
                self.sampler.probabilities(logits, &self.text, &mut q)?;
                let id = pick(&q, self.sampler.chance(row, position, Draw::Draft)) as u32;
                into.drawn_from.push(q);
                id
            };
            into.tokens.push(id);
            self.text.push(id);
        }
        Ok(())
    }

    fn learn(&mut self, proposed: usize, accepted: usize) {
        self.pace.learn(proposed, accepted);
    }
}
