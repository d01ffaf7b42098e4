//! From prompts to continuations: fill the cache with the prompts, then one token per row and step
//! until each row's stop rule holds.

use super::sampler::{Sampler, Sampling};
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::model::decoder::Decoder;
use crate::model::weights::Weights;
use crate::text::{StreamDecoder, Tokenizer};

/// What generation asks of a model: logits of the next token, with a memory of what came before.
pub trait NextLogits {
    /// B: rows.
    fn batch(&self) -> usize;
    /// The most positions a row may have.
    fn capacity(&self) -> usize;
    /// V: ids are below it.
    fn vocab(&self) -> usize;
    /// Forgets all rows.
    fn reset(&mut self);
    /// Appends `new[b]` of the `t` right-padded ids (B, T) to each row; returns logits (B, V) after
    /// the last of them. A row with `new[b] = 0` is idle and its logits mean nothing.
    fn extend(&mut self, ids: &[i32], t: usize, new: &[usize]) -> Result<&[f32]>;
}

/// A [`Decoder`] together with the weights and threads it runs on.
#[derive(Debug)]
pub struct WithModel<'a> {
    /// The cache and the plan.
    pub decoder: &'a mut Decoder,
    /// The threads.
    pub pool: &'a Pool,
    /// The parameters.
    pub weights: &'a Weights,
    /// V.
    pub vocab: usize,
}

impl NextLogits for WithModel<'_> {
    fn batch(&self) -> usize {
        self.decoder.past().len()
    }
    fn capacity(&self) -> usize {
        self.decoder.capacity()
    }
    fn vocab(&self) -> usize {
        self.vocab
    }
    fn reset(&mut self) {
        self.decoder.reset();
    }
    fn extend(&mut self, ids: &[i32], t: usize, new: &[usize]) -> Result<&[f32]> {
        self.decoder.extend(self.pool, self.weights, ids, t, new)
    }
}

/// When to stop and how to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// The most new tokens per row.
    pub max_new: usize,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Tokens that end a row, such as the end of text; they are not part of the result.
    pub stop_ids: Vec<u32>,
    /// Strings that end a row; the text ends before them. They need a tokenizer.
    pub stop_strings: Vec<String>,
    /// Keeps the tail of a prompt that is too long, instead of refusing it.
    pub truncate_prompt: bool,
    /// The number that the first prompt's draws go by: row `i` alone with `first_row: i` says the
    /// same as in the batch.
    pub first_row: u64,
    /// Prompts are read in pieces of this many positions, to bound memory; 0 reads them whole.
    pub prefill: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new: 128,
            sampling: Sampling::default(),
            stop_ids: vec![],
            stop_strings: vec![],
            truncate_prompt: false,
            first_row: 0,
            prefill: 512,
        }
    }
}

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// One of the stop tokens came.
    EndOfText,
    /// One of the stop strings came.
    StopString,
    /// All the tokens that were asked for are there.
    MaxTokens,
    /// No position is left in the model's context.
    ContextFull,
    /// The receiver asked for no more.
    Cancelled,
}

impl StopReason {
    /// For people and scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EndOfText => "end of text",
            Self::StopString => "stop string",
            Self::MaxTokens => "max tokens",
            Self::ContextFull => "context full",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Something that happened to a row; rows are numbered as the prompts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A token, and the text that became certain with it (perhaps none yet).
    Token {
        /// Of the prompt.
        row: usize,
        /// The token.
        id: u32,
        /// Whole characters; empty without a tokenizer.
        text: &'a str,
    },
    /// The row ended; the text is what had been held back.
    End {
        /// Of the prompt.
        row: usize,
        /// Why.
        reason: StopReason,
        /// The rest.
        text: &'a str,
    },
}

/// What the receiver of events wants for that row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More.
    Continue,
    /// No more; the other rows go on.
    StopRow,
}

