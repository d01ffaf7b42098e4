//! A training run from settings to outcome, watched.

use crate::assemble::{Graph, assemble, precision};
use crate::measure;
use crate::out;
use crate::plan;
use crate::progress::Progress;
use Budget;
use pellucid::error::Result;
use pellucid::model::weights::Weights;
use pellucid::train::pretrain::{Job, Outcome, pretrain};
use pellucid::train::run::RunConfig;
use pellucid::train::{log, plot};
use std::path::Path;

/// How much is said, and whether anything is done.
pub(crate) struct Watched {
    pub(crate) quiet: bool,
    pub(crate) dry: bool,
}

/// Trains as the settings say; `None` where it was only planned.
pub(crate) fn train(run: &RunConfig, watched: &Watched) -> Result<Option<Outcome>> {
    let assembled = assemble(run)?;
    let pool = plan::pool(run.train.threads);
    let mut graph = Graph::new(run, &assembled.config, pool.threads())?;
    let mut weights = Weights::init(&assembled.config, run.train.seed);
    let flops = (graph.0.flops_per_step() * run.train.accumulation as u64) as f64;
    if watched.dry {
        let positions = run.train.batch * run.time(&assembled.config);
        let planned = graph.0.activation_bytes();
        let budget = Budget::new(weights.data().len(), positions, planned);
        out::line(format!("{} parameters", out::count(weights.count() as u64)))?;
        out::line(format!("memory: {budget}"))?;
        return out::line(format!("{} FLOPs per update", out::short(flops))).map(|()| None);
    }
    let (train, held) = assembled.tokens;
    if !watched.quiet {
        let (train, held) = (out::short(train as f64), out::short(held as f64));
        out::complain(&format!("{train} tokens to train on, {held} held out"));
    }
    let peak =
        if watched.quiet { 0.0 } else { measure::peak(&pool, precision(run.train.precision)) };
    let job = Job {
        run,
        config: &assembled.config,
        weights: &mut weights,
        graph: &mut graph,
        data: &assembled.data,
        store: &assembled.files,
        pool: &pool,
    };
    let mut progress = Progress::new(flops, peak, watched.quiet);
    pretrain(job, &mut progress).map(Some)
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
