//! A training run from settings to outcome, watched.

use crate::gauges::Gauger;
use crate::out;
use crate::plan::{Planned, plan, pool};
use crate::progress::Progress;
use pellucid::error::Result;
use pellucid::train::budget::Budget;
use pellucid::train::launch;
use pellucid::train::pretrain::{Event, Observer, Outcome, Reason};
use pellucid::train::run::{RunConfig, TaskKind};
use pellucid::train::{log, plot};
use serde_json::json;
use std::path::Path;

/// Trains as the settings say.
pub(crate) fn train(run: &RunConfig, quiet: bool) -> Result<Outcome> {
    launch::train(run, &mut Progress::new(run, quiet))
}

/// As [`train`], and measures the inside of each checkpoint.
pub(crate) fn train_gauged(run: &RunConfig, quiet: bool) -> Result<Outcome> {
    let mut progress = Progress::new(run, quiet);
    let mut gauger = Gauger::new(pool(run.train.threads), run);
    launch::train(run, &mut |event: &Event<'_>| {
        if let Event::Saved { step, folder: whole, .. } = event {
            gauger.after(*step, whole);
        }
        progress.on(event)
    })
}

/// Plans the run and says what it would cost.
pub(crate) fn dry(run: &RunConfig) -> Result<()> {
    let Planned { config, graph, weights, .. } = plan(run)?;
    let positions = run.batch(&config) * run.time(&config) * run.train.accumulation;
    let budget = Budget::new(weights.data().len(), positions, graph.activation_bytes());
    let flops = (graph.flops_per_step() * run.train.accumulation as u64) as f64;
    out::line(format!("{} parameters", out::count(weights.count() as u64)))?;
    out::line(format!("memory: {budget}"))?;
    out::line(format!("{}FLOPs per update, {} updates", out::short(flops), run.train.steps))?;
    budget.check(run, budget.weights + budget.activations)
}

/// The loss curve in the terminal; where its picture is.
pub(crate) fn curve(folder: &Path) -> Result<()> {
    let lines = log::read(&folder.join("metrics.jsonl"))?;
    let points: Vec<(f64, f64)> =
        lines.iter().filter_map(|l| Some((l.step as f64, l.loss?))).collect();
    out::line(plot::ascii_curve(&points, 72, 12).trim_end())?;
    let svg = folder.join("curve.svg");
    if svg.is_file() {
        out::line(format!("training loss per step; as a picture: {}", svg.display()))?;
    }
    Ok(())
}

/// For scripts.
pub(crate) fn summary(outcome: &Outcome) -> serde_json::Value {
    json!({
        "reason": reason(outcome.reason),
        "step": outcome.step,
        "loss": outcome.loss,
        "validation_loss": outcome.best.map(|b| b.0),
        "validation_step": outcome.best.map(|b| b.1),
        "folder": outcome.folder,
        "seconds": outcome.seconds,
    })
}

/// Why a run ended, for people and scripts.
fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Steps => "all steps done",
        Reason::NoImprovement => "no improvement",
        Reason::Asked => "stopped on request",
    }
}

/// For people: the curve, the losses, what to do next.
pub(crate) fn finish(run: &RunConfig, outcome: &Outcome) -> Result<()> {
    curve(Path::new(&run.checkpoint.folder))?;
    let best = outcome
        .best
        .map_or(String::new(), |(loss, step)| format!(", validation {loss:.4} at step {step}"));
    let loss = outcome.loss.map_or(String::new(), |l| format!(", loss {l:.4}"));
    let next = match run.data.task {
        TaskKind::Language | TaskKind::Instructions => ("generate", "\"…\""),
        TaskKind::Translation => ("translate", "\"…\""),
        TaskKind::Masked => ("embed", "\"…\""),
        TaskKind::Labels | TaskKind::Numbers => ("eval", "TABLE"),
        TaskKind::Tags => ("eval", "FILE"),
        TaskKind::Markov | TaskKind::Repeat | TaskKind::Sort | TaskKind::Modular => ("eval", ""),
    };
    out::line(format!(
        "{} at step {}{loss}{best}, {} of training\nmodel: {}\nnext:  pellucid {} {} {}",
        reason(outcome.reason),
        outcome.step,
        out::duration(outcome.seconds),
        outcome.folder.display(),
        next.0,
        run.checkpoint.folder,
        next.1
    ))
}