/// What became of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The tokens that were continued: the prompt, or its tail.
    pub prompt: Vec<u32>,
    /// The new tokens, without a stop token.
    pub tokens: Vec<u32>,
    /// Their text, without a stop string; empty without a tokenizer.
    pub text: String,
    /// Why it ended.
    pub stop: StopReason,
}

/// Continues each of `prompts`; `sink` hears of each token as it comes, and may end a row.
/// More prompts than the model has rows are taken in groups. A row's tokens do not depend on its
/// neighbours, as far as the logits do not.
///
/// # Errors
/// A prompt that is empty, too long or has ids outside the vocabulary; those of the sampler, the
/// model and the sink.
pub fn generate(
    model: &mut dyn NextLogits,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    tokenizer: Option<&Tokenizer>,
    sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
) -> Result<Vec<Generated>> {
    let mut sampler = Sampler::new(options.sampling)?;
    let prompts = checked(model, prompts, options, tokenizer)?;
    let mut done = Vec::with_capacity(prompts.len());
    for (group, prompts) in prompts.chunks(model.batch().max(1)).enumerate() {
        let first = group * model.batch();
        let mut rows: Vec<Row> = prompts
            .iter()
            .enumerate()
            .map(|(i, prompt)| Row::new(first + i, prompt, options, tokenizer))
            .collect();
        run(model, &mut rows, &mut sampler, options, sink)?;
        done.extend(rows.into_iter().map(Row::finish));
    }
    Ok(done)
}

/// The prompts, or their tails; an error unless everything fits together.
pub(super) fn checked<'p>(
    model: &dyn NextLogits,
    prompts: &'p [Vec<u32>],
    options: &GenerateOptions,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<&'p [u32]>> {
    if tokenizer.is_none() && !options.stop_strings.is_empty() {
        return Err(Error::new(Kind::Input, "generate", "stop strings need a tokenizer")
            .hint("give the tokenizer of the checkpoint, or stop at token ids"));
    }
    prompts.iter().enumerate().map(|(i, prompt)| check(model, i, prompt, options)).collect()
}

/// The prompt, or the tail of it that is kept.
fn check<'p>(
    model: &dyn NextLogits,
    index: usize,
    prompt: &'p [u32],
    options: &GenerateOptions,
) -> Result<&'p [u32]> {
    let (vocab, capacity) = (model.vocab(), model.capacity());
    let refuse = |message: String| Error::new(Kind::Input, "generate", message);
    if prompt.is_empty() {
        return Err(refuse(format!("prompt {index} has no token; there is nothing to continue"))
            .hint("begin with the end-of-text token, or with a newline"));
    }
    if let Some((at, id)) = prompt.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
        let message =
            format!("prompt {index}, token {at}: id {id}, but the model's ids are below {vocab}");
        return Err(refuse(message).hint("use the tokenizer that the model was trained with"));
    }
    if prompt.len() <= capacity {
        return Ok(prompt);
    }
    if options.truncate_prompt {
        // Room for the answer, but at least half of the context for the question.
        let keep = capacity - options.max_new.min(capacity / 2);
        return Ok(&prompt[prompt.len() - keep..]);
    }
    let message =
        format!("prompt {index} has {} tokens, but the context holds {capacity}", prompt.len());
    Err(refuse(message).hint(format!(
        "shorten it by {} tokens, or keep its tail: --truncate-prompt",
        prompt.len() - capacity
    )))
}

/// One prompt on its way.
pub(super) struct Row {
    pub(super) index: usize,
    /// The prompt and what came after it.
    pub(super) history: Vec<u32>,
    prompt_len: usize,
    decoder: Option<StreamDecoder>,
    text: String,
    pub(super) stop: Option<StopReason>,
}

impl Row {
    pub(super) fn new(
        index: usize,
        prompt: &[u32],
        options: &GenerateOptions,
        tokenizer: Option<&Tokenizer>,
    ) -> Self {
        let decoder = tokenizer.map(|tokenizer| {
            StreamDecoder::new(tokenizer).after(prompt).with_stops(options.stop_strings.clone())
        });
        let (history, prompt_len) = (prompt.to_vec(), prompt.len());
        Self { index, history, prompt_len, decoder, text: String::new(), stop: None }
    }

