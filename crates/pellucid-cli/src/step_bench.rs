//! A training step on random data, timed whole and by operation.

use crate::measure::{self, Times};
use crate::out;
use crate::plan;
use clap::{Args, ValueEnum};
use pellucid::autograd::{RunInfo, Timing};
use pellucid::backend::buffer::Buffer;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use pellucid::model::config::{ActivationKind, Config};
use pellucid::model::train_graph::TrainGraph;
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;
use pellucid::train::clip;
use pellucid::train::launch::options;
use pellucid::train::optimizer::AdamW;
use pellucid::train::run::{PrecisionKind, RunConfig};
use serde_json::json;
use std::collections::BTreeMap;
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
    timings: Vec<Timing>,
    tokens: f64,
    flops: f64,
    loss: f32,
}

impl Step {
    fn measure(&self, pool: &Pool, profile: bool) -> Result<Measured> {
        let (config, batch) = self.recipe.config();
        let mut run = RunConfig::default();
        (run.train.batch, run.train.time) = (Some(batch), Some(config.context));
        run.train.precision = self.precision.into();
        let mut graph = TrainGraph::new(&config, options(&run, &config), pool.threads())?;
        graph.measure(profile);
        let mut weights = Weights::init(&config, 1337);
        let mut optimizer = AdamW::new(weights.specs(), &run.optimizer)?;
        let mut grads = Buffer::zeros(weights.data().len());
        let ranges = optimizer.ranges(weights.specs());
        let mut random = Random::new(1, 0);
        let n = batch * config.context;
        let mut draw = || (0..n).map(|_| random.below(config.vocab) as i32).collect::<Vec<i32>>();
        let (mut times, mut loss) = (vec![], 0.0);
        for step in 0..self.warmup + self.steps.max(1) {
            let (ids, targets) = (draw(), draw());
            let start = Instant::now();
            let info = RunInfo { training: true, seed: 1, step: step as u64, grad_scale: 1.0 };
            loss = graph.step(pool, &weights, &mut grads, true, &ids, &targets, info)?;
            let norm = clip::norm(pool, &grads, &ranges);
            let scale = clip::scale(norm, 1.0);
            optimizer.update(pool, &mut weights, &grads, step as u64, (1e-3, scale))?;
            if step >= self.warmup {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let (timings, flops) = (graph.timings().to_vec(), graph.flops_per_step() as f64);
        Ok(Measured { times: Times::from(times), timings, tokens: n as f64, flops, loss })
    }

    pub(crate) fn run(&self, profile: bool) -> Result<()> {
        let pool = plan::pool(self.threads);
        let m = self.measure(&pool, profile)?;
        let t = &m.times;
        if self.json {
            out::json(&json!({
                "engine": concat!("pellucid ", env!("CARGO_PKG_VERSION")),
                "recipe": format!("{:?}", self.recipe).to_lowercase(),
                "precision": format!("{:?}", self.precision).to_lowercase(),
                "threads": pool.threads(),
                "seconds_median": t.median(), "seconds_min": t.min(), "seconds_max": t.max(),
                "tokens_per_second": m.tokens / t.median(),
                "flops_per_step": m.flops,
                "peak_bytes": measure::peak_bytes(),
                "last_loss": m.loss,
            }))?;
        } else {
            let peak = measure::peak(&pool, self.precision.into());
            out::line(format!(
                "{:?} {:?}: {:.4} s per step (median of {}; {:.4} to {:.4}), {} tokens/s, {}FLOP/s, {:.0}% of the measured peak",
                self.recipe,
                self.precision,
                t.median(),
                t.len(),
                t.min(),
                t.max(),
                out::short(m.tokens / t.median()),
                out::short(m.flops / t.median()),
                100.0 * m.flops / t.median() / peak
            ))?;
        }
        if profile { table(&m.timings) } else { Ok(()) }
    }
}

/// Time of the last step by operation and direction, the longest first.
fn table(timings: &[Timing]) -> Result<()> {
    let mut sums: BTreeMap<(&str, &str), (f64, u64, usize)> = BTreeMap::new();
    for t in timings {
        let sum = sums.entry((t.op, t.action)).or_default();
        *sum = (sum.0 + t.time.as_secs_f64(), sum.1 + t.flops, sum.2 + 1);
    }
    let total: f64 = sums.values().map(|s| s.0).sum();
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    out::line(format!(
        "{:<24} {:<10} {:>5} {:>10} {:>6} {:>14}",
        "operation", "", "calls", "ms", "", "FLOP/s"
    ))?;
    for ((op, action), (seconds, flops, calls)) in rows {
        let rate =
            if flops > 0 { out::short(flops as f64 / seconds.max(1e-12)) } else { "".into() };
        let (ms, share) = (1e3 * seconds, 100.0 * seconds / total);
        out::line(format!("{op:<24} {action:<10} {calls:>5} {ms:>10.3} {share:>5.1}% {rate:>14}"))?;
    }
    Ok(())
}
