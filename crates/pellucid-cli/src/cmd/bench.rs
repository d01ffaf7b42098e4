//! `pellucid bench`

use crate::attention_bench::Attention;
use crate::decode_bench::{Decode, Prompt};
use crate::lens_bench::LensBench;
use crate::measure;
use crate::out;
use crate::plan;
use crate::step_bench::{Kind, Step};
use clap::{Args, Subcommand};
use pellucid::backend::cpu::gemm::GemmDims;
use pellucid::error::Result;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A training step on random data: forward, backward, clip, AdamW
    Train(Step),
    /// Every operation of a training step: time, FLOP/s, share of the step
    Ops(Step),
    /// Decoding one token after another with random weights: time, share of the memory's speed
    Decode(Decode),
    /// Reading a prompt with random weights: time, share of the peak of matrix products
    Prompt(Prompt),
    /// Causal self-attention, forward and backward, at one or several lengths
    Attention(Attention),
    /// Looking inside with random weights: capturing everything, a patching sweep, causal traces
    Lens(LensBench),
    /// Matrix products of a Transformer's shapes
    Gemm {
        /// f32 or bf16
        #[arg(long, value_enum, default_value_t = Kind::F32)]
        precision: Kind,
        /// Threads; 0 takes all cores
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// A JSON object per shape
        #[arg(long)]
        json: bool,
    },
}

fn gemm(kind: Kind, threads: usize, json: bool) -> Result<()> {
    let pool = plan::pool(threads);
    let precision = kind.into();
    let shapes = [
        (64, 64, 64),
        (256, 256, 256),
        (1024, 1024, 1024),
        (2048, 2048, 2048),
        (16384, 1152, 384),
        (16384, 384, 1536),
        (1, 768, 768),
        (1, 50257, 768),
    ];
    let peak = measure::peak(&pool, precision);
    for (m, n, k) in shapes {
        let (t, flops) = measure::product(&pool, precision, GemmDims { m, n, k }, (5, 0.2));
        let rate = flops / t.median();
        if json {
            out::json(&json!({ "m": m, "n": n, "k": k, "seconds_median": t.median(),
                "seconds_min": t.min(), "seconds_max": t.max(), "flops_per_second": rate }))?;
            continue;
        }
        let (us, low, high) = (1e6 * t.median(), 1e6 * t.min(), 1e6 * t.max());
        out::line(format!(
            "m={m:<6} n={n:<6} k={k:<5} {us:>10.1} µs ({low:.1} to {high:.1})  {:>8}FLOP/s  {:>3.0}% of the best",
            out::short(rate),
            100.0 * rate / peak
        ))?;
    }
    Ok(())
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        match self.what {
            What::Train(step) => step.run(step.profile),
            What::Ops(step) => step.run(true),
            What::Decode(decode) => decode.run(),
            What::Prompt(prompt) => prompt.run(),
            What::Attention(attention) => attention.run(),
            What::Lens(lens) => lens.run(),
            What::Gemm { precision, threads, json } => gemm(precision, threads, json),
        }
    }
}
