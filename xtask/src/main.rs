//! Project automation: `cargo xtask <command>`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command-line tool.

mod bench;
mod size;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "cargo xtask <command>

  ci        everything CI runs: format, lints, tidy, tests
  tidy      who may use whom, file and function sizes, the furniture of each room
  size      lines per room
  mutants   feeds the deliberately wrong kernels to the harness and demands that each be caught
  golden    regenerates the golden files (needs a Python with torch and transformers: --python PATH)
  bench     ours against every peer present: training, decoding, prompts, attention, starts (--help)
  recurrent an LSTM against a Transformer of as many parameters, at several lengths (--help)
  seeds     one recipe in f32 and bf16 over several seeds: validation losses side by side (--help)
";

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_path_buf()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    println!("$ {program} {}", arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .status()
        .map_err(|e| format!("{program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {} failed", arguments.join(" "))) }
}

fn ci() -> Result<(), String> {
    run("cargo", &["fmt", "--all", "--check"])?;
    tidy::tidy()?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    run("cargo", &["test", "--workspace"])
}

fn golden(arguments: &[String]) -> Result<(), String> {
    let python = option(arguments, "--python").unwrap_or_else(|| "python3".into());
    let folder = root().join("crates/pellucid/tests/golden");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .filter_map(|f| f.ok().map(|f| f.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("make_")))
        .collect();
    scripts.sort();
    scripts.iter().try_for_each(|s| run(&python, &[&s.to_string_lossy()]))
}

/// The value after `name`.
fn option(arguments: &[String], name: &str) -> Option<String> {
    arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("ci") => ci(),
        Some("tidy") => tidy::tidy(),
        Some("size") => size::size(),
        Some("mutants") => run("cargo", &["test", "--package", "pellucid", "--lib", "ops::"]),
        Some("golden") => golden(&arguments[1..]),
        Some("bench") => bench::bench(&arguments[1..]),
        Some("recurrent") => bench::recurrent(&arguments[1..]),
        Some("seeds") => bench::seeds(&arguments[1..]),
        _ => {
            print!("{HELP}");
            return ExitCode::from(u8::from(!arguments.is_empty()) * 2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
