//! Causal self-attention on random data, forward and backward, timed on its own.

use crate::measure::{self, Times};
use crate::out;
use crate::plan;
use crate::step_bench::Kind;
use clap::Args;
use pellucid::autograd::{Backward, Forward, Grad, Op, RunInfo};
use pellucid::backend::buffer::Buffer;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use pellucid::ops::attention::{AttentionDims, Mask, Rule, SelfAttention};
use pellucid::tensor::random::Random;
use serde_json::json;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct Attention {
    /// Positions T, one or several
    #[arg(long, value_delimiter = ',', default_value = "1024,2048,4096,8192,16384,32768")]
    t: Vec<usize>,
    /// Heads H; by default 12, and fewer where T is above 8192
    #[arg(long)]
    heads: Option<usize>,
    /// Head width D
    #[arg(long, default_value_t = 64)]
    d: usize,
    /// Batch rows B
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// f32 or bf16
    #[arg(long, value_enum, default_value_t = Kind::F32)]
    precision: Kind,
    /// Runs that are timed, after one that is not
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// A JSON object per T
    #[arg(long)]
    json: bool,
}

/// An attention with its operands.
struct Rig {
    op: SelfAttention,
    qkv: Buffer,
    out: Buffer,
    lse: Buffer,
    d_out: Buffer,
    d_qkv: Buffer,
    scratch: Buffer,
}

/// Times of one length.
struct Measured {
    forward: Times,
    backward: Times,
    both: Times,
    flops: (f64, f64),
    added: Option<u64>,
}

impl Rig {
    fn new(op: SelfAttention, threads: usize) -> Self {
        let mut random = Random::new(1, 0);
        let mut normal = |n: usize| {
            let mut buffer = Buffer::zeros(n);
            buffer.iter_mut().for_each(|x| *x = random.normal());
            buffer
        };
        let (qkv, d_out) = (normal(op.inputs()[0]), normal(op.outputs()[0]));
        let out = Buffer::zeros(op.outputs()[0]);
        let (lse, d_qkv) = (Buffer::zeros(op.saved()[0]), Buffer::zeros(qkv.len()));
        Self { op, qkv, out, lse, d_out, d_qkv, scratch: Buffer::zeros(op.scratch(threads)) }
    }

    fn forward(&mut self, pool: &Pool) -> Result<f64> {
        let start = Instant::now();
        self.op.forward(Forward {
            pool,
            run: RunInfo::default(),
            inputs: [&self.qkv[..]].into_iter().collect(),
            ints: Default::default(),
            params: Default::default(),
            outputs: [&mut self.out[..]].into_iter().collect(),
            saved: [&mut self.lse[..]].into_iter().collect(),
            scratch: &mut self.scratch,
        })?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn backward(&mut self, pool: &Pool) -> Result<f64> {
        let start = Instant::now();
        let data = &mut self.d_qkv[..];
        self.op.backward(Backward {
            pool,
            run: RunInfo::default(),
            inputs: [&self.qkv[..]].into_iter().collect(),
            ints: Default::default(),
            params: Default::default(),
            outputs: [&mut self.out[..]].into_iter().collect(),
            saved: [&mut self.lse[..]].into_iter().collect(),
            d_outputs: [&self.d_out[..]].into_iter().collect(),
            d_inputs: [Some(Grad { data, accumulate: false })].into_iter().collect(),
            d_params: Default::default(),
            scratch: &mut self.scratch,
        })?;
        Ok(start.elapsed().as_secs_f64())
    }
}

impl Attention {
    /// 12 heads, or as many as keep the work at that of T = 8192, at least 2.
    fn heads(&self, t: usize) -> usize {
        self.heads.unwrap_or_else(|| (12 * 8192 * 8192 / t.max(8192).pow(2)).max(2))
    }

    fn measure(&self, pool: &Pool, t: usize) -> Result<Measured> {
        let before = measure::peak_bytes();
        let (h, d) = (self.heads(t), self.d);
        let dims = AttentionDims { b: self.batch, t, s: t, h, kv: h, d };
        let rule = Rule { precision: self.precision.into(), ..Rule::new(Mask::CAUSAL, d) };
        let op = SelfAttention::new(dims, rule)?;
        let mut rig = Rig::new(op, pool.threads());
        let (mut forward, mut backward) = (vec![], vec![]);
        for _ in 0..self.repeats.max(1) + 1 {
            forward.push(rig.forward(pool)?);
            backward.push(rig.backward(pool)?);
        }
        let both = forward.iter().zip(&backward).skip(1).map(|(f, b)| f + b).collect::<Vec<_>>();
        let flops = (op.flops().0 as f64, op.flops().1 as f64);
        let added = measure::peak_bytes().zip(before).map(|(after, before)| after - before);
        Ok(Measured {
            forward: Times::from(forward.split_off(1)),
            backward: Times::from(backward.split_off(1)),
            both: Times::from(both),
            flops,
            added,
        })
    }

    pub(crate) fn run(&self) -> Result<()> {
        let pool = plan::pool(self.threads);
        for &t in &self.t {
            let m = self.measure(&pool, t)?;
            if self.json {
                self.print_json(&pool, t, &m)?;
            } else {
                self.print(t, &m)?;
            }
        }
        Ok(())
    }

    fn print_json(&self, pool: &Pool, t: usize, m: &Measured) -> Result<()> {
        let flops = m.flops.0 + m.flops.1;
        out::json(&json!({
            "engine": concat!("pellucid ", env!("CARGO_PKG_VERSION")),
            "t": t, "heads": self.heads(t), "d": self.d, "batch": self.batch,
            "precision": format!("{:?}", self.precision).to_lowercase(),
            "threads": pool.threads(),
            "seconds_median": m.both.median(), "seconds_min": m.both.min(), "seconds_max": m.both.max(),
            "forward_seconds": m.forward.median(), "backward_seconds": m.backward.median(),
            "flops": flops, "gflops": flops / m.both.median() * 1e-9,
            "peak_bytes": measure::peak_bytes(), "peak_bytes_added": m.added,
        }))
    }

    fn print(&self, t: usize, m: &Measured) -> Result<()> {
        let part = |name: &str, times: &Times, flops: f64| {
            format!(
                "{name} {:>9.3} ms ({:.3} to {:.3}) {:>8}FLOP/s",
                1e3 * times.median(),
                1e3 * times.min(),
                1e3 * times.max(),
                out::short(flops / times.median())
            )
        };
        out::line(format!(
            "B={} T={t:<6} H={:<2} D={} {:?}  {}  {}  {} at most {} MiB",
            self.batch,
            self.heads(t),
            self.d,
            self.precision,
            part("forward", &m.forward, m.flops.0),
            part("backward", &m.backward, m.flops.1),
            part("both", &m.both, m.flops.0 + m.flops.1),
            measure::peak_bytes().unwrap_or(0) >> 20,
        ))
    }
}
