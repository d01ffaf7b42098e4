//! Beam search: several continuations of each text go on together, and the best finished ones win.
//!
//! A step gives every running continuation its `V` successors; of all these of one text the best `2 W` (more, where
//! several tokens end a text) are looked at. Those among the first `W` that end are finished, with their
//! log-probability divided by `length ^ length_penalty`; the best `W` that do not end run on (Wu et al. 2016; the rules
//! are those of `transformers`, so that ids agree). Scores are f32, as there: where two are equal to the bit, which
//! one wins must be the same.

use super::decode::{NextLogits, WithModel};
use crate::error::{Error, Kind, Result};

/// A model whose rows may take each other's past.
pub trait BeamLogits: NextLogits {
    /// Row `r` goes on with what row `parents[r]` has read.
    ///
    /// # Errors
    /// Those of the model.
    fn reorder(&mut self, parents: &[usize]) -> Result<()>;
}

impl BeamLogits for WithModel<'_> {
    fn reorder(&mut self, parents: &[usize]) -> Result<()> {
        self.decoder.reorder(parents)
    }
}

/// When a text has enough finished continuations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When the best running one, as long as it is now, would not beat the worst finished.
    #[default]
    Estimated,
    /// As soon as there are as many as beams.
    Soonest,
    /// When no running one can beat the worst finished, however long it may become.
    Never,
}

/// How to search.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamOptions {
    /// W: continuations that run together.
    pub beams: usize,
    /// Above 0 favours long texts, below 0 short ones.
    pub length_penalty: f64,
    /// When to stop.
    pub early_stopping: EarlyStopping,
    /// The most new tokens, the last included that ends a text.
    pub max_new: usize,
    /// The fewest new tokens before a text may end.
    pub min_new: usize,
    /// How many of the finished are returned, at most W.
    pub returned: usize,
    /// The first new token, whatever the model says (BART's `forced_bos_token_id`).
    pub forced_first: Option<u32>,
    /// The token that a text of `max_new` ends with, whatever the model says.
    pub forced_last: Option<u32>,
    /// Tokens that never come.
    pub banned: Vec<u32>,
    /// Tokens that end a text.
    pub stop_ids: Vec<u32>,
}

impl Default for BeamOptions {
    fn default() -> Self {
        Self {
            beams: 5,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
            max_new: 128,
            min_new: 0,
            returned: 1,
            forced_first: None,
            forced_last: None,
            banned: vec![],
            stop_ids: vec![],
        }
    }
}

impl BeamOptions {
    fn check(&self, vocab: usize) -> Result<()> {
        let mut faults = vec![];
        let mut rule = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        let Self { beams, returned, max_new, min_new, .. } = *self;
        rule(beams > 0, format!("beams = {beams}, but at least one runs"));
        rule(
            (1..=beams.max(1)).contains(&returned),
            format!("returned = {returned}, but it is 1..={beams}"),
        );
        rule(max_new > 0, format!("max_new = {max_new}, but a text has at least one new token"));
        rule(min_new <= max_new, format!("min_new = {min_new} is above max_new = {max_new}"));
        rule(self.length_penalty.is_finite(), format!("length_penalty = {}", self.length_penalty));
        let given = self.banned.iter().chain(&self.stop_ids).chain(&self.forced_first);
        for id in given.chain(&self.forced_last).filter(|&&id| id as usize >= vocab) {
            rule(false, format!("token {id}, but ids are below {vocab}"));
        }
        if faults.is_empty() {
            return Ok(());
        }
        let error = Error::new(Kind::Config, "beam search", "options that contradict each other");
        Err(faults.into_iter().fold(error, Error::fact))
    }

    /// Changes log-probabilities as the options demand; `done` new tokens are there.
    fn process(&self, log_probs: &mut [f32], done: usize) {
        let mut forbid = |id: u32| log_probs[id as usize] = f32::NEG_INFINITY;
        self.banned.iter().for_each(|&id| forbid(id));
        if done < self.min_new {
            self.stop_ids.iter().for_each(|&id| forbid(id));
        }
        let forced = match self.forced_first {
            Some(id) if done == 0 => Some(id),
            _ => self.forced_last.filter(|_| done + 1 == self.max_new),
        };
        if let Some(id) = forced {
            log_probs.fill(f32::NEG_INFINITY);
            log_probs[id as usize] = 0.0;
        }
    }
}

