//! An LSTM against a Transformer of as many parameters: speed and loss at several lengths, with as many tokens a step
//! and in all.

use super::{engine, machine, recurrent_plot};
use crate::root;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const HELP: &str = "cargo xtask recurrent --data FILE [options]

Trains lab/recipes/lstm-vs-transformer/{transformer,lstm}.toml at each length, in turn, with as many tokens a step and in all.

  --lengths LIST      T [32,128,512,1024]
  --tokens N          of each run [3000000]
  --step-tokens N     of each update; a multiple of every T [4096]
  --seeds LIST        [1337]
  --models LIST       [transformer,lstm]
  --lr LIST           of the models, in their order [as in the recipes]
  --precision KIND    f32 or bf16 [f32]
  --threads N         [0: all cores]
  --limit SECONDS     of one run [1800]
  --pellucid FILE     this binary of ours; nothing is built
  --name NAME         lab/runs/NAME [lstm-vs-transformer]
  --add               keeps the runs that lie there

Writes recurrent.json (every run), .csv, .md and .svg there. Tokens/s: the median update. Validation loss: every window of the
last tenth of the characters, as long as those that were trained on, so a short one sees less.
";

/// Parameters may differ by so much of the larger.
const ALIKE: f64 = 0.02;

struct Options {
    data: String,
    lengths: Vec<usize>,
    tokens: usize,
    step_tokens: usize,
    seeds: Vec<String>,
    models: Vec<String>,
    rates: Vec<String>,
    precision: String,
    threads: String,
    limit: u64,
    pellucid: Option<String>,
    name: String,
    add: bool,
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect()
}

