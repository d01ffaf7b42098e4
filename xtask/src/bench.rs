//! Our training step against every peer present, in turn: A B A B, medians, spread, ratio, peak memory.

use crate::{option, root};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

const HELP: &str = "cargo xtask bench [--python PATH] [--recipes tiny,nano,gpt2] [--precisions f32,bf16]
                  [--rounds 3] [--steps 5] [--save NAME]

Each round runs every engine once, as a process of its own, on random data. Without --python only ours runs.
--save writes lab/runs/NAME.json and .md.";

struct Engine {
    name: &'static str,
    mode: Option<&'static str>,
}

const ENGINES: [Engine; 3] = [
    Engine { name: "pellucid", mode: None },
    Engine { name: "torch eager", mode: Some("eager") },
    Engine { name: "torch compiled", mode: Some("compiled") },
];

fn measure(
    engine: &Engine,
    recipe: &str,
    precision: &str,
    steps: &str,
    python: Option<&str>,
) -> Result<Value, String> {
    let mut command = match (engine.mode, python) {
        (None, _) => {
            let mut c = Command::new(root().join("target/release/pellucid"));
            c.args(["bench", "train", "--json"]);
            c
        }
        (Some(mode), Some(python)) => {
            let mut c = Command::new(python);
            c.arg(root().join("lab/peers/torch_train.py")).args(["--mode", mode]);
            c
        }
        (Some(_), None) => return Err("no --python".into()),
    };
    command.args(["--recipe", recipe, "--precision", precision, "--steps", steps]);
    let output = command.output().map_err(|e| format!("{}: {e}", engine.name))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", engine.name, text.lines().last().unwrap_or("failed")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|l| l.starts_with('{')).ok_or("no JSON was printed")?;
    serde_json::from_str(line).map_err(|e| e.to_string())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or(f64::NAN)
}

/// One line of the table.
fn row(
    recipe: &str,
    precision: &str,
    name: &str,
    runs: &[Value],
    best_peer: Option<(f64, f64)>,
) -> String {
    let list = |key: &str| runs.iter().map(|r| number(r, key)).collect::<Vec<_>>();
    let seconds = median(list("seconds_median"));
    let spread = list("seconds_min").into_iter().fold(f64::INFINITY, f64::min)
        ..list("seconds_max").into_iter().fold(0.0, f64::max);
    let memory = median(list("peak_bytes"));
    let ratio = best_peer
        .map_or(String::new(), |(s, m)| format!("{:.2}x | {:.2}x", s / seconds, memory / m));
    format!(
        "| {recipe} | {precision} | {name} | {:.4} | {:.4}–{:.4} | {:.0} | {:.0} | {} |",
        seconds,
        spread.start,
        spread.end,
        median(list("tokens_per_second")),
        memory / 1e6,
        if ratio.is_empty() { " | ".into() } else { ratio },
    )
}

/// One recipe in one precision.
struct Job<'a> {
    recipe: &'a str,
    precision: &'a str,
    steps: &'a str,
    rounds: usize,
}

impl Job<'_> {
    /// Every engine in turn, `rounds` times; lines of the table.
    fn run(&self, python: Option<&str>, raw: &mut Vec<Value>) -> String {
        let (recipe, precision) = (self.recipe, self.precision);
        let mut runs: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
        for round in 0..self.rounds {
            for (i, engine) in ENGINES.iter().enumerate() {
                if engine.mode.is_some() && python.is_none() {
                    continue;
                }
                let what = format!("round {round} {recipe} {precision} {}", engine.name);
                match measure(engine, recipe, precision, self.steps, python) {
                    Ok(run) => {
                        println!("{what}: {:.4} s/step", number(&run, "seconds_median"));
                        raw.push(run.clone());
                        runs.entry(i).or_default().push(run);
                    }
                    Err(e) => println!("{what}: not run: {e}"),
                }
            }
        }
        let middle = |r: &[Value], key: &str| median(r.iter().map(|x| number(x, key)).collect());
        let best_peer = runs
            .iter()
            .filter(|(i, _)| ENGINES[**i].mode.is_some())
            .map(|(_, r)| (middle(r, "seconds_median"), middle(r, "peak_bytes")))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let line = |(i, r): (&usize, &Vec<Value>)| {
            let against = best_peer.filter(|_| ENGINES[*i].mode.is_none());
            row(recipe, precision, ENGINES[*i].name, r, against) + "\n"
        };
        runs.iter().map(line).collect()
    }
}

/// Runs the comparison and prints (and saves) the table.
pub(crate) fn bench(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|a| a == "--help") {
        println!("{HELP}");
        return Ok(());
    }
    let list = |name: &str, default: &str| -> Vec<String> {
        option(arguments, name)
            .unwrap_or_else(|| default.into())
            .split(',')
            .map(Into::into)
            .collect()
    };
    let python = option(arguments, "--python");
    let rounds: usize = option(arguments, "--rounds")
        .map_or(Ok(3), |r| r.parse())
        .map_err(|_| "--rounds wants a number")?;
    let steps = option(arguments, "--steps").unwrap_or_else(|| "5".into());
    crate::run("cargo", &["build", "--release", "--package", "pellucid-cli"])?;
    let mut table = String::from(
        "| recipe | precision | engine | s/step (median) | min–max | tokens/s | peak MB | speed vs best PyTorch | memory vs it |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut raw = Vec::new();
    for recipe in list("--recipes", "tiny,nano,gpt2") {
        for precision in list("--precisions", "f32") {
            let job = Job { recipe: &recipe, precision: &precision, steps: &steps, rounds };
            table += &job.run(python.as_deref(), &mut raw);
        }
    }
    println!("\n{table}");
    if let Some(name) = option(arguments, "--save") {
        let folder = root().join("lab/runs");
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        std::fs::write(folder.join(format!("{name}.md")), &table).map_err(|e| e.to_string())?;
        let json = serde_json::to_string_pretty(&raw).map_err(|e| e.to_string())?;
        std::fs::write(folder.join(format!("{name}.json")), json + "\n")
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}
