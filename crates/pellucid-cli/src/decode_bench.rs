//! Decoding and reading prompts with random weights, timed.

use crate::measure::{self, Times};
use crate::model::Held;
use crate::out;
use crate::plan;
use clap::{Args, ValueEnum};
use pellucid::autograd::Timing;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::peak::{Peak, read_speed};
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use pellucid::model::config::Config;
use pellucid::model::decoder::{CHUNKS, Decoder};
use pellucid::model::stored_weights::{StoredWeights, is_matrix};
use pellucid::model::weights::{ParamSpec, Weights, parameters};
use pellucid::tensor::random::Random;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// Sizes
    #[arg(long, value_enum, default_value_t = Recipe::Gpt2)]
    recipe: Recipe,
    /// How weights are held
    #[arg(long, value_enum, default_value_t = Held::F32)]
    weights: Held,
    /// Tokens in the cache before the first that is timed
    #[arg(long, default_value_t = 16, value_name = "N")]
    context: usize,
    /// Tokens that are timed
    #[arg(long, default_value_t = 64, value_name = "N")]
    tokens: usize,
    /// Sequences at once
    #[arg(long, default_value_t = 1, value_name = "N")]
    batch: usize,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Also what each operation of the last token took
    #[arg(long)]
    profile: bool,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prompt {
    /// Sizes
    #[arg(long, value_enum, default_value_t = Recipe::Gpt2)]
    recipe: Recipe,
    /// How weights are held
    #[arg(long, value_enum, default_value_t = Held::F32)]
    weights: Held,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512, value_name = "N")]
    tokens: usize,
    /// How often it is read
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Also what each operation of the last part took
    #[arg(long)]
    profile: bool,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Recipe {
    /// L=4, C=128, V=65, context 64
    Tiny,
    /// L=6, C=384, V=65, context 256
    Nano,
    /// L=12, C=768, V=50257, context 1024
    Gpt2,
}

impl Recipe {
    fn config(self) -> Config {
        match self {
            Self::Tiny => Config { context: 64, ..Config::nano() }.with_depth(4).narrowed(128),
            Self::Nano => Config::nano(),
            Self::Gpt2 => Config::gpt2(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Nano => "nano",
            Self::Gpt2 => "gpt2",
        }
    }
}

trait Narrowed {
    fn narrowed(self, width: usize) -> Self;
}

impl Narrowed for Config {
    /// The same number of heads, a smaller width.
    fn narrowed(self, width: usize) -> Self {
        let head_width = width / self.heads;
        Self { width, head_width, hidden: 4 * width, ..self }
    }
}

/// Random weights as they are held, and a decoder on them.
struct Subject {
    config: Config,
    plain: Option<Weights>,
    stored: Option<StoredWeights>,
    decoder: Decoder,
    random: Random,
}

impl Subject {
    fn new(pool: &Pool, config: Config, held: Held, batch: usize, capacity: usize) -> Result<Self> {
        let (mut plain, mut stored) = (None, None);
        let threads = pool.threads();
        let decoder = match held.format() {
            None => {
                plain = Some(Weights::init(&config, 1337));
                Decoder::new(&config, batch, capacity, threads)?
            }
            Some(format) => {
                let weights = stored.insert(StoredWeights::init(pool, &config, 1337, format)?);
                Decoder::with_stored(&config, weights, batch, capacity, threads)?
            }
        };
        Ok(Self { config, plain, stored, decoder, random: Random::new(5, 0) })
    }

