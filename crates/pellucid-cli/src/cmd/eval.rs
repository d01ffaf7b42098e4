//! `pellucid eval`

use crate::labels;
use crate::model::{Held, Model};
use crate::out;
use crate::pairs;
use crate::plan;
use crate::synthetic;
use crate::tags;
use crate::tasks::{self, TaskArgs};
use clap::Args;
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::{Corpus, CorpusOptions, Evaluation, IGNORE, Shard};
use pellucid::error::{Error, Kind, Result};
use pellucid::model::config::{Architecture, Output};
use pellucid::model::scorer::Scorer;
use pellucid::model::train_graph::{Batch, TrainGraph, TrainOptions};
use pellucid::train::loss;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// A model folder or the folder of a run
    model: PathBuf,
    /// Files, folders or patterns; of a model that labels texts, one table of texts and labels; of one that tags words,
    /// files of words and tags, a sentence's end being a blank line, or JSON lines of tokens and tags; of an
    /// encoder-decoder, one table of pairs or two files; of a task, one file of JSON lines; none: of a run whose sequences
    /// follow a law, fresh ones
    data: Vec<PathBuf>,
    /// Columns of text, second text where there is one, and label; of word and tag; or of source and target: by name or
    /// number from 1
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    columns: Vec<String>,
    /// Whether the table begins with a line of names; where columns are named, it does
    #[arg(long, value_name = "BOOL")]
    header: Option<bool>,
    /// Field or column that holds the text
    #[arg(long, default_value = "text")]
    field: String,
    /// Tokens per window; without it, the model's context
    #[arg(long, value_name = "N")]
    time: Option<usize>,
    /// Windows at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    batch: usize,
    /// How weights are held; without it, as the folder has them: plain ones in f32
    #[arg(long, value_enum, value_name = "KIND")]
    weights: Option<Held>,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// A JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    task: TaskArgs,
}

impl Eval {
    pub(crate) fn run(self) -> Result<()> {
        let pool = plan::pool(self.threads);
        if self.data.is_empty() {
            return synthetic::run(&self.model, &pool, self.batch, self.json);
        }
        self.on_files(&pool)
    }

    fn on_files(&self, pool: &Pool) -> Result<()> {
        let model = Model::load_as(pool, &self.model, self.weights)?;
        if self.task.is_set() {
            return tasks::run(&self.task, &model, pool, (&self.data, &self.field), self.json);
        }
        let table = (&*self.columns, self.header);
        if model.config.output == Output::Positions {
            return tags::run(&model, pool, &self.data, table, self.json);
        }
        if model.config.output == Output::Sequence {
            return labels::run(&model, pool, &self.data[0], table, self.json);
        }
        if model.config.has_source() {
            return pairs::run(&model, pool, &self.data, &self.columns, self.json);
        }
        if model.config.architecture != Architecture::Decoder {
            let message = "an encoder gives no next token of a text a probability";
            return Err(Error::new(Kind::Config, "eval", message)
                .hint("an encoder is scored by embed --pairs"));
        }
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
        let (mean, tokens) = self.measure(pool, &model, &windows, time)?;
        let bytes_of_weights = match &model.stored {
            Some(stored) => stored.bytes(),
            None => size_of_val(model.weights.data()),
        };
        let (perplexity, bits) = (loss::perplexity(mean), loss::bits_per_byte(mean, per_token));
        if self.json {
            return out::json(&json!({ "loss": mean, "perplexity": perplexity,
                "bits_per_byte": bits, "tokens": tokens, "bytes": bytes, "window": time,
                "weight_bytes": bytes_of_weights }));
        }
        out::line(format!(
            "loss           {mean:.4} nats per token\nperplexity     {perplexity:.3}\n\
             bits per byte  {bits:.4}\n{} tokens in windows of {time}; a window's first tokens see little\n\
             weights in {}",
            out::count(tokens),
            out::bytes(bytes_of_weights as u64)
        ))
    }

    /// Mean loss and how many targets counted.
    fn measure(
        &self,
        pool: &Pool,
        model: &Model,
        windows: &Evaluation,
        time: usize,
    ) -> Result<(f64, u64)> {
        let mut ids = vec![0; self.batch * time];
        let mut targets = vec![IGNORE; self.batch * time];
        let (mut sum, mut tokens) = (0.0, 0);
        let mut losses = self.losses(pool, model, time)?;
        for number in 0..windows.batches() {
            tokens += windows.fill(number, &mut ids, &mut targets)? as u64;
            sum += losses(&ids, &targets)?;
        }
        Ok((sum / tokens.max(1) as f64, tokens))
    }

    /// Sums the losses of a batch, with the kernels that inference uses for the weights as they are held.
    fn losses<'m>(&self, pool: &'m Pool, model: &'m Model, time: usize) -> Result<Losses<'m>> {
        if let Some(stored) = &model.stored {
            let size = (self.batch, time);
            let mut scorer = Scorer::new(&model.config, stored, size, pool.threads())?;
            return Ok(Box::new(move |ids, targets| {
                Ok(scorer.losses(pool, stored, ids, targets)?.iter().sum())
            }));
        }
        let options = TrainOptions::new(self.batch, time);
        let mut graph = TrainGraph::new(&model.config, options, pool.threads())?;
        let rows = self.batch;
        Ok(Box::new(move |ids, targets| {
            let batch = Batch::of(rows, ids, targets);
            let (_, losses) = graph.evaluate(pool, &model.weights, &batch)?;
            Ok(losses.iter().map(|&l| f64::from(l)).sum())
        }))
    }
}

/// Ids and targets (B, T) to the sum of their losses.
type Losses<'m> = Box<dyn FnMut(&[i32], &[i32]) -> Result<f64> + 'm>;
