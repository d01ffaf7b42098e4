//! What every layer needs to put its operations on the tape.

use super::config::{Config, Positions};
use super::site::Site;
use super::stored_weights::StoredWeights;
use super::weights::parameters;
use crate::autograd::{InferenceOp, Ints, Op, Param, Tape, Value};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::stored::StoredMatrix;
use crate::error::{Error, Kind, Result};
use crate::ops::rotary;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the tape is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Forward and backward over whole sequences, with dropout.
    Train,
    /// Forward over whole sequences.
    Observe,
    /// Forward over new tokens after those in a KV cache of this many positions.
    Extend {
        /// Positions the cache holds.
        capacity: usize,
    },
}

/// Integer inputs of a model's tape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    /// Token ids, (B, T).
    pub(super) ids: Ints,
    /// Positions before the first of these tokens, (B).
    pub(super) past: Ints,
    /// New tokens that are real, (B); the rest is padding. Used when extending.
    pub(super) new: Ints,
}

/// A tape under construction, with the model's sizes and parameters at hand.
pub(super) struct Builder<'c> {
    pub(super) tape: Tape,
    pub(super) config: &'c Config,
    pub(super) b: usize,
    pub(super) t: usize,
    pub(super) purpose: Purpose,
    pub(super) precision: Precision,
    pub(super) inputs: Inputs,
    pub(super) rotary: Option<Arc<rotary::Table>>,
    /// Where the matrices are when they are not parameters of the tape.
    stored: Option<&'c StoredWeights>,
    params: BTreeMap<String, Param>,
    streams: u32,
    observed: Vec<Site>,
    /// Observed sites and where they are.
    pub(super) sites: Vec<(Site, Value)>,
}

impl<'c> Builder<'c> {
    pub(super) fn new(
        config: &'c Config,
        b: usize,
        t: usize,
        purpose: Purpose,
        precision: Precision,
    ) -> Result<Self> {
        Self::with(config, (b, t), purpose, precision, None)
    }

    /// As [`Self::new`]; where there are stored weights, only the rest are parameters of the tape.
    pub(super) fn with(
        config: &'c Config,
        (b, t): (usize, usize),
        purpose: Purpose,
        precision: Precision,
        stored: Option<&'c StoredWeights>,
    ) -> Result<Self> {
        config.validate()?;
        if b == 0 || t == 0 || t > config.context {
            return Err(Error::new(
                Kind::Shape,
                "transformer",
                format!(
                    "B = {b} rows of T = {t} tokens, but the context is 1..={}",
                    config.context
                ),
            )
            .hint("shorten the sequences, or build the model with a longer context"));
        }
        let mut tape = Tape::new();
        let inputs = Inputs { ids: tape.ints(b * t), past: tape.ints(b), new: tape.ints(b) };
        let all = parameters(config);
        let specs = stored.map_or(&*all, |s| s.rest().specs());
        let params = specs
            .iter()
            .map(|spec| (spec.name.clone(), tape.param(&spec.name, spec.range(), true)))
            .collect();
        let rotary = match config.positions {
            Positions::Rotary => Some(rotary::Table::new(
                config.head_width,
                config.rotary_base,
                rotary::Scaling::None,
                config.context,
            )?),
            _ => None,
        };
        Ok(Self {
            tape,
            config,
            b,
            t,
            purpose,
            precision,
            inputs,
            rotary,
            stored,
            params,
            streams: 0,
            observed: vec![],
            sites: vec![],
        })
    }

    pub(super) fn observe(&mut self, sites: &[Site]) {
        self.observed = sites.to_vec();
    }

    /// Rows of a (B, T, ..) value.
    pub(super) fn n(&self) -> usize {
        self.b * self.t
    }

    pub(super) fn param(&self, name: &str) -> Result<Param> {
        self.params.get(name).copied().ok_or_else(|| {
            Error::new(Kind::Shape, "transformer", format!("no parameter is named {name:?}"))
        })
    }

    /// The stored matrix `name`, where matrices are stored.
    pub(super) fn matrix(&self, name: &str) -> Result<Option<Arc<StoredMatrix>>> {
        self.stored.map(|stored| stored.matrix(name)).transpose()
    }

    /// `name.bias`, where there is one.
    pub(super) fn bias(&self, name: &str) -> Vec<Param> {
        self.params.get(&format!("{name}.bias")).copied().into_iter().collect()
    }

    /// `name.weight`, and `name.bias` where there is one.
    pub(super) fn weight_and_bias(&self, name: &str) -> Result<Vec<Param>> {
        let weight = self.param(&format!("{name}.weight"))?;
        let bias = self.params.get(&format!("{name}.bias")).copied();
        Ok([Some(weight), bias].into_iter().flatten().collect())
    }

    /// A random stream of its own for each dropout.
    pub(super) fn stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams
    }

    /// Whether elements are dropped on this tape.
    pub(super) fn drops(&self) -> bool {
        self.purpose == Purpose::Train && self.config.dropout > 0.0
    }

    /// Records an operation with one output.
    pub(super) fn push(
        &mut self,
        op: impl Op + 'static,
        inputs: &[Value],
        ints: &[Ints],
        params: &[Param],
    ) -> Result<Value> {
        Ok(self.tape.push(op, inputs, ints, params)?[0])
    }

    /// Records an operation with one output that exists only for inference.
    pub(super) fn push_inference(
        &mut self,
        op: impl InferenceOp + 'static,
        inputs: &[Value],
        ints: &[Ints],
        params: &[Param],
    ) -> Result<Value> {
        Ok(self.tape.push_inference(op, inputs, ints, params, &[])?[0])
    }

    /// Marks a value as the one to be seen at `site`.
    pub(super) fn site(&mut self, site: Site, value: Value) {
        if self.observed.contains(&site) {
            self.tape.keep(value);
            self.sites.push((site, value));
        }
    }
}
