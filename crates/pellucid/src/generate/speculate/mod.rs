//! Several tokens for one look at the weights: a cheap drafter proposes, the model verifies all proposals in one call.
//!
//! A step of generation reads every weight to make one token, and reading is what takes the time; a few more
//! positions in the same call cost little. So whatever guesses the next tokens well makes generation faster, and
//! whatever guesses badly changes nothing but the time:
//!
//! - Where a proposal is certain (an [`NGram`] copies; a draft model at temperature 0 has one choice) the model draws
//!   its own token as ever and takes the proposals that agree. The text is the one without speculation, to the token,
//!   sampled or not: same seed, same text.
//! - Where a [`DraftModel`] draws from a distribution q and the model's is p, token x is taken with probability
//!   min(1, p(x)/q(x)), else another is drawn from max(0, p − q), normalised (Leviathan et al. 2023, Chen et al.
//!   2023). Each token then has distribution p, both p and q after temperature, top-k and all other settings; the
//!   text is another one than without speculation, but as probable.
//!
//! How many tokens are proposed follows from how many were taken lately ([`Pace`]), never from a clock.

mod draft;
mod ngram;
mod pace;
#[cfg(test)]
mod tests;

pub use draft::DraftModel;
pub use ngram::NGram;
pub use pace::{Costs, Pace};

use super::decode::{Event, Flow, GenerateOptions, Generated, NextLogits, Row, WithModel, checked};
use super::sampler::{Draw, Sampler, pick};
use crate::error::{Error, Kind, Result};
use crate::model::verified::MOST_VERIFIED;
use crate::text::Tokenizer;

/// The most tokens proposed at a time: with the last one taken they are as many as are verified together.
pub const MOST_PROPOSED: usize = MOST_VERIFIED - 1;

/// What speculation asks of a model with one row: logits at every new position, and to forget the last ones.
pub trait VerifyLogits: NextLogits {
    /// Appends at most [`MOST_PROPOSED`] + 1 ids (T); returns logits (T, V) after each of them.
    fn extend_all(&mut self, ids: &[i32]) -> Result<&[f32]>;
    /// Forgets everything from position `len` on.
    fn truncate(&mut self, len: usize) -> Result<()>;
}

impl VerifyLogits for WithModel<'_> {
    fn extend_all(&mut self, ids: &[i32]) -> Result<&[f32]> {
        self.decoder.extend_all(self.pool, self.weights, ids)
    }
    fn truncate(&mut self, len: usize) -> Result<()> {
        self.decoder.truncate(0, len)
    }
}

/// Tokens that may come next.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// In order.
    pub tokens: Vec<u32>,
    /// The distribution (V) that each was drawn from; none at all if the tokens are certain.
    pub drawn_from: Vec<Vec<f64>>,
}

/// Guesses what comes next.
pub trait Drafter {
    /// Proposes at most `most` tokens to follow `history`, perhaps none. `row` is the number that draws go by.
    fn propose(
        &mut self,
        history: &[u32],
        most: usize,
        row: u64,
        into: &mut Proposal,
    ) -> Result<()>;
    /// Hears that the first `accepted` of the `proposed` tokens were right, and the next, if any, was not.
    fn learn(&mut self, proposed: usize, accepted: usize);
}

/// What became of a prompt, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Speculated {
    /// As without speculation.
    pub generated: Generated,
    /// Tokens that were proposed.
    pub proposed: usize,
    /// Those of them that became part of the text.
    pub accepted: usize,
    /// Calls of the model after the prompt.
    pub calls: usize,
}

/// When a proposal is taken, and how probable each token is in the place of one that is not (not normalised).
#[derive(Clone, Copy)]
struct Rule {
    /// Of a number in `[0, 1)`, p(x) and q(x).
    accept: fn(f64, f64, f64) -> bool,
    /// Of p(y) and q(y).
    instead: fn(f64, f64) -> f64,
}

/// The one that leaves the distribution as it is.
const RULE: Rule = Rule { accept: |u, p, q| u * q < p, instead: |p, q| (p - q).max(0.0) };

/// As [`generate`](super::generate), with proposals of `drafter`, at most `most` at a time. The model has one row;
/// prompts are taken one after another.
///
/// # Errors
/// As [`generate`](super::generate); a model with more rows, `most` above [`MOST_PROPOSED`].
pub fn speculate(
    model: &mut dyn VerifyLogits,
    drafter: &mut dyn Drafter,
    most: usize,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    tokenizer: Option<&Tokenizer>,
    sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
) -> Result<Vec<Speculated>> {
    if model.batch() != 1 || most > MOST_PROPOSED {
        let message = format!(
            "{} rows and {most} proposed tokens; one row and at most {MOST_PROPOSED} are possible",
            model.batch()
        );
        return Err(Error::new(Kind::Input, "speculate", message)
            .hint("verify fewer tokens at a time, and prompts one after another"));
    }
    let sampler = Sampler::new(options.sampling)?;
    let prompts = checked(model, prompts, options, tokenizer)?;
    let judge = Judge { sampler, rule: RULE, p: vec![], instead: vec![] };
    let mut speculation = Speculation { model, drafter, most, options, judge };
    let one = |(index, prompt): (usize, &&[u32])| {
        let row = Row::new(index, prompt, options, tokenizer);
        speculation.run(row, sink)
    };
    prompts.iter().enumerate().map(one).collect()
}

