//! Inference with a KV cache: a batch of sequences, each at its own length, extended by new tokens; with an encoder
//! beside the decoder, about sources that were read before.

use super::chunk::{Chunk, Want, permute};
use super::config::{Architecture, Config, Output};
use super::memory::{Slot, Sort, slots};
use super::recording::Recording;
use super::site::{Site, Sizes};
use super::source::Sources;
use super::standing::Standing;
use super::stored_weights::StoredWeights;
use super::weights::{Weights, parameters};
use crate::autograd::{RunInfo, Timing};
use crate::backend::buffer::Buffer;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};

/// Tokens a prompt is read in at a time: few sizes, so few plans.
pub const CHUNKS: [usize; 4] = [LONGEST, 256, 32, 1];
/// Read only when there are as many tokens.
const LONGEST: usize = 512;

/// Only what predicts the next token from those before it decodes.
fn demand_a_decoder(config: &Config, sources: bool) -> Result<()> {
    let error =
        |message: &str, hint: &str| Err(Error::new(Kind::Config, "decode", message).hint(hint));
    if config.architecture == Architecture::Encoder {
        return error(
            "the model is an encoder: it looks both ways and does not generate",
            "use it with embed or eval",
        );
    }
    if config.output != Output::Tokens {
        return error("the model scores labels, not tokens", "use it with eval");
    }
    if config.has_source() != sources {
        return error(
            "the model is an encoder-decoder: it says something about a source",
            "use it with translate",
        );
    }
    Ok(())
}

/// A batch of growing sequences.
#[derive(Debug)]
pub struct Decoder {
    pub(super) config: Config,
    stored: Option<StoredWeights>,
    /// Elements of the weights that a run is given.
    weights: usize,
    pub(super) batch: usize,
    pub(super) capacity: usize,
    threads: usize,
    measure: bool,
    pub(super) chunks: Vec<Chunk>,
    pub(super) standing: Vec<Standing>,
    pub(super) recording: Recording,
    pub(super) cache: Vec<Buffer>,
    /// What each of these holds.
    slots: Vec<Slot>,
    pub(super) past: Vec<usize>,
    logits: Vec<f32>,
    pub(super) sources: Option<Sources>,
}

impl Decoder {
    /// For `batch` sequences of at most `capacity` tokens each (no more than the model's context).
    pub fn new(config: &Config, batch: usize, capacity: usize, threads: usize) -> Result<Self> {
        let weights = parameters(config).last().map_or(0, |s| s.range().end.next_multiple_of(16));
        Self::with(config, (None, weights), batch, capacity, None, threads)
    }

    /// For `beams` sequences about each of `texts` sources of at most `longest` tokens, with an encoder-decoder: rows
    /// `beams * i` and after are about source `i`, whose keys and values they share. Sources are given by
    /// [`Self::read_sources`].
    ///
    /// # Errors
    /// As [`Self::new`]; a model without an encoder beside its decoder.
    pub fn about(
        config: &Config,
        (texts, longest): (usize, usize),
        beams: usize,
        capacity: usize,
        threads: usize,
    ) -> Result<Self> {
        let weights = parameters(config).last().map_or(0, |s| s.range().end.next_multiple_of(16));
        let sources = Sources::new(config, (texts, longest), threads)?;
        Self::with(config, (None, weights), texts * beams, capacity, Some(sources), threads)
    }

    /// As [`Decoder::new`] with stored matrices, which it shares; runs are given [`StoredWeights::rest`].
    pub fn with_stored(
        config: &Config,
        stored: &StoredWeights,
        batch: usize,
        capacity: usize,
        threads: usize,
    ) -> Result<Self> {
        let weights = stored.rest().data().len();
        Self::with(config, (Some(stored.clone()), weights), batch, capacity, None, threads)
    }

    fn with(
        config: &Config,
        (stored, weights): (Option<StoredWeights>, usize),
        batch: usize,
        capacity: usize,
        sources: Option<Sources>,
        threads: usize,
    ) -> Result<Self> {
        config.validate()?;
        demand_a_decoder(config, sources.is_some())?;
        if batch == 0 || capacity == 0 || capacity > config.context {
            return Err(Error::new(
                Kind::Input,
                "decode",
                format!(
                    "{batch} sequences of {capacity} tokens; the context is 1..={}",
                    config.context
                ),
            )
            .hint("ask for fewer tokens, or use a model with a longer context"));
        }
        let held = sources.as_ref().map_or((0, 0), |s| (s.texts(), s.longest()));
        let slots = slots(config, (batch, capacity), held);
        Ok(Self {
            config: config.clone(),
            stored,
            weights,
            batch,
            capacity,
            threads,
            measure: false,
            chunks: vec![],
            standing: vec![],
            recording: Recording::default(),
            cache: slots.iter().map(|slot| Buffer::zeros(slot.len)).collect(),
            slots,
            past: vec![0; batch],
            logits: vec![0.0; batch * config.vocab],
            sources,
        })
    }

