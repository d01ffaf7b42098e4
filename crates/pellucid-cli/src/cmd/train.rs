//! `pellucid train`

use crate::out;
use crate::plan;
use crate::session::{dry, finish, summary, train, train_gauged};
use crate::signal;
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid::train::run::RunConfig;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "Every key of the TOML file is a flag too: --train.steps 100 --optimizer.lr 3e-4\n\
    --model.positions rotary; `pellucid train --print-config` lists them all with their meaning.\n\
    A run whose folder has a checkpoint is continued. Ctrl-C saves and stops; a second one aborts."
)]
pub(crate) struct Train {
    /// Settings; flags win over them
    run: Option<PathBuf>,
    /// Files, folders or patterns to train on [data.train]
    #[arg(long, value_name = "PATH")]
    data: Vec<String>,
    /// Folder of the run [checkpoint.folder]
    #[arg(long, short, value_name = "FOLDER")]
    out: Option<String>,
    /// Where the model's sizes come from: nano, gpt2, llama [model.preset]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// One dial: blocks, 64 channels wide for each [model.depth]
    #[arg(long, value_name = "N")]
    depth: Option<String>,
    /// characters, bytes, bpe or a tokenizer.json [data.tokenizer]
    #[arg(long, value_name = "WHICH")]
    tokenizer: Option<String>,
    /// Updates of the weights [train.steps]
    #[arg(long, value_name = "N")]
    steps: Option<String>,
    /// Sequences per micro-batch [train.batch]
    #[arg(long, value_name = "N")]
    batch: Option<String>,
    /// Tokens per sequence [train.time]
    #[arg(long, value_name = "N")]
    time: Option<String>,
    /// Peak learning rate [optimizer.lr]
    #[arg(long, value_name = "X")]
    lr: Option<String>,
    /// f32 or bf16 [train.precision]
    #[arg(long, value_name = "KIND")]
    precision: Option<String>,
    /// Fixes weights, batches and dropout [train.seed]
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// Threads; 0 takes all cores [train.threads]
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// Any key: --set optimizer.beta2=0.95, the same as --optimizer.beta2 0.95
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints the settings as TOML and ends
    #[arg(long)]
    print_config: bool,
    /// Plans the run, prints its memory and ends
    #[arg(long)]
    dry_run: bool,
    /// Looks inside each checkpoint, and writes what heads do to gauges.jsonl, which `look` shows
    #[arg(long)]
    gauges: bool,
    /// Prints only a JSON object, at the end
    #[arg(long)]
    json: bool,
}

impl Train {
    pub(crate) fn run(self) -> Result<()> {
        let run = self.settings()?;
        if self.print_config {
            return out::write(&run.to_toml());
        }
        if run.data.train.is_empty() && !run.data.task.is_synthetic() {
            return Err(Error::new(Kind::Config, "train", "no training data is named").hint(
                "give --data FILE, or data.train in the TOML file; `pellucid demo` needs none",
            ));
        }
        if self.dry_run {
            return dry(&run);
        }
        signal::listen("saving … (Ctrl-C again aborts without saving)")?;
        let outcome = match self.gauges {
            true => train_gauged(&run, self.json)?,
            false => train(&run, self.json)?,
        };
        if self.json {
            return out::json(&summary(&outcome));
        }
        finish(&run, &outcome)
    }

    fn settings(&self) -> Result<RunConfig> {
        let mut run = match &self.run {
            Some(path) => RunConfig::load(path)?,
            None => RunConfig::default(),
        };
        let flags = [
            ("checkpoint.folder", &self.out),
            ("model.preset", &self.preset),
            ("model.depth", &self.depth),
            ("data.tokenizer", &self.tokenizer),
            ("train.steps", &self.steps),
            ("train.batch", &self.batch),
            ("train.time", &self.time),
            ("optimizer.lr", &self.lr),
            ("train.precision", &self.precision),
            ("train.seed", &self.seed),
            ("train.threads", &self.threads),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                run.set(key, value)?;
            }
        }
        if !self.data.is_empty() {
            run.data.train.clone_from(&self.data);
        }
        for pair in &self.set {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::new(Kind::Config, "train", format!("--set {pair}: no = is in it"))
                    .hint("write --set train.steps=100")
            })?;
            run.set(key, value)?;
        }
        run.train.threads = plan::threads(run.train.threads);
        Ok(run)
    }
}
