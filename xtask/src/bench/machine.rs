//! The machine and the versions of everything that ran on it.

use super::kinds::on_path;
use super::options::Options;
use crate::root;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The first line a command prints, if it can.
fn first_line(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|l| l.trim().to_string())
}

/// What is in a file after `key`, such as `model name`.
fn field(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_string())
}

/// Everything a reader needs to judge the numbers.
pub(super) fn machine(o: &Options) -> Result<Value, String> {
    let mut machine = of(&o.binary())?;
    machine["peers"] = peers(o);
    Ok(machine)
}

/// The same of our binary alone.
pub(super) fn of(binary: &Path) -> Result<Value, String> {
    let output = Command::new(binary).args(["doctor", "--json"]).output();
    let output = output.map_err(|e| format!("pellucid doctor: {e}"))?;
    let doctor: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("pellucid doctor --json: {e}"))?;
    Ok(json!({
        "date": date(),
        "commit": first_line("git", &["describe", "--always", "--dirty"]),
        "processor": field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
        "architecture": std::env::consts::ARCH,
        "system": first_line("uname", &["-sr"]),
        "memory": field("/proc/meminfo", "MemTotal"),
        "rustc": first_line("rustc", &["-V"]),
        "doctor": doctor,
    }))
}

fn peers(o: &Options) -> Value {
    let code = "import torch, transformers; print('torch', torch.__version__, 'transformers', transformers.__version__)";
    let python = o.python.as_ref().map(|p| first_line(p, &["-c", code]));
    let lock = std::fs::read_to_string(root().join("lab/peers/candle/Cargo.lock"));
    let lock = lock.unwrap_or_default();
    let candle = lock
        .split_once("name = \"candle-core\"\nversion = \"")
        .and_then(|(_, rest)| rest.split_once('"').map(|(version, _)| version.to_string()));
    let found = |program: &str| {
        on_path(program).map(|p: std::path::PathBuf| {
            first_line(&p, &["--version"]).unwrap_or_else(|| name_of(&p))
        })
    };
    json!({
        "python": python.flatten(),
        "candle": candle.filter(|_| o.wants("candle")),
        "llama-bench": found("llama-bench"),
        "llama-cli": found("llama-cli"),
    })
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `2026-11-24-xeon-amx-2core`.
pub(super) fn name(machine: &Value) -> String {
    let word = |text: &str| text.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "");
    let processor = machine["processor"].as_str().unwrap_or("").to_string();
    let dull = ["intel", "amd", "r", "tm", "cpu", "processor", "with", "gen", "core"];
    let model: Vec<String> = processor
        .replace("(R)", " ")
        .replace("(TM)", " ")
        .split_whitespace()
        .map(word)
        .filter(|w| !w.is_empty() && !dull.contains(&w.as_str()))
        .take(2)
        .collect();
    let doctor = &machine["doctor"];
    let parts = [
        machine["date"].as_str().unwrap_or("undated").to_string(),
        model.join("-"),
        word(doctor["used"].as_str().unwrap_or("")),
        format!("{}core", doctor["cores"]),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    parts.join("-")
}

/// Today in UTC, as `2026-11-24`.
fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    civil(seconds / 86400)
}

/// Days since 1970 as a date of the Gregorian calendar, year by year and month by month.
fn civil(mut days: u64) -> String {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_names() {
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(11_016), "2000-02-29");
        assert_eq!(civil(20_781), "2026-11-24");
        let machine = json!({ "date": "2026-11-24", "processor": "Intel(R) Xeon(R) Processor",
            "doctor": { "used": "AMX", "cores": 2 } });
        assert_eq!(name(&machine), "2026-11-24-xeon-amx-2core");
    }
}
