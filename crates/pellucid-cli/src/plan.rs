//! How many threads, and how many steps fit into a time.

use crate::assemble::{Assembled, Graph, assemble};
use pellucid::backend::cpu::pool::Pool;
use pellucid::backend::settings::Settings;
use pellucid::error::Result;
use pellucid::model::weights::Weights;
use pellucid::train::optimizer::AdamW;
use pellucid::train::run::RunConfig;
use pellucid::train::schedule::Schedule;
use pellucid::train::step::Stepper;

/// `threads` workers; 0 asks `PELLUCID_THREADS`, then takes all cores.
pub(crate) fn pool(threads: usize) -> Pool {
    Pool::new(if threads > 0 { threads } else { Settings::get().threads.unwrap_or(0) })
}

/// Steps that take about `seconds`, from a few on weights that are thrown away.
pub(crate) fn steps_in(run: &RunConfig, seconds: f64) -> Result<u64> {
    let Assembled { config, data, .. } = assemble(run)?;
    let pool = pool(run.train.threads);
    let mut graph = Graph::new(run, &config, pool.threads())?;
    let mut weights = Weights::init(&config, run.train.seed);
    let mut optimizer = AdamW::new(weights.specs(), &run.optimizer)?;
    let schedule = Schedule::new(&run.resolved(&config));
    let t = &run.train;
    let positions = t.batch * run.time(&config);
    let mut stepper =
        Stepper::new(weights.data().len(), positions, t.accumulation, t.seed, run.optimizer.clip);
    let mut fastest = f64::INFINITY;
    for step in 0..8 {
        let rules = (&mut optimizer, &schedule);
        let report = stepper.step(&pool, &mut graph, &data, &mut weights, rules, step)?;
        fastest = fastest.min(report.seconds);
    }
    // A tenth goes to evaluations and to slower steps.
    Ok(((0.9 * seconds / fastest) as u64).clamp(20, 100_000))
}
