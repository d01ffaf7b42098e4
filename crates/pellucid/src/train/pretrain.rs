//! The loop over a corpus: step, evaluate, save; stops and continues without losing a bit.

use super::budget::Budget;
use super::clip::demand_finite;
use super::disk::Disk;
use super::evaluate::{Batches, Evaluation, evaluate};
use super::log::{self, Line, Metrics};
use super::optimizer::AdamW;
use super::plot;
use super::resume::{RunFolder, State, Store};
use super::run::RunConfig;
use super::schedule::Schedule;
use super::step::{Graph, StepReport, Stepper};
use super::tensorboard::Events;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::weights::Weights;
use std::path::{Path, PathBuf};

/// What an observer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Finish this step, save and return.
    Stop,
}

/// What a run tells while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Text is being encoded: bytes done, bytes in all.
    Preparing {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Tokens are ready.
    Data {
        /// The model's sizes.
        config: &'a Config,
        /// Training tokens.
        train: u64,
        /// Validation tokens.
        validation: u64,
        /// Ids of the tokenizer.
        vocab: usize,
        /// Bytes of text per validation token.
        bytes_per_token: Option<f64>,
    },
    /// Memory, before anything is computed.
    Budget(&'a Budget),
    /// The first step follows.
    Started {
        /// Updates done before.
        step: u64,
        /// Updates in all.
        steps: u64,
        /// Elements of all parameters.
        parameters: usize,
        /// The checkpoint that is continued.
        resumed: Option<&'a Path>,
    },
    /// An update.
    Step(&'a StepReport),
    /// An evaluation after step `step`; `best` when it is the lowest so far.
    Evaluated {
        /// Updates done.
        step: u64,
        /// What was found.
        evaluation: &'a Evaluation,
        /// Whether it is the lowest so far.
        best: bool,
    },
    /// A checkpoint is whole and named by `last`.
    Saved {
        /// Updates done.
        step: u64,
        /// Where it is.
        folder: &'a Path,
        /// Whether it is the best so far.
        best: bool,
    },
    /// The last checkpoints were averaged.
    Averaged {
        /// Where the mean is.
        folder: &'a Path,
        /// Of how many.
        count: usize,
    },
    /// Something to look at that does not stop the run.
    Warning(&'a str),
    /// The end.
    Finished(&'a Outcome),
}

/// Hears what happens and may stop the run.
pub trait Observer {
    /// Called on the training thread; slow observers slow the run.
    fn on(&mut self, event: &Event<'_>) -> Control;
}

impl<F: FnMut(&Event<'_>) -> Control> Observer for F {
    fn on(&mut self, event: &Event<'_>) -> Control {
        self(event)
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All steps are done.
    Steps,
    /// The validation loss has not improved for `evaluate.patience` evaluations.
    NoImprovement,
    /// The observer asked.
    Asked,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// Updates done.
    pub step: u64,
    /// Training loss of the last update of this process.
    pub loss: Option<f64>,
    /// Lowest validation loss and its step.
    pub best: Option<(f64, u64)>,
    /// The last checkpoint.
    pub folder: PathBuf,
    /// Wall-clock seconds of training, earlier processes included.
    pub seconds: f64,
}

/// Everything a run needs.
pub struct Job<'a> {
    /// Settings; resolved by the loop.
    pub run: &'a RunConfig,
    /// The model's sizes.
    pub config: &'a Config,
    /// Initial weights; trained in place.
    pub weights: &'a mut Weights,
    /// Loss and gradients.
    pub graph: &'a mut dyn Graph,
    /// Batches.
    pub data: &'a dyn Batches,
    /// Model files.
    pub store: &'a dyn Store,
    /// Threads.
    pub pool: &'a Pool,
}

/// Trains in `run.checkpoint.folder`; continues from its last checkpoint if there is one.
///
/// # Errors
/// Settings that contradict each other or the checkpoint; memory that cannot suffice; NaN or infinity (the last good
/// checkpoint stays as it is); a disk that refuses.
pub fn pretrain(job: Job<'_>, observer: &mut dyn Observer) -> Result<Outcome> {
    pretrain_on(job, Disk::default(), observer)
}

pub(super) fn pretrain_on(
    job: Job<'_>,
    disk: Disk,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    job.run.validate()?;
    let run = job.run.resolved(job.config);
    let positions = run.batch(job.config) * run.time(job.config);
    let elements = job.weights.data().len();
    let held = positions * run.train.accumulation;
    let budget = Budget::new(elements, held, job.graph.activation_bytes());
    let stop = observer.on(&Event::Budget(&budget)) == Control::Stop;
    budget.check(&run, budget.weights)?;
    let folder = RunFolder::open(Path::new(&run.checkpoint.folder), disk)?;
    let optimizer = AdamW::new(job.weights.specs(), &run.optimizer)?;
    let state = State::new(job.config, job.data.fingerprint());
    let t = &run.train;
    let stepper = Stepper::new(elements, t.accumulation, t.seed, run.optimizer.clip);
    let schedule = Schedule::new(&run);
    let (metrics, events, saved) = (None, None, None);
    let mut session = Session {
        job,
        run,
        folder,
        optimizer,
        schedule,
        state,
        metrics,
        events,
        stepper,
        saved,
        stop,
        observer,
    };
    session.start()?;
    session.run().map_err(|e| session.with_last_good(e))
}

struct Session<'a, 'o> {
    job: Job<'a>,
    run: RunConfig,
    folder: RunFolder,
    optimizer: AdamW,
    schedule: Schedule,
    state: State,
    metrics: Option<Metrics>,
    events: Option<Events>,
    stepper: Stepper,
    saved: Option<(u64, PathBuf)>,
    stop: bool,
    observer: &'o mut dyn Observer,
}

impl Session<'_, '_> {
    /// Continues from the last checkpoint, if there is one, and opens what the run writes.
    fn start(&mut self) -> Result<()> {
        if let Some(last) = self.folder.last()? {
            let both = (&mut *self.job.weights, &mut self.optimizer);
            let store = self.job.store;
            let (state, changed) = self.folder.load(&last, &self.state, &self.run, both, store)?;
            for line in changed {
                self.tell(&Event::Warning(&format!(
                    "a setting changed since the checkpoint: {line}"
                )));
            }
            self.saved = Some((state.step, last));
            self.state = state;
        }
        let (disk, path) = (&self.folder.disk, self.folder.path("metrics.jsonl"));
        let (metrics, whole) = Metrics::open(disk, &path, self.state.metrics_bytes)?;
        self.metrics = Some(metrics);
        if self.run.log.tensorboard {
            let root = Path::new(&self.run.checkpoint.folder);
            self.events = Some(Events::create(disk, root, self.state.step + 1)?);
        }
        disk.replace(&self.folder.path("run.toml"), self.run.to_toml().as_bytes())?;
        if !whole {
            self.tell(&Event::Warning("metrics.jsonl lacks lines that the checkpoint counted"));
        }
        if self.run.evaluate.every > 0 && self.job.data.validation_batches() == 0 {
            self.tell(&Event::Warning("nothing is held out, so nothing is evaluated"));
        }
        let resumed = self.saved.clone();
        self.tell(&Event::Started {
            step: self.state.step,
            steps: self.run.train.steps,
            parameters: self.job.weights.count(),
            resumed: resumed.as_ref().map(|(_, folder)| folder.as_path()),
        });
        Ok(())
    }

    fn run(&mut self) -> Result<Outcome> {
        let mut loss = None;
        while !self.stop && self.state.step < self.run.train.steps && !self.given_up() {
            loss = Some(self.step()?);
        }
        let last = self.save()?;
        let reason = if self.state.step >= self.run.train.steps {
            Reason::Steps
        } else if self.given_up() {
            Reason::NoImprovement
        } else {
            Reason::Asked
        };
        let outcome = Outcome {
            reason,
            step: self.state.step,
            loss,
            best: self.state.best_loss.zip(self.state.best_step),
            folder: last,
            seconds: self.state.seconds,
        };
        self.tell(&Event::Finished(&outcome));
        Ok(outcome)
    }

    fn tell(&mut self, event: &Event<'_>) {
        self.stop |= self.observer.on(event) == Control::Stop;
    }

    fn given_up(&self) -> bool {
        let patience = self.run.evaluate.patience;
        patience > 0 && self.state.evaluations_without_improvement >= patience
    }

    /// One update and what is due after it.
    fn step(&mut self) -> Result<f64> {
        let Job { graph, data, weights, pool, .. } = &mut self.job;
        let rules = (&mut self.optimizer, &self.schedule);
        let report = self.stepper.step(pool, *graph, *data, weights, rules, self.state.step)?;
        self.state.step = report.step;
        self.state.tokens += report.tokens;
        self.state.seconds += report.seconds;
        for name in std::mem::take(&mut self.stepper.zero_gradients) {
            self.tell(&Event::Warning(&format!(
                "the gradient of {name} is all zero at the first step"
            )));
        }
        let end = report.step >= self.run.train.steps;
        if end || report.step.is_multiple_of(self.run.log.every) {
            self.write(&Line::of_step(&report, self.state.tokens))?;
        }
        self.tell(&Event::Step(&report));
        let due = |every: u64| every > 0 && (end || report.step.is_multiple_of(every));
        let mut save = due(self.run.checkpoint.every);
        if due(self.run.evaluate.every) && self.job.data.validation_batches() > 0 {
            save |= self.evaluate()?;
        }
        if save {
            self.save()?;
        }
        Ok(report.loss)
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        if let Some(metrics) = &mut self.metrics {
            metrics.append(&self.folder.disk, line)?;
        }
        match &mut self.events {
            Some(events) => events.append(&self.folder.disk, line.step, &line.scalars()),
            None => Ok(()),
        }
    }

    /// Returns whether the loss is the lowest so far.
    fn evaluate(&mut self) -> Result<bool> {
        let Job { graph, data, weights, pool, .. } = &mut self.job;
        let batch = self.stepper.micro_batch();
        let evaluation = evaluate(*graph, pool, weights, *data, batch)?;
        let step = self.state.step;
        self.write(&Line::of_evaluation(step, &evaluation))?;
        let best = self
            .state
            .best_loss
            .is_none_or(|lowest| evaluation.loss < lowest - self.run.evaluate.min_delta);
        if best {
            self.state.best_loss = Some(evaluation.loss);
            self.state.best_step = Some(step);
            self.state.evaluations_without_improvement = 0;
        } else {
            self.state.evaluations_without_improvement += 1;
        }
        self.tell(&Event::Evaluated { step, evaluation: &evaluation, best });
        Ok(best)
    }

    /// Writes a checkpoint unless this step's is there; never one that holds NaN or infinity.
    fn save(&mut self) -> Result<PathBuf> {
        if let Some((step, folder)) = &self.saved
            && *step == self.state.step
        {
            return Ok(folder.clone());
        }
        demand_finite("weight", self.job.weights.data(), self.job.weights.specs())?;
        if let Some(metrics) = &self.metrics {
            self.state.metrics_bytes = metrics.sync(&self.folder.disk)?;
        }
        let Job { weights, store, .. } = &self.job;
        let whole = self.folder.save(&self.state, &self.run, weights, &self.optimizer, *store)?;
        self.saved = Some((self.state.step, whole.clone()));
        self.folder.prune(&self.state, self.run.checkpoint.keep)?;
        self.draw()?;
        let best = self.state.best_step == Some(self.state.step);
        self.tell(&Event::Saved { step: self.state.step, folder: &whole, best });
        Ok(whole)
    }

    fn draw(&self) -> Result<()> {
        if !self.run.log.plot {
            return Ok(());
        }
        let lines = log::read(&self.folder.path("metrics.jsonl"))?;
        let title = format!("loss, {} steps", self.state.step);
        let text = plot::svg(&title, &plot::loss_series(&lines), false);
        self.folder.disk.replace(&self.folder.path("curve.svg"), text.as_bytes())
    }

    fn with_last_good(&self, error: Error) -> Error {
        if !matches!(error.kind(), Kind::Numeric | Kind::Gradient | Kind::Io) {
            return error;
        }
        match &self.saved {
            Some((step, folder)) => {
                error.fact(format!("last good checkpoint: {}, step {step}", folder.display()))
            }
            None => error.fact("no checkpoint was written yet"),
        }
    }
}
