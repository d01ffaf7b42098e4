//! Texts about texts: an encoder reads the source, a decoder writes its translation.

use super::beam::{BeamOptions, beam_search};
use super::decode::{Event, Flow, GenerateOptions, WithModel, generate};
use super::sampler::Sampling;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::decoder::Decoder;
use crate::model::weights::Weights;
use crate::text::Tokenizer;

/// An encoder-decoder with what it needs to read and write text.
#[derive(Clone, Copy, Debug)]
pub struct Translator<'a> {
    /// Sizes.
    pub config: &'a Config,
    /// Parameters.
    pub weights: &'a Weights,
    /// Threads.
    pub pool: &'a Pool,
    /// Of both sides.
    pub tokenizer: &'a Tokenizer,
    /// The id with which the decoder starts.
    pub start: u32,
    /// The id with which a source ends.
    pub end: u32,
}

/// How translations are chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The best that a beam search finds; its `max_new` is the most for any text.
    Beam(BeamOptions),
    /// One token after another, as a sampler says: at temperature 0 the most probable.
    Sampled {
        /// How a token is chosen.
        sampling: Sampling,
        /// The most new tokens.
        max_new: usize,
        /// Tokens that end a text.
        stop_ids: Vec<u32>,
    },
}

/// One translation of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Translation {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Of a beam search.
    pub score: Option<f64>,
}

/// New tokens for a source of `n`, at most: as a rule translations are about as long.
fn room(n: usize, most: usize) -> usize {
    (2 * n + 20).min(most)
}

impl Translator<'_> {
    /// Ids of a source, with the token that ends it, unless the tokenizer says that nothing is added.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    pub fn source(&self, text: &str) -> Result<Vec<i32>> {
        let mut ids = self.tokenizer.encode_with_template(text)?;
        if ids.last() != Some(&self.end) && !self.tokenizer.adds_nothing() {
            ids.push(self.end);
        }
        Ok(ids.into_iter().map(|id| id as i32).collect())
    }

    /// Translates `texts`, `batch` at a time, the longest together; several of each, best first, where a beam search
    /// is asked for several. `progress` gets texts done and in all; an error from it ends the work.
    ///
    /// # Errors
    /// A source longer than the context, with its number; those of the model, of `progress`, and of the search.
    pub fn translate(
        &self,
        texts: &[impl AsRef<str>],
        choice: &Choice,
        batch: usize,
        progress: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Vec<Translation>>> {
        let sources: Vec<Vec<i32>> =
            texts.iter().map(|text| self.source(text.as_ref())).collect::<Result<_>>()?;
        let context = self.config.context;
        if let Some(i) = sources.iter().position(|s| s.len() > context) {
            let message = format!(
                "text {} has {} tokens, but the context holds {context}",
                i + 1,
                sources[i].len()
            );
            return Err(Error::new(Kind::Input, "translate", message)
                .hint("translate it sentence by sentence"));
        }
        let Some(longest) = sources.iter().map(Vec::len).max() else { return Ok(vec![]) };
        let (beams, most) = match choice {
            Choice::Beam(options) => (options.beams, options.max_new),
            Choice::Sampled { max_new, .. } => (1, *max_new),
        };
        let batch = batch.clamp(1, texts.len());
        let capacity = (room(longest, most) + 1).min(context);
        let threads = self.pool.threads();
        let mut decoder = Decoder::about(self.config, (batch, longest), beams, capacity, threads)?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(sources[i].len()), i));
        let (mut all, mut done) = (vec![vec![]; texts.len()], 0);
        for group in order.chunks(batch) {
            // A last group that is too small is filled up with its first.
            let rows: Vec<&[i32]> =
                (0..batch).map(|i| &*sources[*group.get(i).unwrap_or(&group[0])]).collect();
            decoder.read_sources(self.pool, self.weights, &rows)?;
            let longest = rows.iter().map(|r| r.len()).max().unwrap_or(0);
            let room = room(longest, most).min(capacity - 1);
            let found = self.decode(&mut decoder, choice, (batch, group.len()), room)?;
            for (&i, found) in group.iter().zip(found) {
                all[i] = found;
            }
            done += group.len();
            progress(done, texts.len())?;
        }
        Ok(all)
    }

    /// Of `batch` rows the first `real`.
    fn decode(
        &self,
        decoder: &mut Decoder,
        choice: &Choice,
        (batch, real): (usize, usize),
        room: usize,
    ) -> Result<Vec<Vec<Translation>>> {
        let (pool, weights, vocab) = (self.pool, self.weights, self.config.vocab);
        let mut model = WithModel { decoder, pool, weights, vocab };
        let prompts = vec![vec![self.start]; batch];
        let one = |tokens: Vec<u32>, score| -> Result<Translation> {
            let text = self.tokenizer.decode_plain(&tokens)?;
            Ok(Translation { text: text.trim().to_owned(), tokens, score })
        };
        match choice {
            Choice::Beam(options) => {
                let options = BeamOptions { max_new: room, ..options.clone() };
                let found = beam_search(&mut model, &prompts, &options)?;
                let text = |best: Vec<super::Hypothesis>| {
                    best.into_iter().map(|h| one(h.tokens, Some(h.score))).collect()
                };
                found.into_iter().take(real).map(text).collect()
            }
            Choice::Sampled { sampling, stop_ids, .. } => {
                let options = GenerateOptions {
                    max_new: room,
                    sampling: *sampling,
                    stop_ids: stop_ids.clone(),
                    ..GenerateOptions::default()
                };
                let more = &mut |_: Event<'_>| Ok(Flow::Continue);
                let found = generate(&mut model, &prompts, &options, None, more)?;
                found.into_iter().take(real).map(|g| Ok(vec![one(g.tokens, None)?])).collect()
            }
        }
    }
}
