//! What is going on inside a model while it trains: a few numbers after each checkpoint, in `gauges.jsonl`.

use crate::model::Model;
use crate::out;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::context_scores::repeated;
use pellucid::lens::head_scores::{RandomTexts, head_scores};
use pellucid::lens::subject::Subject;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Measures the checkpoint of a step and writes a line. A fault stops nothing; it is told once.
pub(crate) fn after(pool: &Pool, run: &Path, step: u64, checkpoint: &Path) {
    if let Err(error) = measure(pool, run, step, checkpoint) {
        out::complain(&format!("no gauges: {error}"));
    }
}

fn measure(pool: &Pool, run: &Path, step: u64, checkpoint: &Path) -> Result<()> {
    let model = Model::load(checkpoint)?;
    let subject = Subject { config: &model.config, weights: &model.weights, pool };
    let config = &model.config;
    let tokens = 25.min(config.vocab).min(config.context / 2);
    let texts = RandomTexts { tokens, repeats: 2, samples: 8, ..RandomTexts::default() };
    let heads = head_scores(subject, &texts, &mut |_| Ok(()))?;
    let twice = repeated(subject, &texts)?;
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
    });
    let path = run.join("gauges.jsonl");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|e| Error::io("gauges", &path, e))?;
    writeln!(file, "{line}")
        .map_err(|e| Error::new(Kind::Io, "gauges", format!("{}: {e}", path.display())))
}