fn number(name: &str, text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{name} wants a number above 0, not {text:?}")),
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut o = Self {
            data: String::new(),
            lengths: vec![32, 128, 512, 1024],
            tokens: 3_000_000,
            step_tokens: 4096,
            seeds: vec!["1337".into()],
            models: list("transformer,lstm"),
            rates: vec![],
            precision: "f32".into(),
            threads: "0".into(),
            limit: 1800,
            pellucid: None,
            name: "lstm-vs-transformer".into(),
            add: false,
        };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            if name == "--add" {
                o.add = true;
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("{name} wants a value"))?;
            match name.as_str() {
                "--data" => o.data.clone_from(value),
                "--lengths" => {
                    let all = list(value);
                    o.lengths = all.iter().map(|t| number(name, t)).collect::<Result<_, _>>()?;
                }
                "--tokens" => o.tokens = number(name, value)?,
                "--step-tokens" => o.step_tokens = number(name, value)?,
                "--seeds" => o.seeds = list(value),
                "--models" => o.models = list(value),
                "--lr" => o.rates = list(value),
                "--precision" => o.precision.clone_from(value),
                "--threads" => o.threads.clone_from(value),
                "--limit" => o.limit = number(name, value)? as u64,
                "--pellucid" => o.pellucid = Some(value.clone()),
                "--name" => o.name.clone_from(value),
                other => return Err(format!("recurrent: {other:?} is no option; see --help")),
            }
        }
        o.check()?;
        Ok(o)
    }

    fn check(&self) -> Result<(), String> {
        if self.data.is_empty() {
            return Err("recurrent needs --data FILE".into());
        }
        if let Some(t) = self.lengths.iter().find(|t| !self.step_tokens.is_multiple_of(**t)) {
            return Err(format!("--step-tokens {} is no multiple of T = {t}", self.step_tokens));
        }
        if !self.rates.is_empty() && self.rates.len() != self.models.len() {
            return Err(format!(
                "--lr has {} numbers for {} models",
                self.rates.len(),
                self.models.len()
            ));
        }
        if self.name.contains(['/', '\\']) || self.name.starts_with('.') {
            return Err(format!("--name {:?} is to be one folder's name", self.name));
        }
        Ok(())
    }

    fn steps(&self) -> usize {
        self.tokens.div_ceil(self.step_tokens)
    }

    fn binary(&self) -> PathBuf {
        self.pellucid.as_ref().map_or_else(|| root().join("target/release/pellucid"), PathBuf::from)
    }

    /// `pellucid train` for model number `model` at length `t`.
    fn command(&self, model: usize, t: usize, seed: &str, folder: &Path) -> Command {
        let name = &self.models[model];
        let steps = self.steps().to_string();
        let mut command = Command::new(self.binary());
        command.arg("train").arg(format!("lab/recipes/lstm-vs-transformer/{name}.toml"));
        command.args(["--data", &self.data, "--seed", seed, "--precision", &self.precision]);
        command.arg("--out").arg(folder).args(["--threads", &self.threads, "--steps", &steps]);
        command.args(["--time", &t.to_string()]);
        command.args(["--batch", &(self.step_tokens / t).to_string()]);
        command.args(["--set", &format!("evaluate.every={steps}")]);
        if let Some(rate) = self.rates.get(model) {
            command.args(["--lr", rate, "--set"]);
            let tenth = rate.parse::<f64>().unwrap_or(f64::NAN) / 10.0;
            command.arg(format!("optimizer.min_lr={tenth:e}"));
        }
        command
    }

    /// How many parameters each model has, from its plan.
    fn parameters(&self) -> Result<Vec<u64>, String> {
        let folder = root().join("target/bench/recurrent-plan");
        let t = self.lengths.first().ok_or("--lengths names none")?;
        let count = |model| {
            let mut command = self.command(model, *t, "1", &folder);
            let ran = engine::start(command.arg("--dry-run"), self.limit);
            let ran = ran.map_err(|e| format!("pellucid: {e}"))?.well(self.limit)?;
            planned(&ran.text).ok_or_else(|| format!("{:?} names no parameters", ran.text))
        };
        let found: Vec<u64> = (0..self.models.len()).map(count).collect::<Result<_, String>>()?;
        let _ = std::fs::remove_dir_all(folder);
        alike(&self.models, &found)?;
        Ok(found)
    }

    /// One run: what it reached and how fast.
    fn go(&self, model: usize, t: usize, seed: &str) -> Result<Value, String> {
        let name = format!("recurrent-{}-{t}-{seed}", self.models[model]);
        let folder = root().join("target/bench").join(name);
        if folder.exists() {
            // A run whose folder has a checkpoint would be continued.
            std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let mut command = self.command(model, t, seed, &folder);
        let ran = engine::start(command.arg("--json"), self.limit);
        let ran = ran.map_err(|e| format!("pellucid: {e}"))?.well(self.limit)?;
        let path = folder.join("metrics.jsonl");
        let log = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut found = reached(&log)?;
        found["peak_bytes"] = json!(ran.peak_bytes);
        Ok(found)
    }
}

/// `992,768 parameters`, the first line of a plan.
fn planned(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_suffix(" parameters"))?;
    line.replace(',', "").trim().parse().ok()
}

/// Refuses models of unlike size.
fn alike(names: &[String], counts: &[u64]) -> Result<(), String> {
    let (least, most) = (counts.iter().min(), counts.iter().max());
    let (Some(&least), Some(&most)) = (least, most) else { return Err("no model".into()) };
    if (most - least) as f64 <= ALIKE * most as f64 {
        return Ok(());
    }
    Err(format!("{names:?} have {counts:?} parameters: more than {:.0} % apart", 100.0 * ALIKE))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (a, b) = (values.get(values.len().saturating_sub(1) / 2)?, values.get(values.len() / 2)?);
    Some((a + b) / 2.0)
}

