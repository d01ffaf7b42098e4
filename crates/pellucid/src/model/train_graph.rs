//! A Transformer ready to train: loss and gradients of one micro-batch, loss alone of another.

use super::builder::{Builder, Purpose};
use super::config::Config;
use super::head;
use super::transformer::transformer;
use super::weights::Weights;
use crate::autograd::{Ints, ParamGrads, Plan, RunInfo, Session, Timing, Training, Value};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};

/// Targets equal to this do not count.
pub const IGNORE: i32 = -100;

/// Shape and precision of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// B: rows.
    pub batch: usize,
    /// T: tokens in a row.
    pub time: usize,
    /// What is computed again to save memory, and whether gradients of several micro-batches are added up.
    pub training: Training,
    /// What matrix products compute in; weights stay f32.
    pub precision: Precision,
}

/// One planned tape and where its ends are.
#[derive(Debug)]
struct Graph {
    session: Session,
    ids: Ints,
    targets: Ints,
    loss: Value,
    each: Value,
}

impl Graph {
    fn new(
        config: &Config,
        options: &TrainOptions,
        training: bool,
        threads: usize,
    ) -> Result<Self> {
        let purpose = if training { Purpose::Train } else { Purpose::Observe };
        let (b, t) = (options.batch, options.time);
        let mut m = Builder::new(config, b, t, purpose, options.precision)?;
        let targets = m.tape.ints(b * t);
        let x = transformer(&mut m)?;
        let outputs = head::loss(&mut m, x, targets)?;
        let (loss, each, ids) = (outputs[0], outputs[1], m.inputs.ids);
        m.tape.keep(loss);
        m.tape.keep(each);
        let plan = if training {
            Plan::train(m.tape, loss, options.training, threads)?
        } else {
            Plan::infer(m.tape, threads)?
        };
        Ok(Self { session: Session::new(plan), ids, targets, loss, each })
    }

    fn fill(&mut self, ids: &[i32], targets: &[i32]) -> Result<()> {
        for (name, given, slot) in [("ids", ids, self.ids), ("targets", targets, self.targets)] {
            let to = self.session.ints_mut(slot);
            if given.len() != to.len() {
                return Err(Error::new(
                    Kind::Shape,
                    "transformer",
                    format!("{} {name}, but B·T = {}", given.len(), to.len()),
                ));
            }
            to.copy_from_slice(given);
        }
        Ok(())
    }
}

/// Loss and gradients of micro-batches of one shape.
#[derive(Debug)]
pub struct TrainGraph {
    config: Config,
    options: TrainOptions,
    threads: usize,
    train: Graph,
    /// Built when first needed; works in the memory of `train`.
    evaluate: Option<Graph>,
}

impl TrainGraph {
    /// Plans and allocates everything. Errors: an invalid config, a batch longer than the context, a
    /// trainable parameter without a gradient.
    pub fn new(config: &Config, options: TrainOptions, threads: usize) -> Result<Self> {
        let train = Graph::new(config, &options, true, threads)?;
        Ok(Self { config: config.clone(), options, threads, train, evaluate: None })
    }

    /// Bytes of activations, their gradients and working memory.
    #[must_use]
    pub fn activation_bytes(&self) -> usize {
        self.train.session.bytes()
    }

    /// Floating-point operations of one micro-batch, forward and backward, recomputation included.
    #[must_use]
    pub fn flops_per_step(&self) -> u64 {
        self.train.session.plan().flops()
    }

    /// Switches the measuring of each operation on or off.
    pub fn measure(&mut self, on: bool) {
        self.train.session.measure(on);
    }

    /// What the operations of the last step took, if measured.
    #[must_use]
    pub fn timings(&self) -> &[Timing] {
        self.train.session.timings()
    }

    /// Mean loss of one micro-batch of ids and targets, each (B, T). Gradients go into `grads`, flat like
    /// `Weights::data`: overwritten when `first`, else added (`Training::accumulates`).
    #[allow(clippy::too_many_arguments)] // The five operands of a step and three facts about it.
    pub fn step(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        grads: &mut [f32],
        first: bool,
        ids: &[i32],
        targets: &[i32],
        run: RunInfo,
    ) -> Result<f32> {
        self.train.fill(ids, targets)?;
        let run = RunInfo { training: true, ..run };
        let grads = ParamGrads { data: grads, first };
        self.train.session.run(pool, weights.data(), Some(grads), run)?;
        Ok(self.train.session.value(self.train.loss)?[0])
    }

    /// Mean loss and each position's own (0 where ignored). No dropout, no gradients.
    pub fn evaluate(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        ids: &[i32],
        targets: &[i32],
    ) -> Result<(f32, Vec<f32>)> {
        if self.evaluate.is_none() {
            self.evaluate = Some(Graph::new(&self.config, &self.options, false, self.threads)?);
        }
        let graph = self.evaluate.as_mut().expect("just built");
        graph.fill(ids, targets)?;
        let (loss, each) = (graph.loss, graph.each);
        graph.session.in_memory_of(&mut self.train.session, |session| {
            session.run(pool, weights.data(), None, RunInfo::default())?;
            Ok((session.value(loss)?[0], session.value(each)?.to_vec()))
        })
    }
}
