//! What a decoder remembers of the sources: their keys and values, projected once for all its rows and steps.

use super::batch::Batch;
use super::builder::{Builder, Purpose, Shape};
use super::config::{Config, Core};
use super::cross::keys_and_values;
use super::memory::{Slot, Sort};
use super::recurrent;
use super::transformer::stack;
use super::weights::Weights;
use crate::autograd::{Ints, Plan, RunInfo, Session, Value};
use crate::backend::buffer::Buffer;
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};

/// Lengths are rounded up to a multiple of this: few plans.
const GRAIN: usize = 8;

/// The encoder for sources of at most `s` tokens, up to each decoder block's keys and values.
#[derive(Debug)]
struct Encoder {
    s: usize,
    session: Session,
    ids: Ints,
    new: Ints,
    /// What the sources are remembered by: of a Transformer keys and values (texts, S, 2 K D) for each block of the
    /// decoder, of an LSTM keys and vectors (texts, S, C).
    outputs: Vec<Value>,
    /// What the decoder starts with: of an LSTM h and c (texts, C) for each layer.
    states: Vec<Value>,
}

impl Encoder {
    fn new(config: &Config, texts: usize, s: usize, threads: usize) -> Result<Self> {
        let shape = Shape { b: texts, t: 1, s };
        let mut m = Builder::new(config, shape, Purpose::Observe, Precision::F32, None)?;
        let x = stack(&mut m)?;
        let rows = texts * s;
        let outputs: Vec<Value> = match config.core {
            Core::Lstm => vec![recurrent::keys(&mut m, (x, rows))?, x],
            Core::Transformer => (0..config.decoder_layers)
                .map(|layer| keys_and_values(&mut m, layer, (x, rows)))
                .collect::<Result<_>>()?,
        };
        let states: Vec<Value> = m.last_states.iter().flatten().copied().collect();
        outputs.iter().chain(&states).for_each(|&value| m.tape.keep(value));
        let inputs = m.inputs;
        let session = Session::new(Plan::infer(m.tape, threads)?);
        Ok(Self { s, session, ids: inputs.ids, new: inputs.new, outputs, states })
    }
}

/// Sources and their encoder.
#[derive(Debug)]
pub(super) struct Sources {
    texts: usize,
    longest: usize,
    threads: usize,
    lengths: Vec<i32>,
    encoders: Vec<Encoder>,
}

impl Sources {
    pub(super) fn new(
        config: &Config,
        (texts, longest): (usize, usize),
        threads: usize,
    ) -> Result<Self> {
        if !config.has_source() || texts == 0 || longest == 0 || longest > config.context {
            let message = format!(
                "{texts} sources of {longest} tokens; the context is 1..={}",
                config.context
            );
            return Err(Error::new(Kind::Input, "decode", message)
                .hint("sources need an encoder-decoder; shorten them to its context"));
        }
        Ok(Self { texts, longest, threads, lengths: vec![0; texts], encoders: vec![] })
    }

    pub(super) fn texts(&self) -> usize {
        self.texts
    }

    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Real tokens of each source.
    pub(super) fn lengths(&self) -> &[i32] {
        &self.lengths
    }

    /// Encodes, and writes what is remembered where it belongs.
    pub(super) fn read<'c>(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        config: &Config,
        sources: &[&[i32]],
        cache: impl Iterator<Item = (&'c mut Buffer, &'c Slot)>,
    ) -> Result<()> {
        let batch = Batch::ragged(sources, &[])?;
        if sources.len() != self.texts || batch.time > self.longest {
            let message = format!(
                "{} sources of at most {} tokens, but there is room for {} of {}",
                sources.len(),
                batch.time,
                self.texts,
                self.longest
            );
            return Err(Error::new(Kind::Input, "decode", message)
                .hint("shorten the source, or make room for longer ones"));
        }
        let s = batch.time.next_multiple_of(GRAIN).min(self.longest);
        let at = match self.encoders.iter().position(|e| e.s == s) {
            Some(at) => at,
            None => {
                self.encoders.push(Encoder::new(config, self.texts, s, self.threads)?);
                self.encoders.len() - 1
            }
        };
        let encoder = &mut self.encoders[at];
        let ids = encoder.session.ints_mut(encoder.ids);
        ids.fill(0);
        for (to, from) in ids.chunks_exact_mut(s).zip(sources) {
            to[..from.len()].copy_from_slice(from);
        }
        encoder.session.ints_mut(encoder.new).copy_from_slice(&batch.lengths);
        encoder.session.run(pool, weights.data(), None, RunInfo::default())?;
        let (mut outputs, mut states) = (encoder.outputs.iter(), encoder.states.iter());
        for (to, slot) in cache {
            let from = match slot.sort {
                Sort::Growing => None,
                Sort::Source => outputs.next(),
                Sort::State => states.next(),
            };
            let Some(&value) = from else { continue };
            let from = encoder.session.value(value)?;
            let (row, to_row) = (from.len() / self.texts, to.len() / self.texts);
            for (from, to) in from.chunks_exact(row).zip(to.chunks_exact_mut(to_row)) {
                match slot.sort {
                    // One state for each row about the source.
                    Sort::State => to.chunks_exact_mut(row).for_each(|to| to.copy_from_slice(from)),
                    _ => to[..row].copy_from_slice(from),
                }
            }
        }
        self.lengths.copy_from_slice(&batch.lengths);
        Ok(())
    }
}
