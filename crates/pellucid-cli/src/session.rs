//! A training run from settings to outcome, watched.

use crate::out;
use crate::plan::{Planned, plan};
use crate::progress::Progress;
use pellucid::error::Result;
use pellucid::train::budget::Budget;
use pellucid::train::launch;
use pellucid::train::pretrain::Outcome;
use pellucid::train::run::RunConfig;
use pellucid::train::{log, plot};
use std::path::Path;

/// Trains as the settings say.
pub(crate) fn train(run: &RunConfig, quiet: bool) -> Result<Outcome> {
    launch::train(run, &mut Progress::new(run, quiet))
}

/// Plans the run and says what it would cost.
pub(crate) fn dry(run: &RunConfig) -> Result<()> {
    let Planned { config, graph, weights, .. } = plan(run)?;
    let positions = run.train.batch * run.time(&config);
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
