//! `pellucid inspect`

use crate::model;
use crate::out;
use clap::Args;
use pellucid::checkpoint;
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid::model::config::Config;
use pellucid::model::weights::{ParamSpec, parameters};
use serde_json::json;
use std::path::Path;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A model folder, the folder of a run, a config.json, or a preset: nano, gpt2, llama
    model: String,
    /// Blocks, 64 channels wide for each, instead of the preset's
    #[arg(long)]
    depth: Option<usize>,
    /// Every parameter with its shape
    #[arg(long)]
    list: bool,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

/// What a model costs.
pub(crate) struct Costs {
    pub(crate) parameters: u64,
    /// Multiplied with each token: all matrices but the embedding tables, and the head.
    pub(crate) matrices: u64,
    /// FLOPs of the forward pass for a token, averaged over sequences of `time`.
    pub(crate) forward: u64,
    /// Bytes that a token adds to the cache.
    pub(crate) cache: u64,
}

impl Costs {
    pub(crate) fn of(config: &Config, time: usize) -> Self {
        let specs = parameters(config);
        let matrix = |s: &&ParamSpec| s.name.contains("blocks.") && s.shape.len() == 2;
        let blocks: usize = specs.iter().filter(matrix).map(ParamSpec::len).sum();
        let matrices = (blocks + config.vocab * config.width) as u64;
        let seen = config.window.unwrap_or(time).min(time.div_ceil(2));
        // Scores and weighted sum: 2 FLOPs for each of D elements, per key.
        let attention = 4 * config.layers * config.heads * config.head_width * seen;
        Self {
            parameters: specs.iter().map(|s| s.len() as u64).sum(),
            matrices,
            forward: 2 * matrices + attention as u64,
            cache: (8 * config.layers * config.kv_heads * config.head_width) as u64,
        }
    }
}

impl Inspect {
    pub(crate) fn run(self) -> Result<()> {
        let mut config = find(&self.model)?;
        if let Some(depth) = self.depth {
            config = config.with_depth(depth);
        }
        config.validate()?;
        let costs = Costs::of(&config, config.context);
        if self.json {
            return out::json(&json!({
                "config": config,
                "parameters": costs.parameters,
                "bytes": { "weights_f32": 4 * costs.parameters, "training_state": 16 * costs.parameters,
                    "cache_per_token": costs.cache },
                "flops_per_token": { "forward": costs.forward, "training": 3 * costs.forward },
            }));
        }
        print(&config, &costs)?;
        if self.list {
            for spec in parameters(&config) {
                let shape: Vec<String> = spec.shape.iter().map(ToString::to_string).collect();
                let n = out::count(spec.len() as u64);
                out::line(format!("{:<32} {:>16} {n:>14}", spec.name, shape.join(" × ")))?;
            }
        }
        Ok(())
    }
}

fn find(name: &str) -> Result<Config> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(checkpoint::load_config(&model::find(path)?)?.1);
    }
    if path.is_file() {
        let text = files::read_text("inspect", path)?;
        if let Ok(config) = serde_json::from_str::<Config>(&text) {
            return Ok(config);
        }
        return Ok(checkpoint::load_config(path.parent().unwrap_or(Path::new(".")))?.1);
    }
    Config::preset(name).map_err(|_| {
        Error::new(Kind::Input, "inspect", format!("{name:?} is no folder, file or preset"))
            .hint("give a model folder, a config.json, or nano, gpt2, llama")
    })
}

fn print(config: &Config, costs: &Costs) -> Result<()> {
    let Config { layers, width, heads, kv_heads, head_width, hidden, vocab, context, .. } = config;
    out::line(format!(
        "L={layers} blocks, C={width} wide, H={heads} heads (K={kv_heads}) of D={head_width}, \
         F={hidden} hidden, V={vocab} ids, context {context}"
    ))?;
    let choices = serde_json::to_value(config).unwrap_or_default();
    let word = |key: &str| choices[key].as_str().unwrap_or_default().replace('_', " ");
    out::line(format!(
        "positions {}, {} ({}), {}{}, head {}",
        word("positions"),
        word("norm"),
        word("norm_placement"),
        word("activation"),
        if config.gated { " gated" } else { "" },
        if config.tied_head { "tied" } else { "of its own" }
    ))?;
    let per = |flops: u64| out::short(flops as f64);
    out::line(format!(
        "parameters   {} ({} in matrices that every token passes)\n\
         memory       weights {} (f32) · training state {} (weights, gradients, two moments) · cache {} per token, {} at full context\n\
         FLOPs/token  forward {} · training {} (averaged over a full context)",
        out::count(costs.parameters),
        out::short(costs.matrices as f64),
        out::bytes(4 * costs.parameters),
        out::bytes(16 * costs.parameters),
        out::bytes(costs.cache),
        out::bytes(costs.cache * *context as u64),
        per(costs.forward),
        per(3 * costs.forward),
    ))
}
