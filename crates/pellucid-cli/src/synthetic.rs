//! `pellucid eval` of a run whose sequences follow a law: beside predictors whose loss is known.

use crate::model::{Model, find};
use crate::out;
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::synthetic::Part;
use pellucid::error::{Error, Kind, Result};
use pellucid::train::run::RunConfig;
use pellucid::train::tasks::synthetic::{Examined, examine, law};
use serde_json::json;
use std::path::Path;

/// Rows of each part.
const ROWS: u64 = 5000;

/// Examines the model of a run on what is held out, and on rows like those that it learned from.
pub(crate) fn run(folder: &Path, pool: &Pool, batch: usize, as_json: bool) -> Result<()> {
    let hint = "name the files to evaluate on";
    let run = RunConfig::load(&find(folder)?.join("run.toml")).map_err(|e| e.hint(hint))?;
    if !run.data.task.is_synthetic() {
        let message = format!("{}: was trained on files", folder.display());
        return Err(Error::new(Kind::Input, "eval", message).hint(hint));
    }
    let model = Model::load(folder)?;
    let time = run.time(&model.config);
    let law = law(&run, time)?;
    let examine =
        |part| examine((&model.config, &model.weights), pool, &*law, part, (ROWS, batch, time));
    let (held_out, like) = (examine(Part::HeldOut)?, examine(Part::Train)?);
    if as_json {
        return out::json(&json!({ "held_out": object(&held_out), "train": object(&like) }));
    }
    show("held out", &held_out)?;
    show("as in training", &like)
}

fn object(examined: &Examined) -> serde_json::Value {
    let others: serde_json::Map<_, _> =
        examined.yardsticks.iter().map(|(name, x)| ((*name).to_owned(), json!(x))).collect();
    json!({ "loss": examined.loss, "tokens": examined.tokens, "rows": examined.rows,
        "right": examined.right, "others": others })
}

fn show(what: &str, examined: &Examined) -> Result<()> {
    let Examined { loss, tokens, yardsticks, right, rows } = examined;
    let (rows, tokens) = (out::count(*rows), out::count(*tokens));
    out::line(format!("{what}: {rows} rows, {tokens} tokens asked"))?;
    if let Some(right) = right {
        out::line(format!("  {:<28}{} of {rows}", "wholly right", out::count(*right)))?;
    }
    for (name, loss) in
        [("this model", loss)].into_iter().chain(yardsticks.iter().map(|(n, l)| (*n, l)))
    {
        out::line(format!("  {name:<28}{loss:.4} nats per token"))?;
    }
    Ok(())
}