/// What a metrics.jsonl says of a run: losses at its end, seconds of its updates, tokens/s of the median one.
fn reached(log: &str) -> Result<Value, String> {
    let lines: Vec<Value> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let all = |key: &str| -> Vec<f64> { lines.iter().filter_map(|l| l[key].as_f64()).collect() };
    let (losses, speeds, tokens) = (all("loss"), all("tokens_per_second"), all("tokens"));
    let last = &losses[losses.len() - losses.len().min(losses.len().div_ceil(20))..];
    // The first updates fault memory in.
    let warm = speeds[speeds.len().min(5).min(speeds.len() / 2)..].to_vec();
    let speed = median(warm).ok_or("no update was logged")?;
    let validation = all("validation_loss").last().copied();
    let mut before = 0.0;
    let seconds: f64 = tokens
        .iter()
        .zip(&speeds)
        .map(|(now, speed)| (now - std::mem::replace(&mut before, *now)) / speed)
        .sum();
    Ok(json!({
        "steps": losses.len(), "tokens": tokens.last(),
        "training_loss": last.iter().sum::<f64>() / last.len() as f64,
        "validation_loss": validation.ok_or("no validation loss was logged")?,
        "seconds": seconds, "tokens_per_second": speed,
    }))
}

/// The runs as CSV; as Markdown with a head and bars where `markdown`.
fn table(runs: &[Value], markdown: bool) -> String {
    let keys = [
        ("model", 0),
        ("parameters", 0),
        ("time", 0),
        ("batch", 0),
        ("seed", 0),
        ("precision", 0),
        ("tokens", 0),
        ("tokens_per_second", 0),
        ("seconds", 1),
        ("training_loss", 4),
        ("validation_loss", 4),
        ("peak_bytes", 0),
    ];
    let cell = |run: &Value, (key, digits): (&str, usize)| match &run[key] {
        Value::String(text) => text.clone(),
        value => value.as_f64().map_or(String::new(), |x| format!("{x:.digits$}")),
    };
    let line = |cells: Vec<String>| match markdown {
        true => format!("| {} |\n", cells.join(" | ")),
        false => cells.join(",") + "\n",
    };
    let mut text = line(keys.iter().map(|(key, _)| (*key).to_string()).collect());
    if markdown {
        text += &format!("|{}\n", "---|".repeat(keys.len()));
    }
    runs.iter().for_each(|run| text += &line(keys.iter().map(|k| cell(run, *k)).collect()));
    text
}

fn save(folder: &Path, runs: &[Value]) -> Result<(), String> {
    let pretty = super::pretty(&Value::Array(runs.to_vec()));
    super::write(&folder.join("recurrent.json"), &pretty)?;
    super::write(&folder.join("recurrent.csv"), &table(runs, false))?;
    super::write(&folder.join("recurrent.md"), &table(runs, true))?;
    super::write(&folder.join("recurrent.svg"), &recurrent_plot::svg(runs))
}