    pub(super) fn new_tokens(&self) -> usize {
        self.history.len() - self.prompt_len
    }

    /// Takes the token that was chosen; says whether the row goes on.
    pub(super) fn accept(
        &mut self,
        id: u32,
        capacity: usize,
        options: &GenerateOptions,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<()> {
        if options.stop_ids.contains(&id) {
            return self.end(StopReason::EndOfText, sink);
        }
        let full = self.history.len() >= capacity;
        self.history.push(id);
        let (mut text, mut stopped) = (String::new(), false);
        if let Some(decoder) = &mut self.decoder {
            text = decoder.push(id)?;
            stopped = decoder.stopped().is_some();
            self.text.push_str(&text);
        }
        let flow = sink(Event::Token { row: self.index, id, text: &text })?;
        if stopped {
            self.end(StopReason::StopString, sink)
        } else if flow == Flow::StopRow {
            self.end(StopReason::Cancelled, sink)
        } else if self.new_tokens() >= options.max_new {
            self.end(StopReason::MaxTokens, sink)
        } else if full {
            self.end(StopReason::ContextFull, sink)
        } else {
            Ok(())
        }
    }

    pub(super) fn end(
        &mut self,
        reason: StopReason,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<()> {
        let rest = self.decoder.as_mut().map(StreamDecoder::finish).unwrap_or_default();
        self.text.push_str(&rest);
        self.stop = Some(reason);
        sink(Event::End { row: self.index, reason, text: &rest }).map(|_| ())
    }

    pub(super) fn finish(mut self) -> Generated {
        let tokens = self.history.split_off(self.prompt_len);
        let stop = self.stop.unwrap_or(StopReason::Cancelled);
        Generated { prompt: self.history, tokens, text: self.text, stop }
    }
}

/// Runs one group, at most B rows, to its end.
fn run(
    model: &mut dyn NextLogits,
    rows: &mut [Row],
    sampler: &mut Sampler,
    options: &GenerateOptions,
    sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
) -> Result<()> {
    model.reset();
    if options.max_new == 0 {
        return rows.iter_mut().try_for_each(|row| row.end(StopReason::MaxTokens, sink));
    }
    let (batch, capacity, vocab) = (model.batch(), model.capacity(), model.vocab());
    let mut fed = vec![0; batch];
    let (mut ids, mut new) = (vec![], vec![0; batch]);
    while rows.iter().any(|row| row.stop.is_none()) {
        // The prompt's next piece, later the last token; finished rows are idle.
        let piece = if options.prefill == 0 { usize::MAX } else { options.prefill };
        for (b, row) in rows.iter().enumerate() {
            let left = row.history.len() - fed[b];
            new[b] = if row.stop.is_some() { 0 } else { left.min(piece) };
        }
        let t = new.iter().copied().max().unwrap_or(0);
        ids.clear();
        ids.resize(batch * t, 0);
        for (b, row) in rows.iter().enumerate() {
            for (i, &id) in row.history[fed[b]..fed[b] + new[b]].iter().enumerate() {
                ids[b * t + i] = id as i32;
            }
            fed[b] += new[b];
        }
        let logits = model.extend(&ids, t, &new)?;
        for (b, row) in rows.iter_mut().enumerate() {
            // A longer prompt may still have pieces to come; its neighbours already speak.
            if new[b] == 0 || fed[b] < row.history.len() {
                continue;
            }
            let number = options.first_row + row.index as u64;
            let position = row.history.len() as u64;
            let logits = &logits[b * vocab..(b + 1) * vocab];
            let id = sampler.sample(logits, &row.history, number, position)?;
            row.accept(id, capacity, options, sink)?;
        }
    }
    Ok(())
}
