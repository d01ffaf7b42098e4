//! A B A B: every engine once, then every engine again.

use super::engine::Engine;
use super::options::Options;
use serde_json::{Value, json};

/// What all engines of one line of work do.
pub(super) struct Job {
    /// `nano`, `T=4096 H=12`.
    pub(super) case: String,
    /// `f32`, `int4`; picks the roof, too.
    pub(super) precision: String,
    pub(super) engines: Vec<Engine>,
}

/// Runs a job; one record for each run, and one for each engine that could not.
pub(super) fn run(job: &Job, options: &Options, records: &mut Vec<Value>) {
    let mut out: Vec<&str> = vec![];
    for round in 1..=options.rounds {
        for engine in &job.engines {
            if out.contains(&engine.name) {
                continue;
            }
            let (name, what) = (engine.name, format!("{} {}", job.case, job.precision));
            let result = engine.run(options.limit);
            let mut record = json!({ "case": job.case, "precision": job.precision,
                "engine": name, "ours": engine.ours, "round": round });
            match result {
                Ok(run) => {
                    let seconds = run["seconds_median"].as_f64().unwrap_or(f64::NAN);
                    println!("{round}/{} {what:<18} {name:<16} {seconds:.5} s", options.rounds);
                    record["run"] = run;
                }
                Err(reason) => {
                    println!("{round}/{} {what:<18} {name:<16} not run: {reason}", options.rounds);
                    record["not_run"] = json!(reason);
                    out.push(name);
                }
            }
            records.push(record);
        }
    }
}
