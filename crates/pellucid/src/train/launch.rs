//! From settings to a trained model: everything that the loop needs, put together.

use super::budget::{available_memory, bytes};
use super::pretrain::{Control, Event, Job, Observer, Outcome, pretrain};
use super::resume::Store;
use super::run::{PrecisionKind, RecomputeKind, RunConfig};
use super::source::Source;
use crate::autograd::Recompute;
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::checkpoint::{self, GenerationConfig, StoredType};
use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::train_graph::{TrainGraph, TrainOptions};
use crate::model::weights::{ParamSpec, Weights, parameters};
use std::path::Path;

/// Trains the model that `run` describes, from text to checkpoints, and continues where it was stopped.
///
/// # Errors
/// Settings, files, memory, numbers: as [`pretrain`], [`Source::open`] and [`TrainGraph::new`] say.
pub fn train(run: &RunConfig, observer: &mut dyn Observer) -> Result<Outcome> {
    run.validate()?;
    let source = Source::open(run, &mut |done, total| match observer
        .on(&Event::Preparing { done, total })
    {
        Control::Continue => Ok(()),
        Control::Stop => {
            Err(Error::new(Kind::Interrupted, "train", "stopped while preparing data"))
        }
    })?;
    let config = model_config(run, source.tokenizer.vocab_size())?;
    let time = run.time(&config);
    let data = source.batches(run, time)?;
    let tokens = (source.train.len(), source.validation.as_ref().map_or(0, |s| s.len()));
    let (train, validation) = tokens;
    let vocab = source.tokenizer.vocab_size();
    observer.on(&Event::Data { train, validation, vocab, bytes_per_token: source.bytes_per_token });
    refuse_the_impossible(run, &config, time)?;
    let pool = Pool::new(run.train.threads);
    let mut graph = TrainGraph::new(&config, options(run, time), pool.threads())?;
    let mut weights = Weights::init(&config, run.train.seed);
    let eos = source.tokenizer.special_ids().eos;
    let generation = GenerationConfig {
        bos: source.tokenizer.special_ids().bos,
        eos: eos.into_iter().collect(),
        ..GenerationConfig::default()
    };
    let store = ModelFolder { config: &config, tokenizer: source.tokenizer.to_json(), generation };
    let job = Job {
        run,
        config: &config,
        weights: &mut weights,
        graph: &mut graph,
        data: &data,
        store: &store,
        pool: &pool,
    };
    pretrain(job, observer)
}

/// The model's sizes, once the tokenizer is known.
pub fn model_config(run: &RunConfig, vocab: usize) -> Result<Config> {
    let config = run.model_config(vocab)?;
    config.validate()?;
    if config.vocab < vocab {
        let message = format!("model.vocab = {}, but the tokenizer has {vocab} ids", config.vocab);
        return Err(Error::new(Kind::Config, "train", message).hint("leave model.vocab out"));
    }
    Ok(config)
}

/// Shape and precision of micro-batches.
#[must_use]
pub fn options(run: &RunConfig, time: usize) -> TrainOptions {
    TrainOptions {
        batch: run.train.batch,
        time,
        recompute: match run.train.recompute {
            RecomputeKind::Nothing => Recompute::Nothing,
            RecomputeKind::Cheap => Recompute::Cheap,
            RecomputeKind::Blocks => Recompute::Blocks,
        },
        precision: match run.train.precision {
            PrecisionKind::F32 => Precision::F32,
            PrecisionKind::Bf16 => Precision::Bf16,
        },
    }
}

/// What no plan can avoid: weights, gradients and moments, and the input of each block. The exact budget follows from
/// the plan, but making a plan that is far too large would already exhaust the machine.
fn refuse_the_impossible(run: &RunConfig, config: &Config, time: usize) -> Result<()> {
    let parameters: u64 = parameters(config).iter().map(|s: &ParamSpec| s.len() as u64).sum();
    let positions = (run.train.batch * time) as u64;
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
                .hint("choose a smaller model.depth, model.width or train.batch"))
        }
        _ => Ok(()),
    }
}

/// A checkpoint folder in Hugging Face's layout.
struct ModelFolder<'a> {
    config: &'a Config,
    tokenizer: &'a str,
    generation: GenerationConfig,
}

impl Store for ModelFolder<'_> {
    fn save(&self, folder: &Path, weights: &Weights) -> Result<()> {
        let tokenizer = Some(self.tokenizer);
        checkpoint::save(folder, self.config, weights, tokenizer, &self.generation, StoredType::F32)
    }

    fn load(&self, folder: &Path, weights: &mut Weights) -> Result<()> {
        let loaded = checkpoint::load(folder)?;
        if loaded.config != *self.config {
            let message = format!("{}: config.json is of another model", folder.display());
            return Err(Error::new(Kind::Config, "train", message)
                .hint("the folder was changed by hand; continue from another step folder"));
        }
        weights.data_mut().copy_from_slice(loaded.weights.data());
        Ok(())
    }
}
