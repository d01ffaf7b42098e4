//! Forward passes over whole texts of any lengths: scores, or vectors.

use super::batch::{Batch, cut, pass_rows};
use super::config::{Config, Output, Pooling};
use super::graph::{Aim, Graphs, Recipe};
use super::stored_weights::StoredWeights;
use super::weights::Weights;
use crate::autograd::RunInfo;
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::Result;

/// What is read off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Scores, (B, T, V), (B, T, labels) or (B, labels), as the model gives them.
    Scores,
    /// The vector that stands for each text, (B, C), as the model makes it.
    Pooled,
    /// The vectors of each text pooled otherwise, and nothing after that: sentence embeddings, (B, C).
    PooledAs(Pooling),
    /// Every position's vector, (B, T, C).
    Vectors,
}

/// Reads batches with one model.
#[derive(Debug)]
pub struct Reader {
    config: Config,
    wanted: Wanted,
    precision: Precision,
    stored: Option<StoredWeights>,
    threads: usize,
    graphs: Graphs,
}

impl Reader {
    /// For `wanted` of a model; products in `precision`.
    ///
    /// # Errors
    /// An invalid config.
    pub fn new(
        config: &Config,
        wanted: Wanted,
        precision: Precision,
        threads: usize,
    ) -> Result<Self> {
        config.validate()?;
        let (config, graphs) = (config.clone(), Graphs::default());
        Ok(Self { config, wanted, precision, stored: None, threads, graphs })
    }

    /// With stored matrices, which it shares; runs are given [`StoredWeights::rest`].
    #[must_use]
    pub fn with_stored(mut self, stored: &StoredWeights) -> Self {
        self.stored = Some(stored.clone());
        self
    }

    /// Reads a batch; targets are not looked at. Rows of the answer are as wide as the batch; what stands beyond a
    /// row's length means nothing.
    ///
    /// # Errors
    /// A batch of other sizes than it says, longer than the context, or with ids outside the vocabulary.
    pub fn run(&mut self, pool: &Pool, weights: &Weights, batch: &Batch) -> Result<Vec<f32>> {
        batch.check(&self.config, true)?;
        let aim = match self.wanted {
            Wanted::Scores => Aim::Scores,
            Wanted::Pooled => Aim::Pooled(None),
            Wanted::PooledAs(pooling) => Aim::Pooled(Some(pooling)),
            Wanted::Vectors => Aim::Vectors,
        };
        let (config, stored) = (&self.config, self.stored.as_ref());
        let (precision, threads) = (self.precision, self.threads);
        let recipe = Recipe {
            config,
            aim,
            precision,
            smoothing: 0.0,
            stored,
            threads,
            frozen: None,
            standing: &[],
        };
        // Whether the answer has a row for each text, not for each position.
        let of_texts = match self.wanted {
            Wanted::Pooled | Wanted::PooledAs(_) => true,
            Wanted::Scores => config.output == Output::Sequence,
            Wanted::Vectors => false,
        };
        let whole = pass_rows(config.core, batch.rows, batch.time + batch.source_time);
        let mut all = Vec::new();
        for pass in cut(batch, config, whole) {
            let (graph, memory) = self.graphs.of(&recipe, pass.shape)?;
            graph.fill(batch, &pass);
            let value = graph.outputs[0];
            graph.session.in_memory(memory, |session| {
                session.run(pool, weights.data(), None, RunInfo::default())?;
                let found = session.value(value)?;
                let row = found.len() / pass.shape.b;
                let row = if of_texts { row } else { row / pass.shape.t * batch.time };
                all.resize(batch.rows * row, 0.0);
                pass.scatter(found, batch, &mut all);
                Ok(())
            })?;
        }
        Ok(all)
    }
}
