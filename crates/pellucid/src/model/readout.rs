//! Vectors of the stream read as the model reads its last: through the last norm and the head.

use super::builder::{Builder, Purpose, Shape};
use super::config::{Config, NormPlacement};
use super::head;
use super::norm::norm;
use super::parameters::stacks;
use super::stored_weights::StoredWeights;
use super::transformer::given;
use super::weights::Weights;
use crate::autograd::{Plan, RunInfo, Session, Value};
use crate::backend::buffer::Buffer;
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};

/// Vectors at a time.
pub(super) const ROWS: usize = 64;

/// Scores of vectors, a few at a time.
#[derive(Debug)]
pub struct Readout {
    session: Session,
    states: Vec<Buffer>,
    scores: Value,
    width: usize,
    vocab: usize,
}

impl Readout {
    /// `normalised`: the vectors are read by the head as they are, not through the last norm first.
    ///
    /// # Errors
    /// A model without a head for tokens.
    pub fn new(config: &Config, normalised: bool, threads: usize) -> Result<Self> {
        Self::build(config, normalised, None, threads)
    }

    /// As [`Self::new`]; the head's matrix may be stored.
    pub(super) fn build(
        config: &Config,
        normalised: bool,
        stored: Option<&StoredWeights>,
        threads: usize,
    ) -> Result<Self> {
        let shape = Shape { b: ROWS, t: 1, s: usize::from(config.has_source()) };
        let (width, vocab) = (config.width, config.outputs());
        let mut m = Builder::new(config, shape, Purpose::Observe, Precision::F32, stored)?;
        m.stack = stacks(config)[usize::from(config.has_source())];
        let mut x = given(&mut m, ROWS * config.width)?;
        if config.norm_placement == NormPlacement::Pre && !normalised {
            let name = m.name("norm");
            x = norm(&mut m, &name, (x, ROWS))?;
        }
        let scores = head::logits(&mut m, x)?;
        m.tape.keep(scores);
        let mut session = Session::new(Plan::infer(m.tape, threads)?);
        let mut states = vec![];
        session.swap_states(&mut states);
        Ok(Self { session, states, scores, width, vocab })
    }

    /// Scores (N, V) of vectors (N, C).
    ///
    /// # Errors
    /// Vectors of another width.
    pub fn read(&mut self, pool: &Pool, weights: &Weights, vectors: &[f32]) -> Result<Vec<f32>> {
        let mut all = vec![];
        self.each(pool, weights, vectors, &mut |scores| {
            all.extend_from_slice(scores);
            Ok(())
        })?;
        Ok(all)
    }

    /// As [`Self::read`], but the scores of a few vectors at a time are given to `each`.
    ///
    /// # Errors
    /// As [`Self::read`]; whatever `each` gives.
    pub fn each(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        vectors: &[f32],
        each: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        if !vectors.len().is_multiple_of(self.width) {
            let message = format!("{} elements, but C = {}", vectors.len(), self.width);
            return Err(Error::new(Kind::Shape, "readout", message));
        }
        for some in vectors.chunks(ROWS * self.width) {
            let state = &mut self.states[0];
            state[..some.len()].copy_from_slice(some);
            state[some.len()..].fill(0.0);
            self.session.swap_states(&mut self.states);
            let ran = self.session.run(pool, weights.data(), None, RunInfo::default());
            self.session.swap_states(&mut self.states);
            ran?;
            each(&self.session.value(self.scores)?[..some.len() / self.width * self.vocab])?;
        }
        Ok(())
    }
}
