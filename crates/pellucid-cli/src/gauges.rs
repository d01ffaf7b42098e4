//! What is going on inside a model while it trains: a few numbers after each checkpoint, in `gauges.jsonl`.

use crate::model::Model;
use crate::out;
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::Shard;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::context_scores::repeated;
use pellucid::lens::head_scores::{RandomTexts, head_scores};
use pellucid::lens::lens_depth::lens_depth;
use pellucid::lens::subject::Subject;
use pellucid::model::config::Config;
use pellucid::train::run::RunConfig;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Rows of the validation text whose depths are measured.
const ROWS: usize = 8;

/// Measures checkpoints and writes lines. A fault stops nothing; it is told once.
pub(crate) struct Gauger<'a> {
    pool: Pool,
    run: &'a RunConfig,
    told: bool,
}

impl<'a> Gauger<'a> {
    pub(crate) fn new(pool: Pool, run: &'a RunConfig) -> Self {
        Self { pool, run, told: false }
    }

    /// Measures the checkpoint of a step.
    pub(crate) fn after(&mut self, step: u64, checkpoint: &Path) {
        if let Err(error) = measure(&self.pool, self.run, step, checkpoint)
            && !self.told
        {
            self.told = true;
            out::complain(&format!("no gauges: {error}"));
        }
    }
}

/// A few rows of the text that is held out, evenly spread; none where a run has no such tokens.
fn held_out(run: &RunConfig, config: &Config) -> Option<Vec<Vec<i32>>> {
    let shard = Shard::open(&run.data_folder().join("validation.bin")).ok()?;
    let t = config.context.min(run.time(config)).min(usize::try_from(shard.len()).ok()?);
    let last = shard.len() - t as u64;
    let rows = (0..ROWS as u64).map(|i| {
        let mut row = vec![0; t];
        shard.read(last * i / (ROWS as u64 - 1), &mut row).ok().map(|()| row)
    });
    rows.collect::<Option<Vec<_>>>().filter(|_| t > 0)
}

fn measure(pool: &Pool, run: &RunConfig, step: u64, checkpoint: &Path) -> Result<()> {
    let model = Model::load(checkpoint)?;
    let subject = Subject { config: &model.config, weights: &model.weights, pool };
    let config = &model.config;
    let tokens = 25.min(config.vocab).min(config.context / 2);
    let texts = RandomTexts { tokens, repeats: 2, samples: 8, ..RandomTexts::default() };
    let heads = head_scores(subject, &texts, &mut |_| Ok(()))?;
    let twice = repeated(subject, &texts)?;
    let rows = held_out(run, config).map_or_else(|| texts.draw(config), Ok)?;
    let depth = lens_depth(subject, &rows)?.depth;
    let most = |pick: &dyn Fn(usize) -> f64| {
        (0..heads.scores.len()).map(pick).fold(f64::NEG_INFINITY, f64::max)
    };
    let line = json!({
        "step": step,
        // The strongest head of each sort.
        "previous_token_score": most(&|i| heads.scores[i].previous.value),
        "induction_score": most(&|i| heads.scores[i].induction.value),
        // Random tokens: the second time less the first, in nats.
        "in_context_score": twice.second.value - twice.first.value,
        "repeated_loss": twice.second.value,
        // In blocks, on validation rows, or on the random tokens where there are none.
        "lens_depth": depth.value,
    });
    let path = Path::new(&run.checkpoint.folder).join("gauges.jsonl");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|e| Error::io("gauges", &path, e))?;
    writeln!(file, "{line}")
        .map_err(|e| Error::new(Kind::Io, "gauges", format!("{}: {e}", path.display())))
}