    /// Reads `t` random tokens per row; seconds.
    fn extend(&mut self, pool: &Pool, t: usize) -> Result<f64> {
        let batch = self.decoder.past().len();
        let ids: Vec<i32> =
            (0..batch * t).map(|_| self.random.below(self.config.vocab) as i32).collect();
        let weights = self.plain.as_ref().or(self.stored.as_ref().map(StoredWeights::rest));
        let Some(weights) = weights else { return Ok(0.0) };
        let start = Instant::now();
        self.decoder.extend(pool, weights, &ids, t, &vec![t; batch])?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn weight_bytes(&self) -> usize {
        let plain = self.plain.as_ref().map(|w| size_of_val(w.data()));
        plain.or(self.stored.as_ref().map(StoredWeights::bytes)).unwrap_or(0)
    }

    /// Bytes of weights that one token reads.
    fn bytes_per_token(&self) -> usize {
        let looked_up = |s: &ParamSpec| {
            s.name == "embedding.position" || s.name == "embedding.token" && !self.config.tied_head
        };
        let all = parameters(&self.config);
        let plain = all.iter().filter(|s| !looked_up(s)).map(|s| 4 * s.len()).sum();
        self.stored.as_ref().map_or(plain, StoredWeights::bytes_per_token)
    }
}

impl Decode {
    pub(crate) fn run(self) -> Result<()> {
        const WARM: usize = 8;
        let pool = plan::pool(self.threads);
        let config = self.recipe.config();
        let tokens = self.tokens.max(1);
        let context = self.context.max(1);
        let capacity = (context + WARM + tokens).min(config.context);
        let mut subject = Subject::new(&pool, config, self.weights, self.batch, capacity)?;
        subject.extend(&pool, context)?;
        (0..WARM).try_for_each(|_| subject.extend(&pool, 1).map(drop))?;
        let times = (0..tokens).map(|_| subject.extend(&pool, 1)).collect::<Result<Vec<_>>>()?;
        let t = Times::from(times);
        if self.profile {
            // Measuring costs a little: one more token, which is not timed.
            subject.decoder.measure(true);
            subject.decoder.reset();
            (0..4).try_for_each(|_| subject.extend(&pool, 1).map(drop))?;
        }
        let (memory, bytes) = (measure::peak_bytes(), subject.bytes_per_token());
        let read = 1e9 * Peak::measure(&pool)?.read_gbps;
        // What reading just as many bytes takes, from whichever cache or memory they lie in.
        let same = read_speed(&pool, bytes)?;
        let rate = bytes as f64 / t.median();
        if self.json {
            out::json(&json!({
                "engine": concat!("pellucid ", env!("CARGO_PKG_VERSION")),
                "what": "decode", "recipe": self.recipe.name(), "weights": self.weights.name(),
                "batch": self.batch, "context": context, "tokens": tokens, "threads": pool.threads(),
                "seconds_median": t.median(), "seconds_min": t.min(), "seconds_max": t.max(),
                "tokens_per_second": self.batch as f64 / t.median(),
                "bytes_per_token": bytes, "weight_bytes": subject.weight_bytes(),
                "read_bytes_per_second": read, "share_of_read": rate / read,
                "read_same_bytes_per_second": same, "share_of_read_same": rate / same,
                "peak_bytes": memory,
            }))?;
        } else {
            out::line(format!(
                "{} {}: {:.3} ms per token (median of {}; {:.3} to {:.3}), {:.1} tokens/s; {} of weights per token in {}B/s: {:.1}% of {}B/s (reading as many bytes), {:.1}% of {}B/s (reading 384 MiB); memory {}",
                self.recipe.name(),
                self.weights.name(),
                1e3 * t.median(),
                t.len(),
                1e3 * t.min(),
                1e3 * t.max(),
                self.batch as f64 / t.median(),
                out::bytes(bytes as u64),
                out::short(rate),
                100.0 * rate / same,
                out::short(same),
                100.0 * rate / read,
                out::short(read),
                memory.map_or("unknown".into(), out::bytes)
            ))?;
        }
        if self.profile { table(subject.decoder.timings(1)) } else { Ok(()) }
    }
}

impl Prompt {
    pub(crate) fn run(self) -> Result<()> {
        let pool = plan::pool(self.threads);
        let config = self.recipe.config();
        let tokens = self.tokens.clamp(1, config.context);
        let mut subject = Subject::new(&pool, config, self.weights, 1, tokens)?;
        let mut times = vec![];
        for round in 0..=self.rounds.max(1) {
            subject.decoder.reset();
            subject.decoder.measure(self.profile && round == self.rounds.max(1));
            let seconds = subject.extend(&pool, tokens)?;
            // The first one faults memory in.
            if round > 0 {
                times.push(seconds);
            }
        }
        let t = Times::from(times);
        let memory = measure::peak_bytes();
        let flops = flops(&subject.config, tokens);
        let precision = self.weights.format().map_or(Precision::F32, |_| Precision::Bf16);
        let share = flops / t.median() / measure::peak(&pool, precision);
        if self.json {
            out::json(&json!({
                "engine": concat!("pellucid ", env!("CARGO_PKG_VERSION")),
                "what": "prompt", "recipe": self.recipe.name(), "weights": self.weights.name(),
                "tokens": tokens, "threads": pool.threads(),
                "seconds_median": t.median(), "seconds_min": t.min(), "seconds_max": t.max(),
                "tokens_per_second": tokens as f64 / t.median(),
                "flops": flops, "flops_per_second": flops / t.median(), "share_of_peak": share,
                "weight_bytes": subject.weight_bytes(), "peak_bytes": memory,
            }))?;
        } else {
            out::line(format!(
                "{} {}: {:.1} ms for {tokens} tokens (median of {}; {:.1} to {:.1}), {} tokens/s, {}FLOP/s, {:.0}% of the measured peak; memory {}",
                self.recipe.name(),
                self.weights.name(),
                1e3 * t.median(),
                t.len(),
                1e3 * t.min(),
                1e3 * t.max(),
                out::short(tokens as f64 / t.median()),
                out::short(flops / t.median()),
                100.0 * share,
                memory.map_or("unknown".into(), out::bytes)
            ))?;
        }
        let last = CHUNKS.into_iter().find(|&t| !subject.decoder.timings(t).is_empty());
        last.map_or(Ok(()), |t| table(subject.decoder.timings(t)))
    }
}

/// Of a prompt: all matrices of the blocks, causal attention, and the head once.
fn flops(config: &Config, tokens: usize) -> f64 {
    let block = |s: &ParamSpec| is_matrix(s) && s.name.starts_with("blocks.");
    let weights: usize = parameters(config).iter().filter(|s| block(s)).map(ParamSpec::len).sum();
    let scores = config.layers * config.heads * config.head_width * tokens * (tokens + 1) / 2;
    2.0 * (weights * tokens + 2 * scores + config.vocab * config.width) as f64
}

/// Time by operation, the longest first.
fn table(timings: &[Timing]) -> Result<()> {
    let mut sums: BTreeMap<(&str, &str), (f64, usize)> = BTreeMap::new();
    for t in timings {
        // Blocks together: `blocks.3.attn.qkv` counts as `attn.qkv`.
        let place = t.label.strip_prefix("blocks.").and_then(|l| l.split_once('.'));
        let sum = sums.entry((place.map_or(&*t.label, |(_, l)| l), t.op)).or_default();
        *sum = (sum.0 + t.time.as_secs_f64(), sum.1 + 1);
    }
    let total: f64 = sums.values().map(|s| s.0).sum();
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for ((label, op), (seconds, calls)) in rows {
        let (us, share) = (1e6 * seconds, 100.0 * seconds / total);
        out::line(format!("{label:<16} {op:<20} {calls:>4} {us:>10.1} µs {share:>5.1}%"))?;
    }
    Ok(())
}
