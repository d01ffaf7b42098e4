//! Memory, known before step 1: what the run will hold, against what the machine has left.

use super::run::{RecomputeKind, RunConfig};
use crate::error::{Error, Kind, Result};
use std::fmt;
use std::path::Path;

/// Bytes a run will hold at its peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// 4 N.
    pub weights: u64,
    /// 4 N.
    pub gradients: u64,
    /// 8 N: two moments.
    pub moments: u64,
    /// What the tape planned.
    pub activations: u64,
    /// Token ids, targets and losses of a batch.
    pub buffers: u64,
    /// What the machine has left, if it says so.
    pub available: Option<u64>,
}

impl Budget {
    /// For N = `parameters` (with padding), micro-batches of `positions` = B T, and planned activations.
    #[must_use]
    pub fn new(parameters: usize, positions: usize, activations: usize) -> Self {
        let n = 4 * parameters as u64;
        let buffers = 12 * positions as u64;
        let available = available_memory();
        let activations = activations as u64;
        Self { weights: n, gradients: n, moments: 2 * n, activations, buffers, available }
    }

    /// The whole.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.activations + self.buffers
    }

    /// Refuses a run that cannot fit. `resident` bytes are in memory already, so `available` does not count them.
    pub fn check(&self, run: &RunConfig, resident: u64) -> Result<()> {
        let Some(available) = self.available else { return Ok(()) };
        let room = available + resident;
        if self.total() <= room {
            return Ok(());
        }
        let message = format!(
            "the run needs {}, but the machine has {} left",
            bytes(self.total()),
            bytes(room)
        );
        let mut error = Error::new(Kind::Resource, "budget", message);
        for (name, value) in self.table() {
            error = error.fact(format!("{name}: {}", bytes(value)));
        }
        Err(error.hint(self.suggestion(run, room)))
    }

    /// Names and bytes, in the order of the data flow.
    #[must_use]
    pub fn table(&self) -> [(&'static str, u64); 5] {
        [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("activations", self.activations),
            ("buffers", self.buffers),
        ]
    }

    /// A smaller batch does not help: it goes through the layers in passes.
    fn suggestion(&self, run: &RunConfig, room: u64) -> String {
        let fixed = self.weights + self.gradients + self.moments;
        if fixed >= room {
            return "weights, gradients and moments alone do not fit: choose a smaller model.depth or model.width".into();
        }
        let mut ways: Vec<String> = Vec::new();
        match run.train.recompute {
            RecomputeKind::Nothing => ways.push("train.recompute = \"cheap\"".into()),
            RecomputeKind::Cheap => ways.push("train.recompute = \"blocks\"".into()),
            RecomputeKind::Blocks => {}
        }
        ways.push("a shorter train.time".into());
        ways.push("a smaller model".into());
        format!("try {}", ways.join(", or "))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.table() {
            write!(f, "{name} {}  ", bytes(value))?;
        }
        write!(f, "= {}", bytes(self.total()))?;
        match self.available {
            Some(available) => write!(f, " of {} left", bytes(available)),
            None => Ok(()),
        }
    }
}

/// `1536` as `1.5 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Bytes that this process may still take: the least of the machine's and its control group's. Linux only.
#[must_use]
pub fn available_memory() -> Option<u64> {
    let text = |path: &str| crate::files::read_text("budget", Path::new(path)).ok();
    let machine = text("/proc/meminfo").and_then(|t| meminfo(&t));
    let number = |path: &str| text(path).and_then(|t| t.trim().parse::<u64>().ok());
    let group = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(max, current)| {
            max.saturating_sub(current)
                + text("/sys/fs/cgroup/memory.stat").map_or(0, |t| inactive_file(&t))
        });
    match (machine, group) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|k| k * 1024)
}

/// File pages that the kernel gives back when asked.
fn inactive_file(text: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix("inactive_file "));
    line.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_cannot_fit_is_refused_with_ways_out() {
        let gib = 1u64 << 30;
        let budget = Budget {
            activations: 8 * gib,
            available: Some(4 * gib),
            ..Budget::new(1 << 26, 1024, 0)
        };
        let mut run = RunConfig::default();
        run.train.batch = Some(16);
        let error = budget.check(&run, 0).unwrap_err();
        assert_eq!(error.kind(), Kind::Resource);
        let text = error.to_string();
        for part in [
            "needs 9.0 GiB",
            "has 4.0 GiB left",
            "moments: 512.0 MiB",
            "a shorter train.time",
            "\"blocks\"",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        budget.check(&RunConfig::default(), 6 * gib).unwrap();
        let tiny = Budget { available: Some(gib / 2), ..budget };
        assert!(
            tiny.check(&RunConfig::default(), 0).unwrap_err().to_string().contains("model.depth")
        );
        Budget { available: None, ..budget }.check(&RunConfig::default(), 0).unwrap();
    }

    #[test]
    fn the_machine_says_what_it_has() {
        assert_eq!(meminfo("MemTotal: 5 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        if cfg!(target_os = "linux") {
            assert!(available_memory().unwrap() > 1 << 20);
        }
        assert_eq!(bytes(1536), "1.5 KiB");
    }
}
