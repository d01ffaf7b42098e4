//! From settings to a trained model: everything that the loop needs, put together.

use super::average::average;
use super::budget::{available_memory, bytes};
use super::evaluate::Batches;
use super::optimizer::AdamW;
use super::pretrain::{Control, Event, Job, Observer, Outcome, Reason, pretrain};
use super::resume::Store;
use super::run::{PrecisionKind, RecomputeKind, RunConfig};
use super::tasks::{self, Longest, Task};
use crate::autograd::{Recompute, Training};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::checkpoint::{self, GenerationConfig, StoredType};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::config::{Adapter, Config};
use crate::model::train_graph::{TrainGraph, TrainOptions, pass_rows};
use crate::model::weights::{ParamSpec, Weights, parameters};
use crate::text::Tokenizer;
use std::path::{Path, PathBuf};

/// A run that can begin.
#[derive(Debug)]
pub struct Assembled {
    /// The model's sizes.
    pub config: Config,
    /// Tokenizer and examples.
    pub task: Box<dyn Task>,
    /// Batches of them.
    pub data: Box<dyn Batches>,
    /// Writes the model's files.
    pub store: ModelFolder,
}

/// Reads or makes tokenizer and examples, and settles the model's sizes. `progress` gets bytes done and bytes in all; an
/// error from it ends the work.
///
/// # Errors
/// As [`tasks::open`]; settings that contradict each other; too little text for a batch.
pub fn assemble(
    run: &RunConfig,
    progress: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<Assembled> {
    run.validate()?;
    let task = tasks::open(run, progress)?;
    let config = model_config(run, &*task)?;
    let data = task.batches(run, &config)?;
    let mut store = ModelFolder::new(&config, &*task);
    if config.adapter.is_some() {
        store.base = tasks::start_folder(run)?.map(|base| base.canonicalize().unwrap_or(base));
    }
    Ok(Assembled { config, task, data, store })
}

impl Assembled {
    /// The weights that the run starts with: those of the model that it starts from, and fresh ones.
    ///
    /// # Errors
    /// A model to start from that cannot be read or has other sizes.
    pub fn weights(&self, run: &RunConfig) -> Result<Weights> {
        let fresh = Weights::init(&self.config, run.train.seed);
        match tasks::start_folder(run)? {
            None => Ok(fresh),
            Some(folder) => taken_over(fresh, &checkpoint::load(&folder)?.weights, &folder),
        }
    }

    /// The graph of a micro-batch for a pool of `threads`.
    ///
    /// # Errors
    /// As [`TrainGraph::new`]; memory that cannot suffice.
    pub fn graph(&self, run: &RunConfig, threads: usize) -> Result<TrainGraph> {
        refuse_the_impossible(run, &self.config)?;
        let options = options(run, &self.config, self.task.longest());
        let specs = parameters(&self.config);
        let frozen = AdamW::new(&specs, &run.optimizer)?.frozen(&specs);
        TrainGraph::with_frozen(&self.config, options, frozen, threads)
    }
}

/// Trains the model that `run` describes, from text to checkpoints, and continues where it was stopped.
///
/// # Errors
/// Settings, files, memory, numbers: as [`pretrain`] and [`assemble`] say.
pub fn train(run: &RunConfig, observer: &mut dyn Observer) -> Result<Outcome> {
    let assembled =
        assemble(run, &mut |done, total| match observer.on(&Event::Preparing { done, total }) {
            Control::Continue => Ok(()),
            Control::Stop => {
                Err(Error::new(Kind::Interrupted, "train", "stopped while preparing data"))
            }
        })?;
    for note in assembled.task.notes() {
        observer.on(&Event::Warning(note));
    }
    let facts = assembled.task.facts();
    observer.on(&Event::Data {
        config: &assembled.config,
        train: facts.train,
        validation: facts.validation,
        vocab: assembled.task.tokenizer().vocab_size(),
        bytes_per_token: facts.bytes_per_token,
    });
    let pool = Pool::new(run.train.threads);
    let mut graph = assembled.graph(run, pool.threads())?;
    let mut weights = assembled.weights(run)?;
    let job = Job {
        run,
        config: &assembled.config,
        weights: &mut weights,
        graph: &mut graph,
        data: &*assembled.data,
        store: &assembled.store,
        pool: &pool,
    };
    let outcome = pretrain(job, observer)?;
    let count = run.checkpoint.average;
    if count > 0 && outcome.reason != Reason::Asked {
        let root = Path::new(&run.checkpoint.folder);
        let folder = average(root, count, &assembled.store, &mut weights)?;
        observer.on(&Event::Averaged { folder: &folder, count });
    }
    Ok(outcome)
}

/// `fresh` weights with those of another model where it has them. Only what stands on the stack may be new.
fn taken_over(mut fresh: Weights, from: &Weights, folder: &Path) -> Result<Weights> {
    let new = |name: &str| {
        name.contains(".lora.") || ["head", "pooler"].iter().any(|part| name.starts_with(part))
    };
    let mut missing = vec![];
    for spec in fresh.specs().to_vec() {
        let found = from.specs().iter().find(|s| s.name == spec.name && s.shape == spec.shape);
        match found {
            Some(_) => fresh.get_mut(&spec.name)?.copy_from_slice(from.get(&spec.name)?),
            None if new(&spec.name) => {}
            None => missing.push(format!("{} {:?}", spec.name, spec.shape)),
        }
    }
    if missing.is_empty() {
        return Ok(fresh);
    }
    let message = format!("{}: the model lacks parameters that the run needs", folder.display());
    let error = Error::new(Kind::Config, "train", message)
        .hint("leave the sizes in [model] out: they follow from the model to start from");
    Err(missing.into_iter().fold(error, Error::fact))
}

/// The model's sizes, once the data are known: those of the model to start from, or as `[model]` says.
///
/// # Errors
/// Sizes that contradict each other or the data.
pub fn model_config(run: &RunConfig, task: &dyn Task) -> Result<Config> {
    let vocab = task.tokenizer().vocab_size();
    let mut config = match tasks::start_folder(run)? {
        None => run.model_config(vocab)?,
        Some(folder) => {
            let (_, config) = checkpoint::load_config(&folder)?;
            let dropout = run.model.dropout.unwrap_or(config.dropout);
            Config { dropout, ..config }
        }
    };
    task.fit(&mut config)?;
    let keys = &run.adapter;
    if keys.rank > 0 {
        config.adapter = Some(Adapter {
            rank: keys.rank,
            alpha: keys.alpha,
            root: keys.root,
            dropout: keys.input_dropout,
            targets: checkpoint::adapter::targets(&config, &keys.targets)?,
        });
    }
    config.validate()?;
    if config.vocab < vocab {
        let message = format!("model.vocab = {}, but the tokenizer has {vocab} ids", config.vocab);
        return Err(Error::new(Kind::Config, "train", message).hint("leave model.vocab out"));
    }
    Ok(config)
}

/// Shape and precision of micro-batches; rows of different lengths are at most `longest`.
#[must_use]
pub fn options(run: &RunConfig, config: &Config, longest: Option<Longest>) -> TrainOptions {
    let whole = TrainOptions::new(run.batch(config), run.time(config));
    let limit = if run.data.longest > 0 { run.data.longest + 1 } else { usize::MAX };
    let limit = limit.min(config.context);
    let shaped = match longest {
        None => whole,
        Some(Longest { time, source_time }) => TrainOptions {
            time: time.min(limit),
            source_time: source_time.min(limit),
            ragged: true,
            ..whole
        },
    };
    TrainOptions {
        training: Training {
            recompute: match run.train.recompute {
                RecomputeKind::Nothing => Recompute::Nothing,
                RecomputeKind::Cheap => Recompute::Cheap,
                RecomputeKind::Blocks => Recompute::Blocks,
            },
            accumulates: run.train.accumulation > 1,
        },
        precision: match run.train.precision {
            PrecisionKind::F32 => Precision::F32,
            PrecisionKind::Bf16 => Precision::Bf16,
        },
        smoothing: run.train.smoothing,
        ..shaped
    }
}

/// What no plan can avoid: weights, gradients and moments, and the input of each block. The exact budget follows from
/// the plan, but making a plan that is far too large would already exhaust the machine.
fn refuse_the_impossible(run: &RunConfig, config: &Config) -> Result<()> {
    let parameters: u64 = parameters(config).iter().map(|s: &ParamSpec| s.len() as u64).sum();
    let (batch, time) = (run.batch(config), run.time(config));
    let positions = (pass_rows(config.core, batch, time) * time) as u64;
    let least = 16 * parameters + 4 * positions * config.width as u64 * config.layers as u64;
    match available_memory() {
        Some(available) if least > available => {
            let message = format!(
                "the run needs more than {}, but the machine has {} left",
                bytes(least),
                bytes(available)
            );
            Err(Error::new(Kind::Resource, "budget", message)
                .fact(format!("{parameters} parameters: {}", bytes(16 * parameters)))
                .hint("choose a smaller model.depth, model.width or train.time"))
        }
        _ => Ok(()),
    }
}

/// A checkpoint folder in Hugging Face's layout.
#[derive(Debug)]
pub struct ModelFolder {
    config: Config,
    tokenizer: Tokenizer,
    generation: GenerationConfig,
    template: Option<String>,
    /// Of the model to which an adapter belongs.
    base: Option<PathBuf>,
}

impl ModelFolder {
    /// Of a model with these sizes that learns this.
    #[must_use]
    pub fn new(config: &Config, task: &dyn Task) -> Self {
        let tokenizer = task.tokenizer();
        let special = tokenizer.special_ids();
        let generation = GenerationConfig {
            bos: special.bos,
            eos: special.eos.into_iter().collect(),
            pad: special.pad,
            decoder_start: task.decoder_start(),
            ..GenerationConfig::default()
        };
        let template = task.template().map(|t| t.source().to_owned());
        Self {
            config: config.clone(),
            tokenizer: tokenizer.clone(),
            generation,
            template,
            base: None,
        }
    }
}

impl Store for ModelFolder {
    fn save(&self, folder: &Path, weights: &Weights) -> Result<()> {
        let json = Some(self.tokenizer.to_json());
        let (config, generation) = (&self.config, &self.generation);
        match &self.base {
            None => checkpoint::save(folder, config, weights, json, generation, StoredType::F32)?,
            Some(base) => {
                checkpoint::save_adapter(folder, (config, weights), json, generation, base)?;
            }
        }
        self.tokenizer.save_folder(folder)?;
        match &self.template {
            None => Ok(()),
            Some(text) => {
                let path = folder.join("chat_template.jinja");
                files::replace("train", &path, |w| w.write_all(text.as_bytes()))
            }
        }
    }

    fn load(&self, folder: &Path, weights: &mut Weights) -> Result<()> {
        if self.base.is_some() {
            // What is frozen is there already.
            return checkpoint::read_factors(folder, &self.config, weights);
        }
        let loaded = checkpoint::load(folder)?;
        if loaded.config != self.config {
            let message = format!("{}: config.json is of another model", folder.display());
            return Err(Error::new(Kind::Config, "train", message)
                .hint("the folder was changed by hand; continue from another step folder"));
        }
        *weights = loaded.weights;
        Ok(())
    }
}
