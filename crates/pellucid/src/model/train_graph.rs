//! A model ready to train: loss and gradients of one micro-batch, loss alone of another.
//!
//! Rows of a batch do not meet before the loss, so they go through the layers in *passes* of a few rows, whose
//! activations stay in the cache and whose gradients are added up: the same sum, in a fraction of the memory. Rows of
//! different lengths are sorted by them before, so that hardly anything is computed for padding.

pub use super::batch::{Batch, IGNORE, counted, pass_rows};
use super::batch::{PASS_TOKENS, cut};
use super::builder::Shape;
use super::config::{Config, Core};
use super::graph::{Aim, Graphs, Recipe};
use super::standing::Standing;
use super::weights::Weights;
pub use crate::autograd::RunInfo;
use crate::autograd::{ParamGrads, Timing, Training};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::Result;
use std::collections::BTreeSet;

/// Shape and precision of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainOptions {
    /// B: rows.
    pub batch: usize,
    /// T: tokens in a row, at most.
    pub time: usize,
    /// S: tokens in a source, at most; 0 where the model has one stack.
    pub source_time: usize,
    /// Whether rows are of different lengths.
    pub ragged: bool,
    /// Rows that go through the layers together; none: as [`pass_rows`] says. Only of whole rows.
    pub pass_rows: Option<usize>,
    /// What is computed again to save memory, and whether gradients of several micro-batches are added up.
    pub training: Training,
    /// What matrix products compute in; weights stay f32.
    pub precision: Precision,
    /// How much of the target's probability goes to all labels alike when training (Szegedy et al. 2016), 0..1.
    pub smoothing: f32,
}

impl TrainOptions {
    /// Whole rows in f32, everything kept.
    #[must_use]
    pub fn new(batch: usize, time: usize) -> Self {
        Self {
            batch,
            time,
            source_time: 0,
            ragged: false,
            pass_rows: None,
            training: Training::default(),
            precision: Precision::F32,
            smoothing: 0.0,
        }
    }

    /// Rows of a pass of whole rows.
    fn whole(&self, core: Core) -> usize {
        let time = self.time + self.source_time;
        let rows = self.pass_rows.unwrap_or_else(|| pass_rows(core, self.batch, time));
        rows.clamp(1, self.batch.max(1)).min(self.batch)
    }

    /// Shape of the largest pass.
    fn largest(&self, core: Core) -> Shape {
        let (t, s) = (self.time, self.source_time);
        let b = if self.ragged { (PASS_TOKENS / (t + s).max(1)).max(1) } else { self.whole(core) };
        Shape { b, t, s }
    }

    /// Passes of a batch of whole rows.
    fn count(&self, core: Core) -> usize {
        // A batch of no rows is the tape's to refuse.
        self.batch.div_ceil(self.whole(core).max(1)).max(1)
    }
}

/// Loss and gradients of micro-batches.
#[derive(Debug)]
pub struct TrainGraph {
    config: Config,
    options: TrainOptions,
    frozen: BTreeSet<String>,
    pub(super) standing: Vec<Standing>,
    threads: usize,
    timings: Option<Vec<Timing>>,
    flops: u64,
    train: Graphs,
    /// Built when first needed; works in the memory of `train`.
    evaluate: Graphs,
    right: u64,
}

impl TrainGraph {
    /// Plans the largest pass. Errors: an invalid config, a batch longer than the context, a trainable parameter
    /// without a gradient.
    pub fn new(config: &Config, options: TrainOptions, threads: usize) -> Result<Self> {
        Self::with_frozen(config, options, BTreeSet::new(), threads)
    }

    /// As [`TrainGraph::new`], but no gradient is computed for the parameters that `frozen` names, nor any that only
    /// they would need.
    pub fn with_frozen(
        config: &Config,
        options: TrainOptions,
        frozen: BTreeSet<String>,
        threads: usize,
    ) -> Result<Self> {
        let (train, evaluate) = Default::default();
        let (config, timings, flops, right) = (config.clone(), None, 0, 0);
        let standing = vec![];
        let mut graph = Self {
            config,
            options,
            frozen,
            standing,
            threads,
            timings,
            flops,
            train,
            evaluate,
            right,
        };
        let recipe =
            recipe((&graph.config, &graph.frozen, &graph.standing), &options, true, threads);
        let core = graph.config.core;
        let (largest, _) = graph.train.of(&recipe, options.largest(core))?;
        graph.flops = largest.session.plan().flops() * options.count(core) as u64;
        Ok(graph)
    }

    /// Plans are made anew.
    pub(super) fn forget_plans(&mut self) {
        (self.train, self.evaluate) = Default::default();
    }

