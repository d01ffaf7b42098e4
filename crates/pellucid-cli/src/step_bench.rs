//! A training step on random data, timed whole and by operation.

use crate::measure::{self, Times};
use crate::out;
use crate::plan;
use crate::profile::{Roof, Rows};
use crate::step_sizes::{Choice, Sizes};
use clap::{Args, ValueEnum};
use pellucid::autograd::RunInfo;
use pellucid::backend::buffer::Buffer;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use pellucid::model::train_graph::{Batch, TrainGraph, TrainOptions};
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;
use pellucid::train::clip;
use pellucid::train::launch::options;
use pellucid::train::optimizer::AdamW;
use pellucid::train::run::{PrecisionKind, RunConfig};
use serde_json::json;
use std::ops::Range;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct Step {
    #[command(flatten)]
    choice: Choice,
    /// f32 or bf16
    #[arg(long, value_enum, default_value_t = Kind::F32)]
    precision: Kind,
    /// Steps that are timed
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Steps before them
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Also measures every operation
    #[arg(long)]
    pub(crate) profile: bool,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    F32,
    Bf16,
}

impl From<Kind> for Precision {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::F32 => Self::F32,
            Kind::Bf16 => Self::Bf16,
        }
    }
}

impl From<Kind> for PrecisionKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::F32 => Self::F32,
            Kind::Bf16 => Self::Bf16,
        }
    }
}

/// What was measured of a training step.
struct Measured {
    times: Times,
    rows: Rows,
    flops: f64,
    loss: f32,
    parameters: usize,
}

/// A model, its optimizer and its batches.
struct Workload<'a> {
    pool: &'a Pool,
    graph: TrainGraph,
    weights: Weights,
    optimizer: AdamW,
    grads: Buffer,
    ranges: Vec<Range<usize>>,
    /// Elements that the optimizer moves.
    moving: u64,
}

impl<'a> Workload<'a> {
    fn new(pool: &'a Pool, sizes: &Sizes, precision: Kind, profile: bool) -> Result<Self> {
        let config = &sizes.config;
        let mut run = RunConfig::default();
        (run.train.batch, run.train.time) = (Some(sizes.batch), Some(sizes.time));
        run.train.precision = precision.into();
        let options = options(&run, config, None);
        let pass_rows = sizes.pass_rows.or(options.pass_rows);
        let options = TrainOptions { source_time: sizes.source_time, pass_rows, ..options };
        let mut graph = TrainGraph::new(config, options, pool.threads())?;
        graph.measure(profile);
        let weights = Weights::init(config, 1337);
        let optimizer = AdamW::new(weights.specs(), &run.optimizer)?;
        let ranges = optimizer.ranges(weights.specs());
        let moving = ranges.iter().map(|r| r.len() as u64).sum();
        let grads = Buffer::zeros(weights.data().len());
        Ok(Self { pool, graph, weights, optimizer, grads, ranges, moving })
    }

    /// One step, and its parts into `rows`; the loss.
    fn step(&mut self, step: u64, batch: &Batch, rows: &mut Rows) -> Result<f32> {
        let start = Instant::now();
        let info = RunInfo { training: true, seed: 1, step, grad_scale: 1.0 };
        let Self { pool, graph, weights, grads, .. } = self;
        let loss = graph.step(pool, weights, grads, true, batch, info)?;
        let begin = Instant::now();
        let norm = clip::norm(self.pool, &self.grads, &self.ranges);
        let middle = Instant::now();
        let rate = (1e-3, clip::scale(norm, 1.0));
        self.optimizer.update(self.pool, &mut self.weights, &self.grads, step, rate)?;
        let end = Instant::now();
        rows.wall((end - start).as_secs_f64());
        rows.operations(self.graph.timings());
        // Squares are multiplied and added; AdamW's rule has 15 operations on 4 arrays, 3 of them written.
        let n = self.moving;
        rows.part("gradient norm", (middle - begin).as_secs_f64(), (2 * n, 4 * n));
        rows.part("adamw", (end - middle).as_secs_f64(), (15 * n, 28 * n));
        Ok(loss)
    }
}

impl Step {
    fn measure(&self, pool: &Pool, sizes: &Sizes, profile: bool) -> Result<Measured> {
        let mut work = Workload::new(pool, sizes, self.precision, profile)?;
        let mut random = Random::new(1, 0);
        let (mut times, mut rows, mut loss) = (vec![], Rows::default(), 0.0);
        for step in 0..self.warmup + self.steps.max(1) {
            let batch = sizes.draw(&mut random);
            if step == self.warmup {
                rows = Rows::default();
            }
            let start = Instant::now();
            loss = work.step(step as u64, &batch, &mut rows)?;
            if step >= self.warmup {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let flops = work.graph.flops_per_step() as f64;
        let parameters = work.weights.count();
        Ok(Measured { times: Times::from(times), rows, flops, loss, parameters })
    }

    pub(crate) fn run(&self, profile: bool) -> Result<()> {
        let pool = plan::pool(self.threads);
        let sizes = self.choice.sizes()?;
        let m = self.measure(&pool, &sizes, profile)?;
        let (name, tokens) = (&sizes.name, sizes.tokens() as f64);
        // Before the roofs are measured, which takes memory of its own.
        let peak_bytes = measure::peak_bytes();
        let t = &m.times;
        let peak = measure::peak(&pool, self.precision.into());
        let roof = if profile { Some(Roof::measure(&pool, peak)?) } else { None };
        if self.json {
            let mut object = json!({
                "engine": concat!("pellucid ", env!("CARGO_PKG_VERSION")),
                "recipe": name,
                "batch": sizes.batch, "time": sizes.time, "source_time": sizes.source_time,
                "dropout": sizes.config.dropout, "targets": sizes.targets,
                "parameters": m.parameters,
                "precision": format!("{:?}", self.precision).to_lowercase(),
                "threads": pool.threads(),
                "seconds_median": t.median(), "seconds_min": t.min(), "seconds_max": t.max(),
                "tokens_per_second": tokens / t.median(),
                "flops_per_step": m.flops,
                "peak_flops_per_second": peak,
                "share_of_peak": m.flops / t.median() / peak,
                "peak_bytes": peak_bytes,
                "last_loss": m.loss,
            });
            if let Some(roof) = &roof {
                object["accounted"] = json!(m.rows.accounted());
                object["operations"] = m.rows.json(roof);
            }
            return out::json(&object);
        }
        out::line(format!(
            "{name} {:?}: {:.4} s per step (median of {}; {:.4} to {:.4}), {} tokens/s, {}FLOP/s, {:.0}% of the measured peak, {} at most",
            self.precision,
            t.median(),
            t.len(),
            t.min(),
            t.max(),
            out::short(tokens / t.median()),
            out::short(m.flops / t.median()),
            100.0 * m.flops / t.median() / peak,
            peak_bytes.map_or("unknown memory".into(), out::bytes),
        ))?;
        roof.map_or(Ok(()), |roof| m.rows.print(&roof))
    }
}
