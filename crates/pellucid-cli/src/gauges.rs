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

#[cfg(test)]
mod tests {
    use super::*;
    use pellucid::data::ShardWriter;
    use pellucid::text::Tokenizer;

    #[test]
    fn rows_are_spread_over_what_is_held_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = RunConfig::default();
        run.data.folder = Some(folder.path().display().to_string());
        run.train.time = Some(8);
        let config = Config { context: 16, ..Config::gpt2() };
        assert_eq!(held_out(&run, &config), None);
        let tokenizer = Tokenizer::bytes();
        let write = |ids: &[u32]| {
            let path = folder.path().join("validation.bin");
            let mut shard = ShardWriter::create(&path, &tokenizer).unwrap();
            shard.push(ids).unwrap();
            shard.finish().unwrap();
        };
        let ids: Vec<u32> = (0..40).map(|i| i % 8).collect();
        write(&ids);
        let rows = held_out(&run, &config).unwrap();
        assert!(rows.len() == ROWS && rows.iter().all(|r| r.len() == 8));
        let starts: Vec<i32> = rows.iter().map(|r| r[0]).collect();
        assert_eq!(starts, [0, 4, 1, 5, 2, 6, 3, 0], "0, 4, 9, 13, 18, 22, 27 and 32 of 40");
        write(&ids[..3]);
        assert_eq!(held_out(&run, &config).unwrap()[7], [0, 1, 2], "shorter than a row");
        write(&[]);
        assert_eq!(held_out(&run, &config), None);
    }
}