/// Chooses tokens by the model's logits, with or without a proposal.
struct Judge {
    sampler: Sampler,
    rule: Rule,
    /// The model's distribution (V).
    p: Vec<f64>,
    instead: Vec<f64>,
}

impl Judge {
    /// The token after `history`, and whether it is the one proposed.
    fn choose(
        &mut self,
        logits: &[f32],
        history: &[u32],
        row: u64,
        proposed: Option<(u32, Option<&[f64]>)>,
    ) -> Result<(u32, bool)> {
        let position = history.len() as u64;
        let Some((x, Some(q))) = proposed else {
            let id = self.sampler.sample(logits, history, row, position)?;
            return Ok((id, proposed.is_some_and(|(x, _)| x == id)));
        };
        self.sampler
            .probabilities(logits, history, &mut self.p)
            .map_err(|e| e.fact(format!("row {row}, position {position}")))?;
        let u = self.sampler.chance(row, position, Draw::Accept);
        if (self.rule.accept)(u, self.p[x as usize], q[x as usize]) {
            return Ok((x, true));
        }
        self.instead.clear();
        self.instead.extend(self.p.iter().zip(q).map(|(&p, &q)| (self.rule.instead)(p, q)));
        let total: f64 = self.instead.iter().sum();
        // Nothing is left only where p and q are equal but for rounding.
        let (weights, total) =
            if total > 0.0 { (&self.instead, total) } else { (&self.p, self.p.iter().sum()) };
        let u = self.sampler.chance(row, position, Draw::Instead);
        Ok((pick(weights, u * total) as u32, false))
    }
}

struct Speculation<'a> {
    model: &'a mut dyn VerifyLogits,
    drafter: &'a mut dyn Drafter,
    most: usize,
    options: &'a GenerateOptions,
    judge: Judge,
}

impl Speculation<'_> {
    fn run(
        &mut self,
        mut row: Row,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<Speculated> {
        let (mut proposed, mut accepted, mut calls) = (0, 0, 0);
        self.model.reset();
        if self.options.max_new == 0 {
            row.end(super::StopReason::MaxTokens, sink)?;
        } else {
            self.prompt(&mut row, sink)?;
        }
        let mut proposal = Proposal::default();
        while row.stop.is_none() {
            let taken = self.round(&mut row, &mut proposal, sink)?;
            calls += 1;
            proposed += proposal.tokens.len();
            accepted += taken;
        }
        Ok(Speculated { generated: row.finish(), proposed, accepted, calls })
    }

    fn number(&self, row: &Row) -> u64 {
        self.options.first_row + row.index as u64
    }

    /// Reads the prompt and takes the first token.
    fn prompt(
        &mut self,
        row: &mut Row,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<()> {
        let (capacity, number) = (self.model.capacity(), self.number(row));
        let ids: Vec<i32> = row.history.iter().map(|&id| id as i32).collect();
        let piece = if self.options.prefill == 0 { usize::MAX } else { self.options.prefill };
        let mut pieces = ids.chunks(piece).peekable();
        while let Some(piece) = pieces.next() {
            let logits = self.model.extend(piece, piece.len(), &[piece.len()])?;
            if pieces.peek().is_none() {
                let (id, _) = self.judge.choose(logits, &row.history, number, None)?;
                row.accept(id, capacity, self.options, sink)?;
            }
        }
        Ok(())
    }

    /// One call of the model; returns how many proposals were taken.
    fn round(
        &mut self,
        row: &mut Row,
        proposal: &mut Proposal,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<usize> {
        let (capacity, vocab, number) =
            (self.model.capacity(), self.model.vocab(), self.number(row));
        // The last token is not in the cache yet; it goes in with the proposals, and one token comes after them.
        let fed = row.history.len() - 1;
        let wanted = self.options.max_new - row.new_tokens();
        let most = self.most.min(capacity - fed - 1).min(wanted - 1);
        proposal.tokens.clear();
        proposal.drawn_from.clear();
        if most > 0 {
            self.drafter.propose(&row.history, most, number, proposal)?;
        }
        proposal.tokens.truncate(most);
        if let Some(id) = proposal.tokens.iter().find(|&&id| id as usize >= vocab) {
            let message = format!("id {id} was proposed, but the model's ids are below {vocab}");
            return Err(Error::new(Kind::Input, "speculate", message)
                .hint("the draft model must have the same tokenizer"));
        }
        let n = proposal.tokens.len();
        let ids: Vec<i32> =
            row.history[fed..].iter().chain(&proposal.tokens).map(|&id| id as i32).collect();
        let logits = match n {
            0 => self.model.extend(&ids, 1, &[1])?,
            _ => self.model.extend_all(&ids)?,
        };
        let (mut taken, mut wrong) = (0, 0);
        for (i, logits) in logits.chunks_exact(vocab).enumerate() {
            let from = proposal.drawn_from.get(i).map(Vec::as_slice);
            let guess = proposal.tokens.get(i).map(|&x| (x, from));
            let (id, right) = self.judge.choose(logits, &row.history, number, guess)?;
            row.accept(id, capacity, self.options, sink)?;
            // A token that ends the text does not become part of it.
            taken += usize::from(right && row.history.len() > fed + 1 + i);
            wrong = usize::from(guess.is_some() && !right);
            if !right || row.stop.is_some() {
                break;
            }
        }
        self.drafter.learn(taken + wrong, taken);
        if row.stop.is_none() && taken < n {
            // The token that replaced a proposal is not in the cache; those after it must not be.
            self.model.truncate(row.history.len() - 1)?;
        }
        Ok(taken)
    }
}
