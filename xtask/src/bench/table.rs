//! From raw runs to a table that says who won, by how much, and who did not run and why.

use serde_json::Value;

/// All runs of one engine in one case.
struct Row<'a> {
    case: &'a str,
    precision: &'a str,
    engine: &'a str,
    ours: bool,
    runs: Vec<&'a Value>,
    not_run: Option<&'a str>,
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

impl Row<'_> {
    fn list(&self, key: &str) -> Vec<f64> {
        self.runs.iter().filter_map(|r| r[key].as_f64()).collect()
    }
    fn middle(&self, key: &str) -> f64 {
        median(self.list(key))
    }
    fn seconds(&self) -> f64 {
        self.middle("seconds_median")
    }
    fn same_work(&self, other: &Self) -> bool {
        self.case == other.case && self.precision == other.precision
    }
}

/// Rows in the order in which they first ran.
fn rows(records: &[Value]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = vec![];
    for record in records {
        let text = |key: &str| record[key].as_str().unwrap_or("?");
        let (case, precision, engine) = (text("case"), text("precision"), text("engine"));
        let at = rows
            .iter()
            .position(|r| (r.case, r.precision, r.engine) == (case, precision, engine))
            .unwrap_or_else(|| {
                let ours = record["ours"] == true;
                rows.push(Row { case, precision, engine, ours, runs: vec![], not_run: None });
                rows.len() - 1
            });
        match record.get("run") {
            Some(run) => rows[at].runs.push(run),
            None => rows[at].not_run = record["not_run"].as_str(),
        }
    }
    rows
}

/// What the share of the peak means in each kind, and its roof.
fn roof(kind: &str, machine: &Value, precision: &str) -> Option<f64> {
    let doctor = &machine["doctor"];
    match kind {
        "decode" => doctor["bytes_per_second"]["read"].as_f64(),
        "start" => None,
        _ => doctor["flops"][precision].as_f64(),
    }
}

/// Work of one run in the roof's unit, counted by us for everybody: it is the same work.
fn work(kind: &str, rows: &[Row<'_>], row: &Row<'_>) -> Option<f64> {
    let key = match kind {
        "train" => "flops_per_step",
        "decode" => "bytes_per_token",
        _ => "flops",
    };
    let ours = rows.iter().find(|r| r.ours && r.same_work(row))?;
    ours.list(key).first().copied()
}

fn faster(ratio: f64) -> String {
    if ratio >= 1.0 { format!("{ratio:.2}x faster") } else { format!("{ratio:.2}x: slower") }
}

/// The fastest peer among rows.
fn best<'a, 'b>(rows: impl Iterator<Item = &'a Row<'b>>) -> Option<&'a Row<'b>>
where
    'b: 'a,
{
    rows.filter(|r| !r.ours && !r.runs.is_empty())
        .min_by(|a, b| a.seconds().total_cmp(&b.seconds()))
}

/// The verdict on one of our rows: (speed, memory, words).
fn verdict(rows: &[Row<'_>], row: &Row<'_>) -> (String, String, String) {
    let nothing = String::new;
    if !row.ours || row.runs.is_empty() {
        return (nothing(), nothing(), nothing());
    }
    let memory = |peer: &Row<'_>| {
        let ratio = row.middle("peak_bytes") / peer.middle("peak_bytes");
        if ratio.is_finite() { format!("{ratio:.2}x") } else { nothing() }
    };
    if let Some(peer) = best(rows.iter().filter(|r| r.same_work(row))) {
        let ratio = peer.seconds() / row.seconds();
        let words = format!("{} than {}", faster(ratio), peer.engine);
        return (format!("{ratio:.2}x"), memory(peer), words);
    }
    let other = best(rows.iter().filter(|r| r.case == row.case));
    let words = other.map_or("no peer ran".into(), |peer| {
        let ratio = faster(peer.seconds() / row.seconds());
        format!("no peer in {}; {ratio} than {} in {}", row.precision, peer.engine, peer.precision)
    });
    (nothing(), nothing(), words)
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{:.3} ms", 1e3 * s),
        s if s < 1.0 => format!("{:.1} ms", 1e3 * s),
        s => format!("{s:.3} s"),
    }
}