    /// Encodes sources, as many as texts, each of at least a token, and forgets every sequence. Nothing changes on an
    /// error.
    ///
    /// # Errors
    /// A model without an encoder beside its decoder; sources of another number, empty or too long; ids outside the
    /// vocabulary.
    pub fn read_sources(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        sources: &[&[i32]],
    ) -> Result<()> {
        let Some(held) = &mut self.sources else {
            return Err(Error::new(Kind::Input, "decode", "the model has no encoder for a source")
                .hint("give the text as a prompt"));
        };
        let cache = self.cache.iter_mut().zip(&self.slots);
        held.read(pool, weights, &self.config, sources, cache)?;
        self.reset();
        Ok(())
    }

    /// Row `r` goes on with what row `parents[r]` has; rows of one source may take each other's.
    ///
    /// # Errors
    /// Another number of parents than rows, or one that is no row or about another source.
    pub fn reorder(&mut self, parents: &[usize]) -> Result<()> {
        let beams = self.sources.as_ref().map_or(self.batch, |s| self.batch / s.texts());
        let own = |(r, &p): (usize, &usize)| p < self.batch && p / beams == r / beams;
        if parents.len() != self.batch || !parents.iter().enumerate().all(own) {
            let message = format!("rows {parents:?} for {} rows, {beams} to a source", self.batch);
            return Err(Error::new(Kind::Input, "decode", message));
        }
        let (d, v) = (self.config.head_width, self.config.vocab);
        let used = |r: usize| (self.config.kv_heads, self.capacity * d, self.past[r] * d);
        for (cache, slot) in self.cache.iter_mut().zip(&self.slots) {
            let row = slot.len / self.batch;
            match slot.sort {
                Sort::Growing => permute(cache, row, parents, used),
                Sort::State => permute(cache, row, parents, |_| (1, row, row)),
                Sort::Source => {}
            }
        }
        permute(&mut self.logits, v, parents, |_| (1, v, v));
        self.past = parents.iter().map(|&p| self.past[p]).collect();
        self.recording.reorder(parents);
        Ok(())
    }

    /// Plans the smallest chunk again, so that a fault is found now; on an error the old plans stay.
    pub(super) fn plan_anew(&mut self) -> Result<()> {
        let chunks = std::mem::take(&mut self.chunks);
        self.chunk(1, false).map(|_| ()).inspect_err(|_| self.chunks = chunks)
    }

    /// Sizes of a site's axes behind B and T, or, of scores and patterns, H and the keys.
    pub(super) fn shape_of_a_position(&self, site: Site) -> Vec<usize> {
        let s = self.sources.as_ref().map_or(0, Sources::longest);
        let mut shape = site.shape(&self.config, Sizes { b: 1, t: 1, s });
        shape.remove(if site.part.axes().starts_with("BH") { 2 } else { 1 });
        shape.split_off(1)
    }

    /// Tokens in each row's cache, (B).
    #[must_use]
    pub fn past(&self) -> &[usize] {
        &self.past
    }

    /// Tokens a row can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets every sequence.
    pub fn reset(&mut self) {
        self.past.fill(0);
        self.recording.forget();
    }

    /// Switches the measuring of each operation on or off.
    pub fn measure(&mut self, on: bool) {
        self.measure = on;
        self.chunks.iter_mut().for_each(|c| c.session.measure(on));
    }

    /// What the operations of the last run of `t` tokens at a time took, if measured.
    #[must_use]
    pub fn timings(&self, t: usize) -> &[Timing] {
        self.chunks.iter().find(|c| c.t == t).map_or(&[], |c| c.session.timings())
    }

