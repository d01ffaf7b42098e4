//! A model's weights for inference: matrices in fewer bits, norms, biases and positions in f32.

use super::config::Config;
use super::weights::{ParamSpec, Weights, parameters};
use crate::backend::cpu::pool::Pool;
use crate::backend::cpu::stored::{Format, Store, StoredMatrix};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All parameters of a model, its matrices stored. The token embedding is one matrix, also where the head shares it.
#[derive(Clone, Debug)]
pub struct StoredWeights {
    format: Format,
    matrices: BTreeMap<String, Arc<StoredMatrix>>,
    rest: Weights,
    /// Bytes that one token reads.
    streamed: usize,
}

/// Where a parameter belongs.
#[derive(Debug)]
pub enum Part<'a> {
    /// Among those in f32.
    Rest(&'a mut [f32]),
    /// A matrix of this shape (n, k), to be added to the store.
    Matrix(&'a mut Store, (usize, usize)),
}

/// Whether a parameter is one of the matrices that are stored: every linear weight, the head, the token embedding.
#[must_use]
pub fn is_matrix(spec: &ParamSpec) -> bool {
    let small = ["embedding.position", "embedding.segment", "relative", "lstm.hidden.weight"];
    spec.shape.len() == 2 && !small.iter().any(|name| spec.name.ends_with(name))
}

impl StoredWeights {
    /// Stores `weights`; their f32 memory is free when this returns.
    ///
    /// # Errors
    /// A matrix with NaN, infinity or a number beyond bf16, naming it and the place; weights of another config.
    pub fn from_weights(
        pool: &Pool,
        config: &Config,
        weights: Weights,
        format: Format,
    ) -> Result<Self> {
        if weights.specs() != parameters(config) {
            let message = "the weights belong to another config";
            return Err(Error::new(Kind::Shape, "store weights", message));
        }
        Self::build(pool, config, format, |spec, to| {
            to.copy_from_slice(weights.get(&spec.name)?);
            Ok(())
        })
    }

    /// The weights of `Weights::init`, stored as they are drawn: never all in f32.
    ///
    /// # Errors
    /// As [`Self::from_weights`].
    pub fn init(pool: &Pool, config: &Config, seed: u64, format: Format) -> Result<Self> {
        let specs = parameters(config);
        Self::build(pool, config, format, |spec, to| {
            let stream = specs.iter().position(|s| s.name == spec.name).unwrap_or_default();
            spec.draw((seed, stream as u64), to);
            Ok(())
        })
    }

    /// Asks `fill` for the values of one parameter after another, into zeros.
    ///
    /// # Errors
    /// Those of `fill`, and as [`Self::from_weights`].
    pub fn build(
        pool: &Pool,
        config: &Config,
        format: Format,
        mut fill: impl FnMut(&ParamSpec, &mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        let mut values = Vec::new();
        Self::assemble(config, format, |spec, part| {
            values.clear();
            values.resize(spec.len(), 0.0);
            fill(spec, &mut values)?;
            match part {
                Part::Rest(rest) => rest.copy_from_slice(&values),
                Part::Matrix(store, shape) => store
                    .add_values(pool, format, shape, &values)
                    .map_err(|e| e.fact(format!("in {}", spec.name)))?,
            }
            Ok(())
        })
    }

    /// Asks `fill` to put one parameter after another where it belongs.
    ///
    /// # Errors
    /// Those of `fill`; a matrix that it did not add.
    pub fn assemble(
        config: &Config,
        format: Format,
        mut fill: impl FnMut(&ParamSpec, Part<'_>) -> Result<()>,
    ) -> Result<Self> {
        config.validate()?;
        let all = parameters(config);
        let (matrices, rest): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_matrix);
        let mut rest = Weights::of(rest);
        let shape = |s: &ParamSpec| (s.shape[0], s.shape[1]);
        let mut store = Store::new(format, &matrices.iter().map(shape).collect::<Vec<_>>());
        for spec in &all {
            let part = match is_matrix(spec) {
                true => Part::Matrix(&mut store, shape(spec)),
                false => Part::Rest(rest.get_mut(&spec.name)?),
            };
            fill(spec, part)?;
        }
        let found = store.finish();
        let wanted = matrices.iter().map(|s| (s.name.clone(), shape(s)));
        if !found.iter().map(|m| (m.shape(), m.format())).eq(wanted.clone().map(|w| (w.1, format)))
        {
            let message = "a matrix is missing, or has another shape or format";
            return Err(Error::new(Kind::Shape, "store weights", message));
        }
        let matrices = wanted.zip(found).map(|((name, _), m)| (name, Arc::new(m))).collect();
        let mut weights = Self { format, matrices, rest, streamed: 0 };
        weights.streamed = weights.streamed(config);
        Ok(weights)
    }

    /// How matrices are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// What is not stored, in f32: what a tape built for these weights has as its parameters.
    #[must_use]
    pub fn rest(&self) -> &Weights {
        &self.rest
    }

    /// A stored matrix by its parameter's name.
    ///
    /// # Errors
    /// No such matrix.
    pub fn matrix(&self, name: &str) -> Result<Arc<StoredMatrix>> {
        self.matrices.get(name).cloned().ok_or_else(|| {
            Error::new(Kind::Shape, "stored weights", format!("no matrix is named {name:?}"))
        })
    }

    /// Bytes of all weights in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let matrices: usize = self.matrices.values().map(|m| m.bytes()).sum();
        matrices + size_of_val(self.rest.data())
    }

    /// Bytes of weights that one decoded token reads: all but the tables of which it reads one row.
    #[must_use]
    pub fn bytes_per_token(&self) -> usize {
        self.streamed
    }

    fn streamed(&self, config: &Config) -> usize {
        let looked_up = |name: &str| {
            name.ends_with("embedding.token") && (!config.tied_head || name != "embedding.token")
        };
        let matrices = self.matrices.iter().filter(|(name, _)| !looked_up(name));
        let rest = self.rest.specs().iter().filter(|s| !s.name.ends_with("embedding.position"));
        matrices.map(|(_, m)| m.bytes()).sum::<usize>()
            + 4 * rest.map(ParamSpec::len).sum::<usize>()
    }

    /// The same numbers in f32.
    ///
    /// # Errors
    /// Another config.
    pub fn dequantised(&self, config: &Config) -> Result<Weights> {
        let mut weights = Weights::zeros(config);
        for spec in parameters(config) {
            let to = weights.get_mut(&spec.name)?;
            match self.matrices.get(&spec.name) {
                None => to.copy_from_slice(self.rest.get(&spec.name)?),
                Some(m) => {
                    let rows = to.chunks_exact_mut(spec.shape[1]);
                    rows.enumerate().for_each(|(i, row)| m.dequantise(i, row));
                }
            }
        }
        Ok(weights)
    }
}