/// A finished continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// New tokens, without the one that ends the text.
    pub tokens: Vec<u32>,
    /// Log-probability over `length ^ length_penalty`.
    pub score: f64,
}

/// Stands for minus infinity among scores, as in `transformers`.
const WORST: f32 = -1e9;

/// One continuation.
#[derive(Clone, Debug)]
struct Beam {
    tokens: Vec<u32>,
    score: f32,
    finished: bool,
}

/// One text on its way.
struct Search<'a> {
    options: &'a BeamOptions,
    running: Vec<Beam>,
    best: Vec<Beam>,
    /// Whether a running one may still win.
    open: bool,
}

/// A successor: its log-probability, the beam it is of, its token, whether it ends.
#[derive(Clone, Copy)]
struct Candidate {
    score: f32,
    beam: usize,
    token: u32,
    ends: bool,
}

/// Sorted from the best; equal ones stay in their order.
fn best_first<T>(mut all: Vec<T>, score: impl Fn(&T) -> f32) -> Vec<T> {
    all.sort_by(|a, b| score(b).total_cmp(&score(a)));
    all
}

impl<'a> Search<'a> {
    fn new(options: &'a BeamOptions) -> Self {
        let beam = |score| Beam { tokens: vec![], score, finished: false };
        // At first all are the same, so only one counts.
        let running = (0..options.beams).map(|i| beam(if i == 0 { 0.0 } else { WORST })).collect();
        let best = vec![beam(WORST); options.beams];
        Self { options, running, best, open: true }
    }

    fn full(&self) -> bool {
        self.options.early_stopping == EarlyStopping::Soonest
            && self.best.iter().all(|beam| beam.finished)
    }

    fn over(&self) -> bool {
        !self.open || self.full() || self.running[0].tokens.len() >= self.options.max_new
    }

    /// Takes the log-probabilities of each beam's next token, (W, V); returns the beam that each goes on with.
    fn step(&mut self, log_probs: &[f32]) -> Vec<usize> {
        let options = self.options;
        let (w, v) = (options.beams, log_probs.len() / options.beams);
        let done = self.running[0].tokens.len();
        let candidates = self.candidates(log_probs, v);
        let penalised = |c: &Candidate| if c.ends { c.score + WORST } else { c.score };
        let next = best_first(candidates.iter().collect::<Vec<_>>(), |c| penalised(c));
        let extend = |c: &Candidate, score, finished| {
            let mut tokens = self.running[c.beam].tokens.clone();
            tokens.push(c.token);
            Beam { tokens, score, finished }
        };
        let running: Vec<Beam> = next[..w].iter().map(|c| extend(c, penalised(c), false)).collect();
        let parents = next[..w].iter().map(|c| c.beam).collect();
        if !self.full() && self.open {
            let length = ((done + 1) as f64).powf(options.length_penalty) as f32;
            let ended = candidates[..w].iter().filter(|c| c.ends);
            let ended = ended.map(|c| extend(c, c.score / length, true));
            let all = self.best.drain(..).chain(ended).collect();
            self.best = best_first(all, |beam| beam.score);
            self.best.truncate(w);
        }
        self.running = running;
        self.judge(done + 1);
        parents
    }

    /// The successors that are looked at, best first.
    fn candidates(&self, log_probs: &[f32], v: usize) -> Vec<Candidate> {
        let options = self.options;
        let keep = (1 + options.stop_ids.len()).max(2) * options.beams;
        let last = self.running[0].tokens.len() + 1 >= options.max_new;
        let score = |i: usize| log_probs[i] + self.running[i / v].score;
        let mut order: Vec<usize> = (0..log_probs.len()).collect();
        let better = |&a: &usize, &b: &usize| score(b).total_cmp(&score(a)).then(a.cmp(&b));
        let keep = keep.min(order.len());
        if keep < order.len() {
            order.select_nth_unstable_by(keep - 1, better);
            order.truncate(keep);
        }
        order.sort_by(better);
        order
            .into_iter()
            .map(|i| {
                let token = (i % v) as u32;
                let ends = last || options.stop_ids.contains(&token);
                Candidate { score: score(i), beam: i / v, token, ends }
            })
            .collect()
    }

