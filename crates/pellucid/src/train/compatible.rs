//! Whether a checkpoint continues this run: what must be equal, what may change with a warning, what is free.

use super::resume::State;
use super::run::{KEYS, RunConfig};
use crate::error::{Error, Kind, Result};
use std::path::Path;
use toml::Table;

#[derive(PartialEq)]
enum Change {
    Refused,
    Warned,
    Free,
}

/// Data is judged by its fingerprint, the model by its sizes; so their keys need not be equal.
fn rule(section: &str, name: &str) -> Change {
    match (section, name) {
        ("train", "batch" | "time" | "accumulation" | "seed")
        | ("data", "sampling" | "validation_fraction") => Change::Refused,
        ("train", "steps" | "precision" | "threads") | ("optimizer" | "schedule", _) => {
            Change::Warned
        }
        _ => Change::Free,
    }
}

/// Lists all differences that break the run; returns those that only bend it.
pub(super) fn compare(
    folder: &Path,
    (state, fresh): (&State, &State),
    (saved, run): (&RunConfig, &RunConfig),
) -> Result<Vec<String>> {
    let (mut refused, mut warned) = (Vec::new(), Vec::new());
    let sizes = |s: &State| serde_json::to_value(&s.model).unwrap_or_default();
    if let (Some(was), Some(now)) = (sizes(state).as_object(), sizes(fresh).as_object()) {
        for (name, value) in now {
            let old = was.get(name).unwrap_or(&serde_json::Value::Null);
            if old != value {
                refused.push(format!("model.{name} was {old}, now {value}"));
            }
        }
    }
    if state.data != fresh.data {
        refused.push(format!("the data's fingerprint was {}, now {}", state.data, fresh.data));
    }
    let table = |r: &RunConfig| Table::try_from(r).unwrap_or_default();
    let (was, now) = (table(saved), table(run));
    for key in KEYS {
        let value = |t: &Table| {
            t.get(key.section)
                .and_then(|s| s.get(key.name))
                .map_or("unset".into(), ToString::to_string)
        };
        let (old, new) = (value(&was), value(&now));
        if old == new {
            continue;
        }
        let line = format!("{}.{} was {old}, now {new}", key.section, key.name);
        match rule(key.section, key.name) {
            Change::Refused => refused.push(line),
            Change::Warned => warned.push(line),
            Change::Free => {}
        }
    }
    if refused.is_empty() {
        return Ok(warned);
    }
    let message = format!("{} was made by a different run", folder.display());
    let error = Error::new(Kind::Config, "train", message).hint(
        "restore these settings, or set checkpoint.folder to a new folder; train.steps, optimizer.*, schedule.*, \
         evaluate.*, checkpoint.* and log.* may change",
    );
    Err(refused.into_iter().fold(error, Error::fact))
}
