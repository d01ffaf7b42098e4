//! A training step on random data, timed whole and by operation.

use crate::measure::{self, Times};
use crate::out;
use crate::plan;
use crate::profile::{Roof, Rows};
use clap::{Args, ValueEnum};
use pellucid::autograd::RunInfo;
use pellucid::backend::buffer::Buffer;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use pellucid::model::config::{ActivationKind, Config};
use pellucid::model::train_graph::{Batch, TrainGraph};
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
    /// Sizes
    #[arg(long, value_enum, default_value_t = Recipe::Nano)]
    recipe: Recipe,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Recipe {
    /// L=4, C=128, V=65, T=64, B=12
    Tiny,
    /// L=6, C=384, V=65, T=256, B=64
    Nano,
    /// L=12, C=768, V=50257, T=1024, B=1
    Gpt2,
}

impl Recipe {
    /// Sizes and B.
    fn config(self) -> (Config, usize) {
        match self {
            Self::Tiny => (tiny(), 12),
            Self::Nano => (Config::nano(), 64),
            Self::Gpt2 => (Config::gpt2(), 1),
        }
    }
}

fn tiny() -> Config {
    let (width, heads) = (128, 4);
    let sizes =
        Config { layers: 4, width, heads, kv_heads: heads, head_width: 32, ..Config::nano() };
    Config { hidden: 4 * width, context: 64, activation: ActivationKind::Gelu, ..sizes }
}

/// What was measured of a training step.
struct Measured {
    times: Times,
    rows: Rows,
    tokens: f64,
    flops: f64,
    loss: f32,
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
    config: Config,
    batch: usize,
    positions: usize,
}

impl<'a> Workload<'a> {
    fn new(pool: &'a Pool, recipe: Recipe, precision: Kind, profile: bool) -> Result<Self> {
        let (config, batch) = recipe.config();
        let mut run = RunConfig::default();
        (run.train.batch, run.train.time) = (Some(batch), Some(config.context));
        run.train.precision = precision.into();
        let mut graph = TrainGraph::new(&config, options(&run, &config, None), pool.threads())?;
        graph.measure(profile);
        let weights = Weights::init(&config, 1337);
        let optimizer = AdamW::new(weights.specs(), &run.optimizer)?;
        let ranges = optimizer.ranges(weights.specs());
        let moving = ranges.iter().map(|r| r.len() as u64).sum();
        let grads = Buffer::zeros(weights.data().len());
        let positions = batch * config.context;
        Ok(Self {
            pool,
            graph,
            weights,
            optimizer,
            grads,
            ranges,
            moving,
            config,
            batch,
            positions,
        })
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
    fn measure(&self, pool: &Pool, profile: bool) -> Result<Measured> {
        let mut work = Workload::new(pool, self.recipe, self.precision, profile)?;
        let mut random = Random::new(1, 0);
        let (n, vocab) = (work.positions, work.config.vocab);
        let mut draw = || (0..n).map(|_| random.below(vocab) as i32).collect::<Vec<i32>>();
        let (mut times, mut rows, mut loss) = (vec![], Rows::default(), 0.0);
        for step in 0..self.warmup + self.steps.max(1) {
            let batch = Batch::of(work.batch, &draw(), &draw());
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
        Ok(Measured { times: Times::from(times), rows, tokens: n as f64, flops, loss })
    }

    pub(crate) fn run(&self, profile: bool) -> Result<()> {
        let pool = plan::pool(self.threads);
        let m = self.measure(&pool, profile)?;
        // Before the roofs are measured, which takes memory of its own.
        let peak_bytes = measure::peak_bytes();
        let t = &m.times;
        let peak = measure::peak(&pool, self.precision.into());
        let roof = if profile { Some(Roof::measure(&pool, peak)?) } else { None };
        if self.json {
            let mut object = json!({
                "engine": concat!("pellucid ", env!("CARGO_PKG_VERSION")),
                "recipe": format!("{:?}", self.recipe).to_lowercase(),
                "precision": format!("{:?}", self.precision).to_lowercase(),
                "threads": pool.threads(),
                "seconds_median": t.median(), "seconds_min": t.min(), "seconds_max": t.max(),
                "tokens_per_second": m.tokens / t.median(),
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
            "{:?} {:?}: {:.4} s per step (median of {}; {:.4} to {:.4}), {} tokens/s, {}FLOP/s, {:.0}% of the measured peak, {} at most",
            self.recipe,
            self.precision,
            t.median(),
            t.len(),
            t.min(),
            t.max(),
            out::short(m.tokens / t.median()),
            out::short(m.flops / t.median()),
            100.0 * m.flops / t.median() / peak,
            peak_bytes.map_or("unknown memory".into(), out::bytes),
        ))?;
        roof.map_or(Ok(()), |roof| m.rows.print(&roof))
    }
}
