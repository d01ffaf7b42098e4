//! What the command prints: results to stdout, everything about the work to stderr.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pellucid::error::{Error, Kind, Result};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static PIPE_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether the reader of stdout went away.
pub(crate) fn pipe_closed() -> bool {
    PIPE_CLOSED.load(Ordering::Relaxed)
}

/// Writes to stdout and flushes. A closed pipe is an `Interrupted` error, which ends the command in silence.
pub(crate) fn write(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| {
        if e.kind() == io::ErrorKind::BrokenPipe {
            PIPE_CLOSED.store(true, Ordering::Relaxed);
            return Error::new(Kind::Interrupted, "print", "the reader closed the pipe");
        }
        Error::new(Kind::Io, "print", format!("stdout: {e}"))
            .hint("check where the output goes: a full disk, a closed terminal")
    })
}

/// A line to stdout.
pub(crate) fn line(text: impl AsRef<str>) -> Result<()> {
    write(&format!("{}\n", text.as_ref()))
}

/// One JSON value on one line.
pub(crate) fn json(value: &serde_json::Value) -> Result<()> {
    line(value.to_string())
}

/// A line to stderr; nobody is told if nobody listens.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A line to stderr about the work, only where a person watches.
pub(crate) fn note(text: &str) {
    if io::stderr().is_terminal() {
        complain(text);
    }
}

/// Invites a person to write a line.
pub(crate) fn ask(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// A progress bar for long work, only where a person watches.
pub(crate) fn bar(total: usize, what: &'static str) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(4);
    let bar = ProgressBar::with_draw_target(Some(total as u64), target);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} · {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(what)
}

/// As [`bar`], of bytes that come from elsewhere.
#[cfg(feature = "hub")]
pub(crate) fn byte_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(4));
    let style = "{bar:30} {bytes}/{total_bytes} {msg} · {binary_bytes_per_sec}";
    let style = ProgressStyle::with_template(style);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// 1234567 as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// 1234567 as `1.23 M`: three digits and a power of a thousand.
pub(crate) fn short(x: f64) -> String {
    let (mut value, mut unit) = (x, "");
    for next in ["k", "M", "G", "T", "P"] {
        if value.abs() < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let digits = if value.abs() >= 99.95 {
        0
    } else if value.abs() >= 9.995 {
        1
    } else {
        2
    };
    if unit.is_empty() && value.fract() == 0.0 {
        return format!("{value}");
    }
    format!("{value:.digits$}{}{unit}", if unit.is_empty() { "" } else { " " })
}

/// Bytes as `1.5 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Seconds as `1h 02m`, `3m 07s` or `4.2s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        3600.. => format!("{}h {:02}m", whole / 3600, whole % 3600 / 60),
        60.. => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{:.1}s", seconds.max(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(short(1_234_567.0), "1.23 M");
        assert_eq!(short(999_600.0), "1.00 M");
        assert_eq!(short(512.0), "512");
        assert_eq!(short(45_300.0), "45.3 k");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(duration(3725.0), "1h 02m");
        assert_eq!(duration(187.2), "3m 07s");
        assert_eq!(duration(4.23), "4.2s");
    }
}
