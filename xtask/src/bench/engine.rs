//! One engine as a process: what is started, how long it may run, what it says, how much memory it held.

use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How an engine reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The last line that is a JSON object, with the keys of `pellucid bench`.
    Json,
    /// An array of `llama-bench -o json`.
    LlamaBench,
    /// `lab/peers/cold_start.py`.
    ColdStart,
    /// Nothing: the time until the first byte is what counts.
    FirstByte,
}

/// An engine that can run a job, or the reason why it cannot.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) name: &'static str,
    pub(super) ours: bool,
    pub(super) command: Result<(PathBuf, Vec<String>), String>,
    pub(super) output: Output,
}

/// What a process left behind.
pub(super) struct Ran {
    pub(super) text: String,
    errors: String,
    first_byte: Option<f64>,
    pub(super) peak_bytes: Option<u64>,
    success: bool,
    timed_out: bool,
}

impl Ran {
    /// Itself, unless it failed or took longer than `limit` seconds: then the line that says why.
    pub(super) fn well(self, limit: u64) -> Result<Self, String> {
        if self.timed_out {
            return Err(format!("did not end within {limit} s (--limit)"));
        }
        if self.success {
            return Ok(self);
        }
        let lines = || self.errors.lines().filter(|l| !l.trim().is_empty());
        // Ours ends with a hint; the error is what starts with "error".
        let line = lines().find(|l| l.starts_with("error")).or_else(|| lines().next_back());
        Err(line.unwrap_or("failed without a word").trim().to_string())
    }
}

impl Engine {
    /// Runs once; numbers in the keys of `pellucid bench`, or the last line of what went wrong.
    pub(super) fn run(&self, limit: u64) -> Result<Value, String> {
        let (program, arguments) = self.command.as_ref().map_err(Clone::clone)?;
        if self.output == Output::FirstByte {
            // Files into the page cache, as the peer's script does.
            let _ = start(Command::new(program).args(arguments), limit);
        }
        let ran = start(Command::new(program).args(arguments), limit)
            .map_err(|e| format!("{}: {e}", program.display()))?
            .well(limit)?;
        let mut value = self.numbers(&ran)?;
        if value["peak_bytes"].as_u64().is_none() {
            value["peak_bytes"] = json!(ran.peak_bytes);
        }
        Ok(value)
    }

    fn numbers(&self, ran: &Ran) -> Result<Value, String> {
        let object = || {
            let line = ran.text.lines().rev().find(|l| l.starts_with('{'));
            let line = line.ok_or("no line of JSON was printed")?;
            serde_json::from_str::<Value>(line).map_err(|e| format!("its JSON: {e}"))
        };
        match self.output {
            Output::Json => {
                let value = object()?;
                match value["seconds_median"].as_f64() {
                    Some(s) if s > 0.0 => Ok(value),
                    _ => Err("its JSON has no seconds_median".into()),
                }
            }
            Output::ColdStart => {
                let value = object()?;
                let ms = |key: &str| value["first_token_ms"][key].as_f64().map(|ms| ms / 1e3);
                let median = ms("median").ok_or("its JSON has no first_token_ms")?;
                Ok(json!({ "seconds_median": median, "seconds_min": ms("least"),
                    "seconds_max": ms("most") }))
            }
            Output::FirstByte => {
                let first = ran.first_byte.ok_or("nothing was printed")?;
                Ok(json!({ "seconds_median": first, "seconds_min": first, "seconds_max": first }))
            }
            Output::LlamaBench => llama(&ran.text),
        }
    }
}

/// `llama-bench -o json`: nanoseconds of each repetition, and how many tokens each had.
fn llama(text: &str) -> Result<Value, String> {
    let from = text.find('[').ok_or("llama-bench printed no JSON")?;
    let value: Value = serde_json::from_str(text[from..].trim()).map_err(|e| e.to_string())?;
    let test = &value[0];
    let count = |key: &str| test[key].as_f64().unwrap_or(0.0);
    // A prompt is timed whole, decoding per token.
    let per = if count("n_gen") > 0.0 { count("n_gen") } else { 1.0 };
    let tokens = count("n_gen").max(count("n_prompt"));
    let mut seconds: Vec<f64> = test["samples_ns"]
        .as_array()
        .ok_or("llama-bench gave no samples_ns")?
        .iter()
        .filter_map(|ns| ns.as_f64().map(|ns| ns / 1e9 / per))
        .collect();
    seconds.sort_by(f64::total_cmp);
    let (Some(&first), Some(&last)) = (seconds.first(), seconds.last()) else {
        return Err("llama-bench timed nothing".into());
    };
    let median = seconds[seconds.len() / 2];
    Ok(json!({ "seconds_median": median, "seconds_min": first, "seconds_max": last,
        "tokens_per_second": tokens / per / median,
        "engine": test["build_commit"], "model": test["model_type"] }))
}

