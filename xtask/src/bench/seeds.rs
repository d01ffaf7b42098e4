//! The same recipe in both precisions over several seeds: does bf16 cost anything in the end?

use crate::{option, root};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const HELP: &str = "cargo xtask seeds --data FILE [--validation FILE] [options]

Trains a recipe with each precision and seed and sets the validation losses side by side. --validation is a text of its own for
`pellucid eval`; without it the loss is of the recipe's own validation part.

  --recipe FILE       [lab/recipes/shakespeare-small.toml]
  --precisions LIST   [f32,bf16]
  --seeds LIST        [1337,1338,1339]
  --name NAME         lab/runs/NAME-seeds.json and .md [shakespeare-small]
  --add               keeps the runs that lie there
";

/// One run.
struct Run<'a> {
    recipe: &'a str,
    data: &'a str,
    validation: Option<&'a str>,
    precision: &'a str,
    seed: &'a str,
}

fn pellucid() -> PathBuf {
    root().join("target/release/pellucid")
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.current_dir(root()).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let error = text.lines().find(|l| l.starts_with("error")).or(text.lines().last());
    Err(error.unwrap_or("failed").to_string())
}

impl Run<'_> {
    fn go(&self, folder: &Path) -> Result<Value, String> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(|e| e.to_string())?;
        }
        let start = std::time::Instant::now();
        let set = format!("train.precision=\"{}\"", self.precision);
        let out = folder.display().to_string();
        let arguments = ["train", self.recipe, "--data", self.data, "--out", &out];
        output(
            Command::new(pellucid()).args(arguments).args(["--seed", self.seed, "--set", &set]),
        )?;
        let seconds = start.elapsed().as_secs_f64();
        let loss = match self.validation {
            Some(text) => {
                let mut command = Command::new(pellucid());
                command.args(["eval", &out, text, "--json"]);
                if let Some(time) = recipe_time(self.recipe) {
                    command.args(["--time", &time]);
                }
                let printed = output(&mut command)?;
                let value: Value = serde_json::from_str(printed.trim())
                    .map_err(|e| format!("pellucid eval --json: {e}"))?;
                value["loss"].as_f64().ok_or("pellucid eval --json has no loss")?
            }
            None => last_validation(folder)?,
        };
        Ok(json!({ "precision": self.precision, "seed": self.seed,
            "validation_loss": loss, "seconds": seconds }))
    }
}

/// `time = 64` of a recipe: windows as long as those it trains on.
fn recipe_time(recipe: &str) -> Option<String> {
    let text = std::fs::read_to_string(root().join(recipe)).ok()?;
    let line = text.lines().find(|l| l.starts_with("time"))?;
    line.split_once('=').map(|(_, value)| value.trim().to_string())
}

/// The last validation loss in a run's metrics.
fn last_validation(folder: &Path) -> Result<f64, String> {
    let path = folder.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.lines()
        .rev()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .find_map(|v| v["validation_loss"].as_f64())
        .ok_or_else(|| "no validation loss was written; give --validation FILE".into())
}

/// Seeds as rows, precisions as columns; mean and spread at the bottom.
fn table(runs: &[Value]) -> String {
    let mut columns: Vec<&str> = vec![];
    let mut seeds: Vec<&str> = vec![];
    for run in runs {
        let (p, s) =
            (run["precision"].as_str().unwrap_or("?"), run["seed"].as_str().unwrap_or("?"));
        if !columns.contains(&p) {
            columns.push(p);
        }
        if !seeds.contains(&s) {
            seeds.push(s);
        }
    }
    let find = |p: &str, s: &str, key: &str| {
        let run = runs.iter().rev().find(|r| r["precision"] == p && r["seed"] == s);
        run.and_then(|r| r[key].as_f64())
    };
    let mut text = String::from("| seed |");
    columns.iter().for_each(|p| text += &format!(" {p}: loss | seconds |"));
    text += &format!("\n|---|{}\n", "---|---|".repeat(columns.len()));
    for s in &seeds {
        text += &format!("| {s} |");
        for p in &columns {
            let cell = |key, digits: usize| {
                find(p, s, key).map_or(String::new(), |x| format!("{x:.digits$}"))
            };
            text += &format!(" {} | {} |", cell("validation_loss", 4), cell("seconds", 1));
        }
        text += "\n";
    }
    text += "| mean (spread) |";
    for p in &columns {
        let losses: Vec<f64> = seeds.iter().filter_map(|s| find(p, s, "validation_loss")).collect();
        let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let low = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        text += &format!(" {mean:.4} ({:.4}) | |", high - low);
    }
    text + "\n"
}

/// Runs everything, prints and saves.
pub(crate) fn seeds(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|a| a == "--help" || a == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let or = |name: &str, default: &str| option(arguments, name).unwrap_or_else(|| default.into());
    let recipe = or("--recipe", "lab/recipes/shakespeare-small.toml");
    let (precisions, seeds) = (or("--precisions", "f32,bf16"), or("--seeds", "1337,1338,1339"));
    let data = option(arguments, "--data").ok_or("seeds needs --data FILE")?;
    let absolute = |path: &str| -> Result<String, String> {
        let full = std::fs::canonicalize(path).map_err(|e| format!("{path}: {e}"))?;
        Ok(full.display().to_string())
    };
    let data = absolute(&data)?;
    let validation = option(arguments, "--validation").map(|v| absolute(&v)).transpose()?;
    crate::run("cargo", &["build", "--release", "--package", "pellucid-cli"])?;
    let name = or("--name", "shakespeare-small");
    let path = root().join("lab/runs").join(format!("{name}-seeds.json"));
    let add = arguments.iter().any(|a| a == "--add");
    let mut runs = if add { super::read(&path)? } else { vec![] };
    for seed in seeds.split(',') {
        for precision in precisions.split(',') {
            let (recipe, data, validation) =
                (recipe.as_str(), data.as_str(), validation.as_deref());
            let run = Run { recipe, data, validation, precision, seed };
            let folder = root().join("target/bench").join(format!("seed-{precision}-{seed}"));
            let result = run.go(&folder).map_err(|e| format!("{precision} {seed}: {e}"))?;
            println!("{precision} {seed}: {}", result["validation_loss"]);
            runs.push(result);
            super::write(&path, &super::pretty(&Value::Array(runs.clone())))?;
        }
    }
    let table = table(&runs);
    super::write(&path.with_extension("md"), &table)?;
    println!("\n{table}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_rows_and_the_mean_is_below() {
        let run = |p: &str, s: &str, loss: f64| {
            json!({ "precision": p, "seed": s,
            "validation_loss": loss, "seconds": 2.0 })
        };
        let runs = [run("f32", "1", 1.5), run("bf16", "1", 1.6), run("f32", "2", 1.7)];
        let table = table(&runs);
        assert!(table.contains("| 1 | 1.5000 | 2.0 | 1.6000 | 2.0 |"), "{table}");
        assert!(table.contains("| 2 | 1.7000 | 2.0 |  |  |"), "{table}");
        assert!(table.contains("| mean (spread) | 1.6000 (0.2000) | | 1.6000 (0.0000) | |"));
    }
}
