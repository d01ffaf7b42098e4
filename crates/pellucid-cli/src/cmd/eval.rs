//! `pellucid eval`

use crate::model::Model;
use crate::out;
use crate::plan;
use clap::Args;
use pellucid::autograd::Training;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::data::{Corpus, CorpusOptions, Evaluation, IGNORE, Shard};
use pellucid::error::Result;
use pellucid::model::train_graph::{TrainGraph, TrainOptions};
use pellucid::train::loss;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// A model folder or the folder of a run
    model: PathBuf,
    /// Files, folders or patterns
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// Field or column that holds the text
    #[arg(long, default_value = "text")]
    field: String,
    /// Tokens per window; without it, the model's context
    #[arg(long, value_name = "N")]
    time: Option<usize>,
    /// Windows at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    batch: usize,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub(crate) fn run(self) -> Result<()> {
        let model = Model::load(&self.model)?;
        let tokenizer = model.tokenizer()?;
        let options = CorpusOptions { field: self.field.clone(), ..CorpusOptions::default() };
        let corpus = Corpus::open(&self.data, options)?;
        let (mut ids, mut bytes) = (vec![], 0);
        for piece in corpus.pieces() {
            let piece = piece?;
            bytes += piece.text.len();
            tokenizer
                .encode_into(&piece.text, piece.origin, &mut ids)
                .map_err(|e| e.fact(corpus.place(&piece)))?;
            if piece.ends && !corpus.is_single_text() {
                ids.extend(tokenizer.special_ids().eos);
            }
        }
        let per_token = bytes as f64 / ids.len().max(1) as f64;
        let shard = Arc::new(Shard::from_ids(ids, model.config.vocab)?);
        let time = self.time.unwrap_or(model.config.context).min(model.config.context);
        let windows = Evaluation::all(shard, self.batch, time)?;
        let (mean, tokens) = self.measure(&model, &windows, time)?;
        let (perplexity, bits) = (loss::perplexity(mean), loss::bits_per_byte(mean, per_token));
        if self.json {
            return out::json(&json!({ "loss": mean, "perplexity": perplexity,
                "bits_per_byte": bits, "tokens": tokens, "bytes": bytes, "window": time }));
        }
        out::line(format!(
            "loss           {mean:.4} nats per token\nperplexity     {perplexity:.3}\n\
             bits per byte  {bits:.4}\n{} tokens in windows of {time}; a window's first tokens see little",
            out::count(tokens)
        ))
    }

    /// Mean loss and how many targets counted.
    fn measure(&self, model: &Model, windows: &Evaluation, time: usize) -> Result<(f64, u64)> {
        let pool = plan::pool(self.threads);
        let options = TrainOptions {
            batch: self.batch,
            time,
            pass_rows: None,
            training: Training::default(),
            precision: Precision::F32,
        };
        let mut graph = TrainGraph::new(&model.config, options, pool.threads())?;
        let mut ids = vec![0; self.batch * time];
        let mut targets = vec![IGNORE; self.batch * time];
        let (mut sum, mut tokens) = (0.0, 0);
        for number in 0..windows.batches() {
            tokens += windows.fill(number, &mut ids, &mut targets)? as u64;
            let (_, losses) = graph.evaluate(&pool, &model.weights, &ids, &targets)?;
            sum += losses.iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        Ok((sum / tokens.max(1) as f64, tokens))
    }
}