fn line(kind: &str, rows: &[Row<'_>], row: &Row<'_>, machine: &Value) -> String {
    let head = format!("| {} | {} | {} |", row.case, row.precision, row.engine);
    if row.runs.is_empty() {
        return format!("{head} | | | | | | | not run: {} |\n", row.not_run.unwrap_or("?"));
    }
    let low = row.list("seconds_min").into_iter().fold(f64::INFINITY, f64::min);
    let high = row.list("seconds_max").into_iter().fold(0.0, f64::max);
    let or_nothing = |x: f64, text: String| if x.is_finite() { text } else { String::new() };
    let rate = row.middle("tokens_per_second");
    let peak = row.middle("peak_bytes");
    // Where we measured how fast as many bytes can be read (a large cache may hold them), that is the roof.
    let same = rows.iter().find(|r| r.ours && r.same_work(row));
    let same = same.and_then(|r| r.list("read_same_bytes_per_second").first().copied());
    let share = same
        .or_else(|| roof(kind, machine, row.precision))
        .zip(work(kind, rows, row))
        .map_or(f64::NAN, |(roof, work)| 100.0 * work / row.seconds() / roof);
    let (speed, memory, mut words) = verdict(rows, row);
    if let Some(reason) = row.not_run {
        words += &format!(" (a later run failed: {reason})");
    }
    format!(
        "{head} {} | {}–{} | {} | {} | {} | {speed} | {memory} | {words} |\n",
        time(row.seconds()),
        time(low),
        time(high),
        or_nothing(rate, format!("{rate:.0}")),
        or_nothing(peak, format!("{:.0}", peak / 1e6)),
        or_nothing(share, format!("{share:.0} %")),
    )
}

/// The table of a kind in Markdown.
pub(super) fn table(kind: &str, records: &[Value], machine: &Value) -> String {
    let (what, share) = match kind {
        "train" => ("a training step", "of the matrix peak on registers"),
        "decode" => ("one token at batch 1", "of the speed at which the bytes we read can be read"),
        "prompt" => ("a prompt", "of the matrix peak on registers"),
        "attention" => ("attention, forward and backward", "of the matrix peak on registers"),
        _ => ("the start of a process to its first token, files in the page cache", "(none)"),
    };
    let text = |value: &Value| value.as_str().unwrap_or("?").to_string();
    let rows = rows(records);
    let lines: String = rows.iter().map(|row| line(kind, &rows, row, machine)).collect();
    format!(
        "# {kind}: {what}\n\n{}, {} cores, {}; {}; commit {}. Medians of every round; min–max over all runs. Share: {share}, \
         the same work for every engine. Speed and memory against the fastest peer in the same case and precision.\n\n\
         | case | precision | engine | time (median) | min–max | tokens/s | peak MB | share of peak | speed | memory | result |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n{lines}",
        text(&machine["processor"]),
        machine["doctor"]["cores"],
        text(&machine["doctor"]["used"]),
        text(&machine["date"]),
        text(&machine["commit"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(engine: &str, precision: &str, seconds: f64) -> Value {
        json!({ "case": "nano", "precision": precision, "engine": engine,
            "ours": engine == "pellucid", "run": { "seconds_median": seconds,
            "seconds_min": seconds, "seconds_max": seconds, "peak_bytes": 100.0 * seconds,
            "flops_per_step": 50.0 } })
    }

    #[test]
    fn wins_and_losses_are_said_alike() {
        let machine = json!({ "doctor": { "flops": { "f32": 100.0, "bf16": 400.0 } } });
        let records = [
            record("pellucid", "f32", 1.0),
            record("torch eager", "f32", 3.0),
            record("torch compiled", "f32", 2.0),
            record("pellucid", "f32", 1.0),
            record("pellucid", "bf16", 4.0),
            record("torch eager", "bf16", 2.0),
            record("pellucid", "int4", 0.5),
            json!({ "case": "nano", "precision": "int4", "engine": "llama.cpp",
                "ours": false, "not_run": "llama-bench is not on the PATH" }),
        ];
        let table = table("train", &records, &machine);
        let has = |text: &str| assert!(table.contains(text), "{text}\n{table}");
        has("| 50 % | 2.00x | 0.50x | 2.00x faster than torch compiled |");
        has("| 0.50x | 2.00x | 0.50x: slower than torch eager |");
        has("no peer in int4; 4.00x faster than torch compiled in f32");
        has("not run: llama-bench is not on the PATH");
        assert_eq!(table.matches("| pellucid |").count(), 3);
    }
}
