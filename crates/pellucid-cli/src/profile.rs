//! Where the time of a step goes: every operation against what this computer could do at most.

use crate::out;
use pellucid::autograd::Timing;
use pellucid::backend::cpu::peak::Peak;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What this computer can do at most.
pub(crate) struct Roof {
    /// FLOP/s of matrix products in the step's precision.
    flops: f64,
    /// Bytes/s to and from memory.
    bytes: f64,
}

impl Roof {
    /// Measures memory; `flops` was measured.
    pub(crate) fn measure(pool: &Pool, flops: f64) -> Result<Self> {
        let peak = Peak::measure(pool)?;
        Ok(Self { flops, bytes: 1e9 * peak.update_gbps.max(peak.triad_gbps).max(peak.read_gbps) })
    }
}

/// Sums of one operation in one direction.
#[derive(Clone, Copy, Default)]
struct Row {
    seconds: f64,
    flops: u64,
    bytes: u64,
    calls: usize,
}

impl Row {
    /// The time that the roofs allow over the time it took. Above 1: operands came from a cache.
    fn share(&self, roof: &Roof) -> f64 {
        (self.flops as f64 / roof.flops).max(self.bytes as f64 / roof.bytes) / self.seconds
    }

    /// What the roof is made of.
    fn bound(&self, roof: &Roof) -> &'static str {
        let memory = self.bytes as f64 / roof.bytes > self.flops as f64 / roof.flops;
        if memory { "memory" } else { "products" }
    }
}

/// Everything recorded of some steps, summed.
#[derive(Default)]
pub(crate) struct Rows {
    rows: BTreeMap<(&'static str, &'static str), Row>,
    wall: f64,
    steps: usize,
}

impl Rows {
    /// A step took `seconds` in all.
    pub(crate) fn wall(&mut self, seconds: f64) {
        self.wall += seconds;
        self.steps += 1;
    }

    /// What the session recorded in a step, whether it ran as one micro-batch or several.
    pub(crate) fn operations(&mut self, timings: &[Timing]) {
        for t in timings {
            self.add((t.op, t.action), t.time.as_secs_f64(), (t.flops, t.bytes));
        }
    }

    /// A part of a step outside the session.
    pub(crate) fn part(&mut self, name: &'static str, seconds: f64, cost: (u64, u64)) {
        self.add((name, ""), seconds, cost);
    }

    fn add(&mut self, key: (&'static str, &'static str), seconds: f64, (flops, bytes): (u64, u64)) {
        let row = self.rows.entry(key).or_default();
        row.seconds += seconds;
        row.flops += flops;
        row.bytes += bytes;
        row.calls += 1;
    }

    fn sum(&self) -> Row {
        self.rows.values().fold(Row::default(), |a, b| Row {
            seconds: a.seconds + b.seconds,
            flops: a.flops + b.flops,
            bytes: a.bytes + b.bytes,
            calls: a.calls + b.calls,
        })
    }

    /// Share of the wall time that has a name.
    pub(crate) fn accounted(&self) -> f64 {
        self.sum().seconds / self.wall
    }

    /// The longest first.
    fn sorted(&self) -> Vec<((&'static str, &'static str), Row)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(k, r)| (*k, *r)).collect();
        rows.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        rows
    }

    /// One object for each row, of one step.
    pub(crate) fn json(&self, roof: &Roof) -> Value {
        let steps = self.steps.max(1);
        let object = |((op, action), row): &((&str, &str), Row)| {
            json!({
                "op": op, "action": action, "calls": row.calls / steps,
                "seconds": row.seconds / steps as f64,
                "share_of_step": row.seconds / self.wall,
                "flops": row.flops / steps as u64, "bytes": row.bytes / steps as u64,
                "bound": row.bound(roof), "share_of_roofline": row.share(roof),
            })
        };
        Value::Array(self.sorted().iter().map(object).collect())
    }

    /// The table of a mean step.
    pub(crate) fn print(&self, roof: &Roof) -> Result<()> {
        let steps = self.steps.max(1);
        out::line(format!(
            "\nmean of {steps} steps; roofline: {}FLOP/s of matrix products, {}B/s of memory\n\
             {:<18} {:<10} {:>5} {:>9} {:>6} {:>9} {:>9} {:>9} {:>9}  {:<8} {:>8}",
            out::short(roof.flops),
            out::short(roof.bytes),
            "operation",
            "",
            "calls",
            "ms",
            "wall",
            "FLOP",
            "bytes",
            "FLOP/s",
            "B/s",
            "bound by",
            "roofline"
        ))?;
        let line = |name: &str, action: &str, row: Row| {
            let (seconds, n) = (row.seconds / steps as f64, steps as f64);
            let share = 100.0 * row.share(roof);
            out::line(format!(
                "{name:<18} {action:<10} {:>5} {:>9.3} {:>5.1}% {:>9} {:>9} {:>9} {:>9}  {:<8} {share:>7.0}%",
                row.calls / steps,
                1e3 * seconds,
                100.0 * row.seconds / self.wall,
                out::short((row.flops as f64 / n).round()),
                out::short((row.bytes as f64 / n).round()),
                out::short((row.flops as f64 / row.seconds).round()),
                out::short((row.bytes as f64 / row.seconds).round()),
                row.bound(roof),
            ))
        };
        for ((op, action), row) in self.sorted() {
            line(op, action, row)?;
        }
        let sum = self.sum();
        let other = (self.wall - sum.seconds) / steps as f64;
        line("sum", "", sum)?;
        out::line(format!(
            "{:<18} {:<10} {:>5} {:>9.3} {:>5.1}%   batch copied, operands cut, loss read\n\
             {:<18} {:<10} {:>5} {:>9.3} {:>5.1}%   {:.1}% of the time has a name",
            "other",
            "",
            "",
            1e3 * other,
            100.0 * (1.0 - self.accounted()),
            "wall",
            "",
            "",
            1e3 * self.wall / steps as f64,
            100.0,
            100.0 * self.accounted()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_add_up_and_the_nearer_roof_counts() {
        let roof = Roof { flops: 100.0, bytes: 10.0 };
        let mut rows = Rows::default();
        for _ in 0..2 {
            rows.wall(10.0);
            rows.part("a", 4.0, (200, 10));
            rows.part("a", 2.0, (100, 5));
            rows.part("b", 3.0, (0, 15));
        }
        assert!((rows.accounted() - 0.9).abs() < 1e-12);
        let (a, b) = (rows.rows[&("a", "")], rows.rows[&("b", "")]);
        assert_eq!((a.calls, a.flops, a.bytes), (4, 600, 30));
        assert!((a.share(&roof) - 0.5).abs() < 1e-12 && a.bound(&roof) == "products");
        assert!((b.share(&roof) - 0.5).abs() < 1e-12 && b.bound(&roof) == "memory");
        let json = rows.json(&roof);
        assert_eq!((json[0]["op"].as_str(), json[0]["flops"].as_u64()), (Some("a"), Some(300)));
    }
}
