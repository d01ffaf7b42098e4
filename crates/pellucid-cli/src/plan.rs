//! A run before its first step: threads, sizes, memory, and how many steps fit into a time.

use pellucid::backend::cpu::pool::Pool;
use pellucid::backend::settings::Settings;
use pellucid::error::Result;
use pellucid::model::config::Config;
use pellucid::model::train_graph::TrainGraph;
use pellucid::model::weights::Weights;
use pellucid::train::evaluate::Batches;
use pellucid::train::launch::{model_config, options};
use pellucid::train::optimizer::AdamW;
use pellucid::train::run::RunConfig;
use pellucid::train::schedule::Schedule;
use pellucid::train::step::Stepper;
use pellucid::train::tasks;

/// `threads`; 0 asks `PELLUCID_THREADS`, then (still 0) takes all cores.
pub(crate) fn threads(threads: usize) -> usize {
    if threads > 0 { threads } else { Settings::get().threads.unwrap_or(0) }
}

/// A pool of [`threads`] workers.
pub(crate) fn pool(threads: usize) -> Pool {
    Pool::new(self::threads(threads))
}

/// Everything of a run but the training.
pub(crate) struct Planned {
    pub(crate) config: Config,
    pub(crate) data: Box<dyn Batches>,
    pub(crate) graph: TrainGraph,
    pub(crate) weights: Weights,
    pub(crate) pool: Pool,
}

/// Reads the data and plans the memory.
pub(crate) fn plan(run: &RunConfig) -> Result<Planned> {
    run.validate()?;
    let task = tasks::open(run, &mut |_, _| Ok(()))?;
    let config = model_config(run, &*task)?;
    let data = task.batches(run, &config)?;
    let pool = pool(run.train.threads);
    let graph = TrainGraph::new(&config, options(run, &config, task.longest()), pool.threads())?;
    let weights = Weights::init(&config, run.train.seed);
    Ok(Planned { config, data, graph, weights, pool })
}

/// Steps that take about `seconds`, from a few on weights that are thrown away.
pub(crate) fn steps_in(run: &RunConfig, seconds: f64) -> Result<u64> {
    let Planned { config, data, mut graph, mut weights, pool } = plan(run)?;
    let mut optimizer = AdamW::new(weights.specs(), &run.optimizer)?;
    let schedule = Schedule::new(&run.resolved(&config));
    let t = &run.train;
    let mut stepper =
        Stepper::new(weights.data().len(), t.accumulation, t.seed, run.optimizer.clip);
    let mut times = vec![];
    for step in 0..12 {
        let rules = (&mut optimizer, &schedule);
        times.push(stepper.step(&pool, &mut graph, &*data, &mut weights, rules, step)?.seconds);
    }
    // The first ones fault memory in. A tenth goes to evaluations and to slower steps.
    times.drain(..4);
    times.sort_by(f64::total_cmp);
    Ok(((0.9 * seconds / times[times.len() / 2]) as u64).clamp(20, 100_000))
}
