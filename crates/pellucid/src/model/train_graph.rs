//! A Transformer ready to train: loss and gradients of one micro-batch, loss alone of another.
//!
//! Rows of a batch do not meet before the loss, so they go through the layers in *passes* of a few rows, whose
//! activations stay in the cache and whose gradients are added up: the same sum, in a fraction of the memory.

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

/// Tokens above which a micro-batch is cut into passes: measured, the fastest on 2 MiB of L2 per core.
const PASS_TOKENS: usize = 1024;

/// Shape and precision of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// B: rows.
    pub batch: usize,
    /// T: tokens in a row.
    pub time: usize,
    /// Rows that go through the layers together; none: as many as stay in cache ([`pass_rows`]).
    pub pass_rows: Option<usize>,
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
        passes: Passes,
        training: bool,
        threads: usize,
    ) -> Result<Self> {
        let purpose = if training { Purpose::Train } else { Purpose::Observe };
        let (b, t) = (passes.rows, options.time);
        let mut m = Builder::new(config, b, t, purpose, options.precision)?;
        let targets = m.tape.ints(b * t);
        let x = transformer(&mut m)?;
        let outputs = head::loss(&mut m, x, targets)?;
        let (loss, each, ids) = (outputs[0], outputs[1], m.inputs.ids);
        m.tape.keep(loss);
        m.tape.keep(each);
        let plan = if training {
            let accumulates = options.training.accumulates || passes.count > 1;
            Plan::train(m.tape, loss, Training { accumulates, ..options.training }, threads)?
        } else {
            Plan::infer(m.tape, threads)?
        };
        Ok(Self { session: Session::new(plan), ids, targets, loss, each })
    }

    /// Rows of one pass; missing ones are ids 0 without a target.
    fn fill(&mut self, ids: &[i32], targets: &[i32]) {
        for (given, slot, rest) in [(ids, self.ids, 0), (targets, self.targets, IGNORE)] {
            let to = self.session.ints_mut(slot);
            to[..given.len()].copy_from_slice(given);
            to[given.len()..].fill(rest);
        }
    }
}

/// Rows of a pass, for B = `batch` and T = `time`: equal passes of about 1024 tokens, at least a row.
#[must_use]
pub fn pass_rows(batch: usize, time: usize) -> usize {
    let passes = (batch * time).div_ceil(PASS_TOKENS).clamp(1, batch.max(1));
    batch.div_ceil(passes)
}

/// How a micro-batch is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passes {
    /// Passes.
    count: usize,
    /// Rows of each but the last, which may have fewer.
    rows: usize,
}

impl Passes {
    fn new(options: &TrainOptions) -> Self {
        let rows = options.pass_rows.unwrap_or_else(|| pass_rows(options.batch, options.time));
        let rows = rows.clamp(1, options.batch.max(1));
        // A batch of no rows is the tape's to refuse.
        Self { count: options.batch.div_ceil(rows).max(1), rows: rows.min(options.batch) }
    }
}

/// Targets that count.
#[must_use]
pub fn counted(targets: &[i32]) -> usize {
    targets.iter().filter(|&&t| t != IGNORE).count()
}

/// Loss and gradients of micro-batches of one shape.
#[derive(Debug)]
pub struct TrainGraph {
    config: Config,
    options: TrainOptions,
    passes: Passes,
    threads: usize,
    timings: Option<Vec<Timing>>,
    train: Graph,
    /// Built when first needed; works in the memory of `train`.
    evaluate: Option<Graph>,
}

impl TrainGraph {
    /// Plans and allocates everything. Errors: an invalid config, a batch longer than the context, a
    /// trainable parameter without a gradient.
    pub fn new(config: &Config, options: TrainOptions, threads: usize) -> Result<Self> {
        let passes = Passes::new(&options);
        let train = Graph::new(config, &options, passes, true, threads)?;
        let config = config.clone();
        Ok(Self { config, options, passes, threads, timings: None, train, evaluate: None })
    }

    /// Bytes of activations, their gradients and working memory.
    #[must_use]
    pub fn activation_bytes(&self) -> usize {
        self.train.session.bytes()
    }

    /// Floating-point operations of one micro-batch, forward and backward; what is computed again to save memory
    /// is not counted twice.
    #[must_use]
    pub fn flops_per_step(&self) -> u64 {
        self.train.session.plan().flops() * self.passes.count as u64
    }

    /// Switches the measuring of each operation on or off.
    pub fn measure(&mut self, on: bool) {
        self.train.session.measure(on);
        self.timings = on.then(Vec::new);
    }

    /// What the operations of the last step took, if measured.
    #[must_use]
    pub fn timings(&self) -> &[Timing] {
        self.timings.as_deref().unwrap_or(&[])
    }

    /// Ids and targets of each pass, after a check of their number.
    fn cut<'a>(
        &self,
        ids: &'a [i32],
        targets: &'a [i32],
    ) -> Result<impl Iterator<Item = (&'a [i32], &'a [i32])> + use<'a>> {
        let n = self.options.batch * self.options.time;
        for (name, given) in [("ids", ids), ("targets", targets)] {
            if given.len() != n {
                let message = format!("{} {name}, but B·T = {n}", given.len());
                return Err(Error::new(Kind::Shape, "transformer", message));
            }
        }
        let pass = self.passes.rows * self.options.time;
        Ok(ids.chunks(pass).zip(targets.chunks(pass)))
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
        let (passes, all) = (self.cut(ids, targets)?, counted(targets).max(1) as f32);
        if let Some(timings) = &mut self.timings {
            timings.clear();
        }
        let mut loss = 0.0;
        for (pass, (ids, targets)) in passes.enumerate() {
            // The loss of a pass is the mean over its own targets.
            let share = counted(targets) as f32 / all;
            self.train.fill(ids, targets);
            let grads = ParamGrads { data: &mut *grads, first: first && pass == 0 };
            let step = run.step * self.passes.count as u64 + pass as u64;
            let run = RunInfo { training: true, step, grad_scale: run.grad_scale * share, ..run };
            self.train.session.run(pool, weights.data(), Some(grads), run)?;
            loss += f64::from(self.train.session.value(self.train.loss)?[0]) * f64::from(share);
            if let Some(timings) = &mut self.timings {
                timings.extend_from_slice(self.train.session.timings());
            }
        }
        Ok(loss as f32)
    }

    /// Mean loss and each position's own (0 where ignored). No dropout, no gradients.
    pub fn evaluate(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        ids: &[i32],
        targets: &[i32],
    ) -> Result<(f32, Vec<f32>)> {
        let (passes, all) = (self.cut(ids, targets)?, counted(targets).max(1) as f64);
        if self.evaluate.is_none() {
            let (config, options) = (&self.config, &self.options);
            let graph = Graph::new(config, options, self.passes, false, self.threads)?;
            self.evaluate = Some(graph);
        }
        let graph = self.evaluate.as_mut().expect("just built");
        let (mut mean, mut losses) = (0.0, Vec::with_capacity(ids.len()));
        for (ids, targets) in passes {
            graph.fill(ids, targets);
            let (loss, each) = (graph.loss, graph.each);
            graph.session.in_memory_of(&mut self.train.session, |session| {
                session.run(pool, weights.data(), None, RunInfo::default())?;
                mean += f64::from(session.value(loss)?[0]) * counted(targets) as f64 / all;
                losses.extend_from_slice(&session.value(each)?[..ids.len()]);
                Ok(())
            })?;
        }
        Ok((mean as f32, losses))
    }
}