    /// Bytes of activations, their gradients and working memory.
    #[must_use]
    pub fn activation_bytes(&self) -> usize {
        self.train.bytes()
    }

    /// Floating-point operations of one micro-batch of whole rows, forward and backward; what is computed again to
    /// save memory is not counted twice.
    #[must_use]
    pub fn flops_per_step(&self) -> u64 {
        self.flops
    }

    /// Switches the measuring of each operation on or off.
    pub fn measure(&mut self, on: bool) {
        self.train.measure(on);
        self.timings = on.then(Vec::new);
    }

    /// What the operations of the last step took, if measured.
    #[must_use]
    pub fn timings(&self) -> &[Timing] {
        self.timings.as_deref().unwrap_or(&[])
    }

    /// Mean loss of one micro-batch. Gradients go into `grads`, flat like `Weights::data`: overwritten when `first`,
    /// else added (`Training::accumulates`).
    pub fn step(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        grads: &mut [f32],
        first: bool,
        batch: &Batch,
        run: RunInfo,
    ) -> Result<f32> {
        batch.check(&self.config, false)?;
        let all = counted(&batch.targets).max(1) as f32;
        if let Some(timings) = &mut self.timings {
            timings.clear();
        }
        let recipe =
            recipe((&self.config, &self.frozen, &self.standing), &self.options, true, self.threads);
        let passes = cut(batch, &self.config, self.options.whole(self.config.core));
        let (mut loss, count) = (0.0, passes.len() as u64);
        for (number, pass) in passes.iter().enumerate() {
            // The loss of a pass is the mean over its own targets.
            let share = pass.counted(batch) as f32 / all;
            let (graph, memory) = self.train.of(&recipe, pass.shape)?;
            graph.fill(batch, pass);
            let grads = ParamGrads { data: &mut *grads, first: first && number == 0 };
            let step = if batch.is_whole() { run.step * count } else { run.step << 20 };
            let step = step + number as u64;
            let run = RunInfo { training: true, step, grad_scale: run.grad_scale * share, ..run };
            let value = graph.outputs[0];
            loss += graph.session.in_memory(memory, |session| {
                session.run(pool, weights.data(), Some(grads), run)?;
                Ok(f64::from(session.value(value)?[0]) * f64::from(share))
            })?;
            if let Some(timings) = &mut self.timings {
                timings.extend_from_slice(graph.session.timings());
            }
        }
        Ok(loss as f32)
    }

    /// Mean loss and each target's own, in the order of the batch's (0 where ignored). No dropout, no gradients, no
    /// label smoothing.
    pub fn evaluate(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        batch: &Batch,
    ) -> Result<(f32, Vec<f32>)> {
        batch.check(&self.config, false)?;
        let all = counted(&batch.targets).max(1) as f64;
        let recipe = recipe(
            (&self.config, &self.frozen, &self.standing),
            &self.options,
            false,
            self.threads,
        );
        let (mut mean, mut losses) = (0.0, vec![0.0; batch.targets.len()]);
        self.right = 0;
        for pass in cut(batch, &self.config, self.options.whole(self.config.core)) {
            let (graph, _) = self.evaluate.of(&recipe, pass.shape)?;
            graph.fill(batch, &pass);
            let outputs = (graph.outputs[0], graph.outputs[1]);
            let scores = graph.outputs.get(2).copied();
            graph.session.in_memory(self.train.memory(), |session| {
                session.run(pool, weights.data(), None, RunInfo::default())?;
                let loss = f64::from(session.value(outputs.0)?[0]);
                mean += loss * pass.counted(batch) as f64 / all;
                pass.scatter(session.value(outputs.1)?, batch, &mut losses);
                if let Some(scores) = scores {
                    self.right += pass.right(session.value(scores)?, self.config.outputs(), batch);
                }
                Ok(())
            })?;
        }
        Ok((mean as f32, losses))
    }

    /// Targets of the last evaluated batch whose label had the highest score; none where the model scores no labels.
    #[must_use]
    pub fn right(&self) -> Option<u64> {
        self.config.is_classifier().then_some(self.right)
    }
}

fn recipe<'a>(
    (config, frozen, standing): (&'a Config, &'a BTreeSet<String>, &'a [Standing]),
    options: &TrainOptions,
    training: bool,
    threads: usize,
) -> Recipe<'a> {
    let accumulates =
        options.training.accumulates || options.ragged || options.count(config.core) > 1;
    let aim = match training {
        true => Aim::Train(Training { accumulates, ..options.training }),
        false => Aim::Loss,
    };
    let (precision, smoothing) =
        (options.precision, if training { options.smoothing } else { 0.0 });
    let (stored, frozen) = (None, Some(frozen));
    Recipe { config, aim, precision, smoothing, stored, threads, frozen, standing }
}