/// Reads to the end in a thread of its own, so that a full pipe never stops the child.
fn drain(
    mut from: impl Read + Send + 'static,
    start: Instant,
) -> JoinHandle<(String, Option<f64>)> {
    std::thread::spawn(move || {
        let (mut all, mut first, mut piece) = (vec![], None, [0; 4096]);
        while let Ok(n) = from.read(&mut piece)
            && n > 0
        {
            first.get_or_insert_with(|| start.elapsed().as_secs_f64());
            all.extend_from_slice(&piece[..n]);
        }
        (String::from_utf8_lossy(&all).into_owned(), first)
    })
}

pub(super) fn start(command: &mut Command, limit: u64) -> std::io::Result<Ran> {
    let start = Instant::now();
    let mut child = command
        .current_dir(crate::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let out = drain(child.stdout.take().expect("piped"), start);
    let err = drain(child.stderr.take().expect("piped"), start);
    let (success, timed_out, peak_bytes) = wait(&mut child, Duration::from_secs(limit), start)?;
    let (text, first_byte) = out.join().unwrap_or_default();
    let (errors, _) = err.join().unwrap_or_default();
    Ok(Ran { text, errors, first_byte, peak_bytes, success, timed_out })
}

/// Waits, looking at the memory of the process and its children now and then.
fn wait(
    child: &mut Child,
    limit: Duration,
    start: Instant,
) -> std::io::Result<(bool, bool, Option<u64>)> {
    let mut peak = None;
    loop {
        peak = peak.max(family_peak(child.id()));
        if let Some(status) = child.try_wait()? {
            return Ok((status.success(), false, peak));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok((false, true, peak));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The most memory that a process or a child of it ever held. Linux only.
fn family_peak(id: u32) -> Option<u64> {
    let own = || {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|k| k * 1024)
    };
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().filter_map(|c| family_peak(c.parse().ok()?)).chain(own()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, output: Output) -> Engine {
        let command = Ok(("sh".into(), vec!["-c".into(), script.into()]));
        Engine { name: "x", ours: false, command, output }
    }

    #[test]
    fn the_last_error_line_is_told_and_a_limit_ends_what_hangs() {
        let run = |script, limit| shell(script, Output::Json).run(limit);
        let error = run("echo one >&2; echo 'two: bad' >&2; exit 3", 9).unwrap_err();
        assert_eq!(error, "two: bad");
        let error = run("echo 'error: x' >&2; echo 'hint: y' >&2; exit 1", 9).unwrap_err();
        assert_eq!(error, "error: x");
        assert!(run("exec sleep 30", 1).unwrap_err().contains("within 1 s"));
        assert!(run("echo hello", 9).unwrap_err().contains("no line of JSON"));
        assert!(run("echo '{}'", 9).unwrap_err().contains("no seconds_median"));
        let ran = run("echo noise; echo '{\"seconds_median\": 2.5}'", 9).unwrap();
        assert_eq!(ran["seconds_median"], 2.5);
    }

    #[test]
    fn the_first_byte_is_timed() {
        let ran = shell("sleep 0.2; echo x; sleep 0.3", Output::FirstByte).run(9).unwrap();
        let first = ran["seconds_median"].as_f64().unwrap();
        assert!((0.2..0.45).contains(&first), "{first}");
    }

    #[test]
    fn llama_bench_is_read_per_token_and_per_prompt() {
        let text = r#"[{"n_prompt":0,"n_gen":10,"samples_ns":[20000000,10000000,30000000]}]"#;
        assert_eq!(llama(text).unwrap()["seconds_median"], 0.002);
        let text = r#"[{"n_prompt":512,"n_gen":0,"samples_ns":[500000000]}]"#;
        assert_eq!(llama(text).unwrap()["tokens_per_second"], 1024.0);
    }
}