/// Runs, prints and saves.
pub(crate) fn recurrent(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|a| a == "--help" || a == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let mut o = Options::parse(arguments)?;
    let full = std::fs::canonicalize(&o.data).map_err(|e| format!("{}: {e}", o.data))?;
    o.data = full.display().to_string();
    match &o.pellucid {
        None => crate::run("cargo", &["build", "--release", "--package", "pellucid-cli"])?,
        Some(path) => {
            let full = std::fs::canonicalize(path).map_err(|e| format!("{path}: {e}"))?;
            o.pellucid = Some(full.display().to_string());
        }
    }
    let parameters = o.parameters()?;
    let folder = root().join("lab/runs").join(&o.name);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let machine = machine::of(&o.binary())?;
    super::write(&folder.join("machine.json"), &super::pretty(&machine))?;
    let mut runs = if o.add { super::read(&folder.join("recurrent.json"))? } else { vec![] };
    for seed in &o.seeds {
        for &t in &o.lengths {
            for (model, name) in o.models.iter().enumerate() {
                let found = o.go(model, t, seed).map_err(|e| format!("{name} T={t}: {e}"))?;
                let mut run = json!({ "model": name, "parameters": parameters[model], "time": t,
                    "batch": o.step_tokens / t, "seed": seed, "precision": o.precision });
                let both = run.as_object_mut().zip(found.as_object().cloned());
                if let Some((run, found)) = both {
                    run.extend(found);
                }
                println!(
                    "{name:<12} T={t:<5} {:>8.0} tokens/s  validation {:.4}  {:.1} s",
                    run["tokens_per_second"].as_f64().unwrap_or(f64::NAN),
                    run["validation_loss"].as_f64().unwrap_or(f64::NAN),
                    run["seconds"].as_f64().unwrap_or(f64::NAN)
                );
                runs.push(run);
                // After each run, so that what ran is not lost.
                save(&folder, &runs)?;
            }
        }
    }
    println!("\n{}\n{}", table(&runs, true), recurrent_plot::bars(&runs));
    println!("written to lab/runs/{}", o.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
        Options::parse(&words)
    }

    #[test]
    fn both_models_get_as_many_tokens() {
        let o = parse("--data x --tokens 10000 --step-tokens 1024 --lr 1e-3,2e-3").unwrap();
        for (model, t) in [(0, 32), (1, 512)] {
            let command = o.command(model, t, "7", Path::new("f"));
            let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
            let line = words.join(" ");
            let batch = 1024 / t;
            assert!(line.contains(&format!("--time {t} --batch {batch} ")), "{line}");
            assert!(line.contains("--steps 10 ") && line.contains("evaluate.every=10"), "{line}");
            let rates =
                ["--lr 1e-3 --set optimizer.min_lr=1e-4", "--lr 2e-3 --set optimizer.min_lr=2e-4"];
            assert!(line.contains(rates[model]), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let error = |line: &str| parse(line).err().unwrap_or_default();
        assert!(error("").contains("--data"));
        assert!(error("--data x --lengths 32,100").contains("no multiple of T = 100"));
        assert!(error("--data x --lr 1e-3").contains("1 numbers for 2 models"));
        assert!(error("--data x --token 3").contains("\"--token\""));
        assert!(error("--data x --name a/b").contains("one folder"));
        let names = list("a,b");
        alike(&names, &[992_768, 1_002_168]).unwrap();
        assert!(alike(&names, &[980_000, 1_002_168]).unwrap_err().contains("2 % apart"));
        assert_eq!(planned("992,768 parameters\nmemory: x\n"), Some(992_768));
    }

    #[test]
    fn a_log_becomes_its_last_losses_and_its_median_speed() {
        let step = |i: usize, loss: f64, speed: f64| {
            format!(
                "{{\"step\":{i},\"loss\":{loss},\"tokens\":{},\"tokens_per_second\":{speed}}}\n",
                10 * i
            )
        };
        let mut log: String =
            (1..40).map(|i| step(i, 3.0, if i < 5 { 1.0 } else { 20.0 })).collect();
        log += &step(40, 1.0, 20.0);
        assert!(reached(&log).unwrap_err().contains("no validation loss"));
        log += "{\"step\":40,\"validation_loss\":1.5}\n";
        let found = reached(&log).unwrap();
        assert_eq!((found["steps"].as_u64(), found["tokens"].as_f64()), (Some(40), Some(400.0)));
        assert_eq!(found["training_loss"].as_f64(), Some(2.0)); // a twentieth: the last two
        assert_eq!(found["tokens_per_second"].as_f64(), Some(20.0));
        assert_eq!(found["seconds"].as_f64(), Some(40.0 + 36.0 * 0.5));
        assert!(reached("").is_err());
    }

    #[test]
    fn the_table_is_csv_and_markdown() {
        let runs = [json!({ "model": "lstm", "time": 32, "validation_loss": 1.23456 })];
        assert!(table(&runs, false).ends_with("lstm,,32,,,,,,,,1.2346,\n"));
        assert!(table(&runs, true).contains("| lstm |  | 32 |"));
    }
}
