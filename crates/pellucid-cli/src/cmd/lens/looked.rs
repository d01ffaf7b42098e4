//! The model of a question, and its words.

use crate::input::parse_ids;
use crate::ledger::Ledger;
use crate::model::Model;
use crate::out;
use crate::plan;
use clap::Args;
use indicatif::ProgressBar;
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::fingerprint;
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid::lens::subject::Subject;
use pellucid::lens::sweep::{Follower, Forecast};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What every question needs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Looked {
    /// A model folder or the folder of a run
    model: PathBuf,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// A model that was loaded to be looked into.
pub(crate) struct Opened {
    pub(crate) model: Model,
    pub(crate) pool: Pool,
}

impl Looked {
    pub(crate) fn open(&self) -> Result<Opened> {
        Ok(Opened { model: Model::load(&self.model)?, pool: plan::pool(self.threads) })
    }
}

impl Opened {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { config: &self.model.config, weights: &self.model.weights, pool: &self.pool }
    }

    /// Ids of a text as a prompt; of a model without a tokenizer the text is ids.
    pub(crate) fn ids(&self, text: &str) -> Result<Vec<i32>> {
        if self.model.tokenizer.is_none() {
            return Ok(parse_ids(text)?.into_iter().map(|id| id as i32).collect());
        }
        Ok(self.model.encode(text)?.into_iter().map(|id| id as i32).collect())
    }

    /// Ids of a text as an encoder's source, where the model has one; the decoder then reads `text`.
    pub(crate) fn source(&self, source: Option<&str>) -> Result<Vec<i32>> {
        match (self.model.config.has_source(), source) {
            (false, None) => Ok(vec![]),
            (true, Some(text)) => Ok(self.model.translator(&self.pool)?.source(text)?),
            (true, None) => {
                Err(Error::new(Kind::Input, "lens", "the model reads a source as well")
                    .hint("give it: --source TEXT"))
            }
            (false, Some(_)) => Err(Error::new(Kind::Input, "lens", "the model reads no source")),
        }
    }

    /// Ids of a file's lines, empty ones left out, each cut to the context.
    pub(crate) fn rows(&self, path: &Path, lines: usize) -> Result<Vec<Vec<i32>>> {
        let text = files::read_text("lens", path)?;
        let mut rows = vec![];
        for line in text.lines().filter(|l| !l.trim().is_empty()).take(lines) {
            let mut ids = self.ids(line)?;
            ids.truncate(self.model.config.context);
            rows.push(ids);
        }
        if rows.is_empty() {
            let message = format!("{}: has no line of text", path.display());
            return Err(Error::new(Kind::Input, "lens", message));
        }
        Ok(rows)
    }

    /// The name of each id.
    pub(crate) fn labels(&self, ids: &[i32]) -> Vec<String> {
        let label = |&id: &i32| match &self.model.tokenizer {
            Some(tokenizer) => tokenizer.label(id as u32),
            None => id.to_string(),
        };
        ids.iter().map(label).collect()
    }

    /// The id of the first token of what follows `prompt`.
    pub(crate) fn next(&self, prompt: &str, text: &str) -> Result<u32> {
        self.continuation(prompt, text)?.first().map(|&id| id as u32).ok_or_else(|| {
            Error::new(Kind::Input, "lens", format!("{text:?} has no token of its own"))
        })
    }

    /// Ids of what follows `prompt`, as a text that goes on has them.
    pub(crate) fn continuation(&self, prompt: &str, text: &str) -> Result<Vec<i32>> {
        if self.model.tokenizer.is_none() {
            return self.ids(text);
        }
        let begin = self.model.generation.bos;
        let found = self.model.tokenizer()?.encode_continuation(prompt, text, begin)?;
        Ok(found.continuation.into_iter().map(|id| id as i32).collect())
    }
}

/// Of a sweep of many runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct SweepArgs {
    /// Keeps what is found in this file as it goes; a sweep that was stopped goes on from there
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

impl SweepArgs {
    /// Who follows the sweep of a question.
    pub(crate) fn follow(&self, opened: &Opened, mut question: Value) -> Result<Told> {
        let Some(path) = &self.resume else { return Ok(Told::new()) };
        question["weights"] = fingerprint(&opened.model.weights).into();
        let mut told = Told::new();
        told.ledger = Some(Ledger::open(path, &question)?);
        Ok(told)
    }
}

/// Says what a sweep will cost, on stderr, and shows how far it is.
pub(crate) struct Told {
    bar: ProgressBar,
    ledger: Option<Ledger>,
}

impl Told {
    pub(crate) fn new() -> Self {
        Self { bar: out::bar(0, "runs"), ledger: None }
    }

    pub(crate) fn length(&self, n: usize) {
        self.bar.set_length(n as u64);
    }

    /// Follows `n` runs that are counted as they are done.
    pub(crate) fn of(n: usize) -> Self {
        let told = Self::new();
        told.length(n);
        told
    }

    /// For who tells how many are done.
    pub(crate) fn each(&self) -> impl FnMut(usize) -> Result<()> {
        |done| {
            self.at(done);
            Ok(())
        }
    }

    pub(crate) fn at(&self, done: usize) {
        self.bar.set_position(done as u64);
    }
}

impl Follower for Told {
    fn begin(&mut self, forecast: &Forecast) -> Result<()> {
        self.length(forecast.cells);
        let Forecast { cells, passes, flops, flops_apart } = *forecast;
        if cells == 0 {
            out::note("nothing is left to be run");
            return Ok(());
        }
        out::note(&format!(
            "{cells} changed runs in {passes} passes: {} of computation, {:.1} times less than one by one",
            out::short(flops) + "FLOP",
            flops_apart / flops
        ));
        Ok(())
    }

    fn known(&self, cell: usize) -> Option<f64> {
        self.ledger.as_ref()?.known(cell)
    }

    fn found(&mut self, cell: usize, value: f64) -> Result<()> {
        self.bar.inc(1);
        self.ledger.as_mut().map_or(Ok(()), |ledger| ledger.add(cell, value))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
