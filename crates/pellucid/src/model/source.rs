//! What a decoder remembers of the sources: their keys and values, projected once for all its rows and steps.

use super::batch::Batch;
use super::builder::{Builder, Purpose, Shape};
use super::config::Config;
use super::cross::keys_and_values;
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
    /// (texts, S, 2 K D) for each block of the decoder.
    outputs: Vec<Value>,
}

impl Encoder {
    fn new(config: &Config, texts: usize, s: usize, threads: usize) -> Result<Self> {
        let shape = Shape { b: texts, t: 1, s };
        let mut m = Builder::new(config, shape, Purpose::Observe, Precision::F32, None)?;
        let x = stack(&mut m)?;
        let outputs: Vec<Value> = (0..config.decoder_layers)
            .map(|layer| keys_and_values(&mut m, layer, (x, texts * s)))
            .collect::<Result<_>>()?;
        outputs.iter().for_each(|&value| m.tape.keep(value));
        let inputs = m.inputs;
        let session = Session::new(Plan::infer(m.tape, threads)?);
        Ok(Self { s, session, ids: inputs.ids, new: inputs.new, outputs })
    }
}

/// Sources and their encoder.
#[derive(Debug)]
pub(super) struct Sources {
    texts: usize,
    longest: usize,
    threads: usize,
    lengths: Vec<i32>,
    /// 2 K D.
    width: usize,
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
        let width = 2 * config.kv_heads * config.head_width;
        Ok(Self { texts, longest, threads, lengths: vec![0; texts], width, encoders: vec![] })
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

    /// Elements of one block's keys and values.
    pub(super) fn elements(&self) -> usize {
        self.texts * self.longest * self.width
    }

    /// Encodes; every third buffer of `cache` gets a block's keys and values.
    pub(super) fn read(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        config: &Config,
        sources: &[&[i32]],
        cache: &mut [Buffer],
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
        for (&value, to) in encoder.outputs.iter().zip(cache.chunks_exact_mut(3)) {
            let rows = encoder.session.value(value)?.chunks_exact(s * self.width);
            for (from, to) in rows.zip(to[2].chunks_exact_mut(self.longest * self.width)) {
                to[..from.len()].copy_from_slice(from);
            }
        }
        self.lengths.copy_from_slice(&batch.lengths);
        Ok(())
    }
}