    /// Bytes of cache and working memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let cache: usize = self.cache.iter().map(|b| b.len() * size_of::<f32>()).sum();
        cache + self.chunks.iter().map(|c| c.session.bytes()).sum::<usize>()
    }

    /// Reads `new[b]` tokens of each row of `ids` (B, T), right-padded; 0 leaves a row idle. Returns logits
    /// (B, V) after each row's last token; an idle row keeps its old ones. Nothing changes on an error.
    pub fn extend(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        ids: &[i32],
        t: usize,
        new: &[usize],
    ) -> Result<&[f32]> {
        self.check(weights, ids, t, new)?;
        let before = self.past.clone();
        let mut done = 0;
        let longest = new.iter().copied().max().unwrap_or(0);
        while done < longest {
            let left: Vec<usize> = new.iter().map(|n| n.saturating_sub(done)).collect();
            let step = self.chunk_size(&left);
            let now: Vec<usize> = left.iter().map(|&l| l.min(step)).collect();
            if let Err(error) = self.extend_chunk(pool, weights, (ids, t, done), step, &now) {
                self.past = before;
                return Err(error);
            }
            done += step;
        }
        Ok(&self.logits)
    }

    pub(super) fn check(
        &self,
        weights: &Weights,
        ids: &[i32],
        t: usize,
        new: &[usize],
    ) -> Result<()> {
        if weights.data().len() != self.weights {
            let (found, wanted) = (weights.data().len(), self.weights);
            let message = format!("{found} weights, but the decoder was built for {wanted}");
            return Err(Error::new(Kind::Shape, "decode", message)
                .hint("a decoder with stored matrices runs on StoredWeights::rest"));
        }
        if ids.len() != self.batch * t || new.len() != self.batch || new.iter().any(|&n| n > t) {
            return Err(Error::new(
                Kind::Shape,
                "decode",
                format!("{} ids and {new:?} new ones, but B = {}, T = {t}", ids.len(), self.batch),
            ));
        }
        for (row, (&past, &new)) in self.past.iter().zip(new).enumerate() {
            if past + new > self.capacity {
                return Err(Error::new(
                    Kind::Input,
                    "decode",
                    format!(
                        "row {row} would hold {past} + {new} tokens, but there is room for {}",
                        self.capacity
                    ),
                )
                .hint("shorten the prompt, ask for fewer tokens, or use a longer context"));
            }
        }
        Ok(())
    }

    /// The largest chunk that is not mostly padding and whose padding stays inside the context.
    fn chunk_size(&self, left: &[usize]) -> usize {
        let longest = left.iter().copied().max().unwrap_or(0);
        let furthest = self.past.iter().zip(left).filter(|(_, l)| **l > 0).map(|(p, _)| *p).max();
        let room = self.capacity - furthest.unwrap_or(0);
        let worth = |c| c == 1 || longest >= c || c != LONGEST && longest * 2 > c;
        let fits = |&&c: &&usize| c <= room && worth(c);
        CHUNKS.iter().find(fits).copied().unwrap_or(1)
    }

    /// The chunk for `t` tokens, planned when first needed.
    pub(super) fn chunk(&mut self, t: usize, every: bool) -> Result<usize> {
        if let Some(at) = self.chunks.iter().position(|c| (c.t, c.every) == (t, every)) {
            return Ok(at);
        }
        let (stored, size) = (self.stored.as_ref(), (self.batch, t));
        let sources = self.sources.as_ref().map_or((0, 0), |s| (s.texts(), s.longest()));
        let want = Want { size, capacity: self.capacity, sources, every };
        let mut chunk = Chunk::new(
            &self.config,
            stored,
            want,
            (&self.standing, &self.recording.sites),
            self.threads,
        )?;
        chunk.session.measure(self.measure);
        self.chunks.push(chunk);
        Ok(self.chunks.len() - 1)
    }

    fn extend_chunk(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        (ids, t, done): (&[i32], usize, usize),
        step: usize,
        now: &[usize],
    ) -> Result<()> {
        let at = self.chunk(step, false)?;
        let Self { chunks, cache, past, logits, config, sources, recording, .. } = self;
        let chunk = &mut chunks[at];
        chunk.tell_lengths(sources.as_ref());
        for (row, (&n, &p)) in now.iter().zip(&*past).enumerate() {
            let from = &ids[row * t + done.min(t)..][..n];
            let to = &mut chunk.session.ints_mut(chunk.ids)[row * step..][..step];
            to.fill(0);
            to[..n].copy_from_slice(from);
            // An idle row's padding must not run past the last position.
            chunk.session.ints_mut(chunk.past)[row] = if n == 0 { 0 } else { p as i32 };
            chunk.session.ints_mut(chunk.new)[row] = n as i32;
        }
        chunk.session.swap_states(cache);
        let ran = chunk.session.run(pool, weights.data(), None, RunInfo::default());
        chunk.session.swap_states(cache);
        ran?;
        chunk.tell(recording, now)?;
        let v = config.vocab;
        let fresh = chunk.session.value(chunk.logits)?;
        for (row, &n) in now.iter().enumerate() {
            if n > 0 {
                logits[row * v..][..v].copy_from_slice(&fresh[row * v..][..v]);
                past[row] += n;
            }
        }
        Ok(())
    }
}