    /// Whether the best running continuation may still beat the worst finished one.
    fn judge(&mut self, done: usize) {
        let options = self.options;
        let longest =
            options.early_stopping == EarlyStopping::Never && options.length_penalty > 0.0;
        let length = if longest { options.max_new } else { done };
        let hope = self.running[0].score / (length as f64).powf(options.length_penalty) as f32;
        let worst = self.best.iter().map(|beam| beam.score).fold(f32::INFINITY, f32::min);
        let beats = |beam: &Beam| hope > if beam.finished { worst } else { WORST };
        self.open &= self.best.iter().any(beats);
    }

    fn finish(self) -> Vec<Hypothesis> {
        let options = self.options;
        let one = |mut beam: Beam| {
            if beam.tokens.last().is_some_and(|id| options.stop_ids.contains(id)) {
                beam.tokens.pop();
            }
            Hypothesis { tokens: beam.tokens, score: f64::from(beam.score) }
        };
        self.best.into_iter().take(options.returned).map(one).collect()
    }
}

/// `logits - ln Σ exp(logits)`, in f32.
fn log_softmax(logits: &[f32], to: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - largest).exp()).sum();
    let log = sum.ln();
    to.iter_mut().zip(logits).for_each(|(to, x)| *to = x - largest - log);
}

/// Continues each of `prompts` by beam search; the best first. Row `W i + w` of the model is beam `w` of prompt `i`, and
/// the model has read nothing but its sources.
///
/// # Errors
/// Options that contradict each other; another number of rows; a prompt that is empty or too long; NaN among the
/// logits; those of the model.
pub fn beam_search(
    model: &mut dyn BeamLogits,
    prompts: &[Vec<u32>],
    options: &BeamOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    let (vocab, w, rows) = (model.vocab(), options.beams, model.batch());
    options.check(vocab)?;
    check_prompts(model, prompts, options)?;
    let mut searches: Vec<Search<'_>> = prompts.iter().map(|_| Search::new(options)).collect();
    let mut log_probs = vec![0.0; w * vocab];
    let mut fresh: Vec<Vec<u32>> =
        prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), w)).collect();
    while searches.iter().any(|search| !search.over()) {
        let new: Vec<usize> = fresh.iter().map(Vec::len).collect();
        let t = new.iter().copied().max().unwrap_or(0);
        let mut ids = vec![0; rows * t];
        for (to, from) in ids.chunks_exact_mut(t).zip(&fresh) {
            to.iter_mut().zip(from).for_each(|(to, &id)| *to = id as i32);
        }
        let logits = model.extend(&ids, t, &new)?;
        if let Some(i) = logits.iter().position(|x| x.is_nan()) {
            let message = format!("the logits of row {} are not numbers", i / vocab);
            return Err(Error::new(Kind::Numeric, "beam search", message));
        }
        let mut parents: Vec<usize> = (0..rows).collect();
        for (i, search) in searches.iter_mut().enumerate() {
            if search.over() {
                fresh[i * w..(i + 1) * w].iter_mut().for_each(Vec::clear);
                continue;
            }
            let done = search.running[0].tokens.len();
            for (beam, to) in log_probs.chunks_exact_mut(vocab).enumerate() {
                log_softmax(&logits[(i * w + beam) * vocab..][..vocab], to);
                options.process(to, done);
            }
            for (beam, parent) in search.step(&log_probs).into_iter().enumerate() {
                parents[i * w + beam] = i * w + parent;
            }
            for (beam, row) in search.running.iter().zip(&mut fresh[i * w..]) {
                *row = if search.over() { vec![] } else { vec![beam.tokens[done]] };
            }
        }
        model.reorder(&parents)?;
    }
    Ok(searches.into_iter().map(Search::finish).collect())
}

fn check_prompts(
    model: &dyn BeamLogits,
    prompts: &[Vec<u32>],
    options: &BeamOptions,
) -> Result<()> {
    let error = |message: String| Err(Error::new(Kind::Input, "beam search", message));
    if prompts.len() * options.beams != model.batch() {
        return error(format!(
            "{} prompts with {} beams each, but the model has {} rows",
            prompts.len(),
            options.beams,
            model.batch()
        ));
    }
    for (i, prompt) in prompts.iter().enumerate() {
        let longest = prompt.len() + options.max_new - 1;
        if prompt.is_empty() || longest > model.capacity() {
            return error(format!(
                "prompt {i} has {} tokens and may get {}, but the context holds {}",
                prompt.len(),
                options.max_new,
                model.capacity()
            ));
        }
        if let Some(id) = prompt.iter().find(|&&id| id as usize >= model.vocab()) {
            return error(format!("prompt {i}: id {id}, but ids are below {}", model.vocab()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
