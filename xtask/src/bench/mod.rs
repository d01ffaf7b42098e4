//! `cargo xtask bench`: ours against every peer present, in turn, on this machine; tables and raw runs.

mod candle;
mod engine;
mod kinds;
mod machine;
mod options;
mod recurrent;
mod recurrent_plot;
mod seeds;
mod table;
mod turns;

pub(crate) use recurrent::recurrent;
pub(crate) use seeds::seeds;

use crate::root;
use options::Options;
use serde_json::Value;
use std::path::Path;

const HELP: &str = "cargo xtask bench [KIND ...] [options]      kinds; all when none is named:

  train       a training step: forward, backward, clip, AdamW      --recipes, --precisions
  decode      one token at a time, batch 1, GPT-2's 124M shape     --weights
  prompt      512 tokens at once, the same shape                   --precisions
  attention   forward and backward, head width 64                  --lengths, --precisions
  start       from the start of a process to the first token

peers
  --python PATH       a Python with torch and transformers; without it no PyTorch runs
  --peers LIST        of torch, candle, llama.cpp [torch,llama.cpp]; candle is built first (minutes)
  --gguf FILE         124M weights for llama.cpp, whose llama-bench must be on the PATH
  --model FOLDER      for `start` [random weights, made once with --python]

what runs
  --recipes LIST      of tiny, nano, gpt2; bert-mini; transformer-tiny, transformer-iwslt
  --precisions LIST   of f32, bf16
  --weights LIST      of f32, bf16, int8, int4
  --lengths LIST      T of attention [1024,2048,4096,8192,16384,32768]
  --rounds N          [2] each round runs every engine once, a process of its own, in turn
  --steps N           timed steps of a process [3; tiny 30, transformer-tiny 15, bert-mini 5]
  --dropout P         of bert-mini, transformer-tiny and -iwslt [as in the presets: 0.1 and 0.3]
  --tokens N          timed tokens when decoding [48]
  --limit SECONDS     of one process [240]
  --pellucid FILE     this binary of ours; nothing is built
  --quick             one round, fewer steps, tiny, gpt2 and transformer-tiny, T up to 4096

where it goes
  --name NAME         lab/runs/NAME [today's date and this machine]
  --add               keeps the runs that lie there and adds to them

Writes KIND.json (every run) and KIND.md (the table) there, and machine.json. A peer that fails or is missing is named with
the reason, and the rest runs. Speeds above 1x are ours; so are losses: they are printed the same way.
";

/// Runs, prints and saves.
pub(crate) fn bench(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|a| a == "--help" || a == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let mut options = Options::parse(arguments)?;
    if options.pellucid.is_none() {
        crate::run("cargo", &["build", "--release", "--package", "pellucid-cli"])?;
    }
    if options.peers.iter().any(|p| p == "candle")
        && let Err(reason) = candle::build()
    {
        println!("candle: not built: {reason}");
        options.no_candle = Some(reason);
    }
    let machine = machine::machine(&options)?;
    let name = options.name.clone().unwrap_or_else(|| machine::name(&machine));
    let folder = root().join("lab/runs").join(&name);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    write(&folder.join("machine.json"), &pretty(&machine))?;
    for kind in &options.kinds {
        let raw = folder.join(format!("{kind}.json"));
        let mut records = if options.add { read(&raw)? } else { vec![] };
        for job in kinds::jobs(kind, &options)? {
            turns::run(&job, &options, &mut records);
            // After each case, so that what ran is not lost.
            write(&raw, &pretty(&Value::Array(records.clone())))?;
        }
        let table = table::table(kind, &records, &machine);
        write(&folder.join(format!("{kind}.md")), &table)?;
        println!("\n{table}");
    }
    println!("written to lab/runs/{name}");
    Ok(())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn read(path: &Path) -> Result<Vec<Value>, String> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let error = |e: String| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| error(e.to_string()))
}
