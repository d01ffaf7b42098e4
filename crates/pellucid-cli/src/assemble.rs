//! From a run's settings to everything that training needs: tokenizer, shards, sizes, graph.

use crate::out;
use pellucid::autograd::{Recompute, RunInfo};
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{self, GenerationConfig, StoredType};
use pellucid::data::{self, Corpus, CorpusOptions, Plan, Shard, Split, prepare};
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid::model::config::Config;
use pellucid::model::train_graph::{TrainGraph, TrainOptions};
use pellucid::model::weights::Weights;
use pellucid::text::{Specials, Tokenizer};
use pellucid::train::resume::Store;
use pellucid::train::run::{DataFormat, PrecisionKind, RecomputeKind, RunConfig, SamplingKind};
use pellucid::train::{evaluate, step};
use std::path::Path;
use std::sync::Arc;

/// A run that can begin.
pub(crate) struct Assembled {
    pub(crate) config: Config,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) data: Data,
    pub(crate) files: Files,
    /// Tokens for training and for validation.
    pub(crate) tokens: (u64, u64),
}

/// Reads or makes tokenizer and shards in the run's folder, and settles the model's sizes.
pub(crate) fn assemble(run: &RunConfig) -> Result<Assembled> {
    if run.data.train.is_empty() {
        return Err(Error::new(Kind::Config, "train", "no training data is named")
            .hint("give --data FILE, or data.train in the TOML file; `pellucid demo` needs none"));
    }
    let corpus = corpus(run, &run.data.train)?;
    let apart = match run.data.validation.is_empty() {
        true => None,
        false => Some(self::corpus(run, &run.data.validation)?),
    };
    let folder = Path::new(&run.checkpoint.folder).join("data");
    let tokenizer = tokenizer(run, &corpus, apart.as_ref(), &folder)?;
    let config = run.model_config(tokenizer.vocab_size())?;
    config.validate()?;
    run.validate()?;
    let plan = Plan {
        corpus: &corpus,
        validation: apart.as_ref(),
        tokenizer: &tokenizer,
        split: Split::Auto(run.data.validation_fraction),
    };
    let mut told = 0;
    let shards = prepare(&folder, &plan, &mut |done, all| {
        let percent = done * 100 / all.max(1);
        if all > 50_000_000 && percent >= told + 10 {
            told = percent;
            out::note(&format!("turning text into ids: {percent}%"));
        }
        Ok(())
    })?;
    let tokens = (shards.train.len(), shards.validation.as_ref().map_or(0, Shard::len));
    let fingerprint = format!("{:016x}-{:016x}", corpus.fingerprint(), tokenizer.fingerprint());
    let data = Data::new(run, &config, shards, &tokenizer, fingerprint)?;
    let files = Files::new(&config, &tokenizer);
    Ok(Assembled { config, tokenizer, data, files, tokens })
}

fn corpus(run: &RunConfig, sources: &[String]) -> Result<Corpus> {
    if run.data.format == DataFormat::Csv || run.data.format == DataFormat::Shards {
        let message = format!("data.format = {:?} is not read by this command", run.data.format);
        return Err(Error::new(Kind::Config, "train", message)
            .hint("give text, .jsonl or .parquet files; the format follows from the ending"));
    }
    Corpus::open(sources, CorpusOptions { field: run.data.field.clone(), ..Default::default() })
}

/// The tokenizer that the settings name; one that is learnt is kept beside the shards.
fn tokenizer(
    run: &RunConfig,
    corpus: &Corpus,
    apart: Option<&Corpus>,
    folder: &Path,
) -> Result<Tokenizer> {
    // A single text has no end before its end, and then V is the number of its characters.
    let specials =
        if corpus.is_single_text() { Specials::default() } else { Specials::end_of_text() };
    let scheme = run.data.tokenizer.as_str();
    match scheme {
        "bytes" => return Tokenizer::bytes_with(&specials),
        "bpe" | "characters" => {}
        path if Path::new(path).is_dir() => return Tokenizer::from_folder(Path::new(path)),
        path => {
            return Tokenizer::from_file(Path::new(path)).map_err(|e| {
                e.hint("data.tokenizer: characters, bytes, bpe, or a tokenizer.json")
            });
        }
    }
    let all = [corpus.fingerprint(), apart.map_or(0, Corpus::fingerprint)];
    let key = format!("{scheme} {} {all:x?}", run.data.vocab);
    let (made_from, path) = (folder.join("tokenizer.key"), folder.join("tokenizer.json"));
    if files::read_text("train", &made_from).is_ok_and(|found| found == key) && path.is_file() {
        return Tokenizer::from_folder(folder);
    }
    let texts = corpus.texts().chain(apart.into_iter().flat_map(Corpus::texts));
    let tokenizer = match scheme {
        "bpe" => {
            out::note("learning a vocabulary");
            Tokenizer::train_bpe(texts, run.data.vocab, &Specials::end_of_text())?
        }
        _ => Tokenizer::characters_from(texts, &specials)?,
    };
    tokenizer.save_folder(folder)?;
    files::replace("train", &made_from, |w| w.write_all(key.as_bytes()))?;
    Ok(tokenizer)
}

/// Shards as the training loop wants them.
pub(crate) struct Data {
    train: data::Batches,
    validation: Option<data::Evaluation>,
    bytes_per_token: Option<f64>,
    fingerprint: String,
}

impl Data {
    fn new(
        run: &RunConfig,
        config: &Config,
        shards: data::Shards,
        tokenizer: &Tokenizer,
        fingerprint: String,
    ) -> Result<Self> {
        let (b, t) = (run.train.batch, run.time(config));
        let sampling = match run.data.sampling {
            SamplingKind::Random => data::Sampling::Random,
            _ => data::Sampling::Epochs,
        };
        let bytes_per_token =
            shards.validation.as_ref().map(|s| bytes_per_token(s, tokenizer)).transpose()?;
        let train = data::Batches::new(Arc::new(shards.train), b, t, sampling, run.train.seed)?;
        let validation = match shards.validation.map(Arc::new).filter(|s| s.len() > 1) {
            None => None,
            Some(shard) if run.evaluate.batches == 0 => Some(data::Evaluation::all(shard, b, t)?),
            Some(shard) => {
                let windows = (run.evaluate.batches * b) as u64;
                Some(data::Evaluation::some(shard, b, t, windows)?)
            }
        };
        Ok(Self { train, validation, bytes_per_token, fingerprint })
    }
}

/// Bytes of text per token, over the first million tokens.
pub(crate) fn bytes_per_token(shard: &Shard, tokenizer: &Tokenizer) -> Result<f64> {
    let (mut at, mut bytes) = (0, 0);
    let end = shard.len().min(1 << 20);
    while at < end {
        let mut ids = vec![0i32; (end - at).min(1 << 14) as usize];
        shard.read(at, &mut ids)?;
        at += ids.len() as u64;
        let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
        bytes += tokenizer.decode_plain(&ids)?.len();
    }
    Ok(bytes as f64 / end.max(1) as f64)
}

impl evaluate::Batches for Data {
    fn train(&self, number: u64, ids: &mut [i32], targets: &mut [i32]) -> Result<()> {
        self.train.fill(number, ids, targets)
    }
    fn validation_batches(&self) -> usize {
        self.validation.as_ref().map_or(0, |v| v.batches() as usize)
    }
    fn validation(&self, number: usize, ids: &mut [i32], targets: &mut [i32]) -> Result<()> {
        match &self.validation {
            Some(validation) => validation.fill(number as u64, ids, targets).map(|_| ()),
            None => Err(Error::new(Kind::Input, "evaluate", "nothing is held out")),
        }
    }
    fn bytes_per_token(&self) -> Option<f64> {
        self.bytes_per_token
    }
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

/// A model as the training loop wants it.
pub(crate) struct Graph(pub(crate) TrainGraph);

impl Graph {
    pub(crate) fn new(run: &RunConfig, config: &Config, threads: usize) -> Result<Self> {
        let options = TrainOptions {
            batch: run.train.batch,
            time: run.time(config),
            recompute: match run.train.recompute {
                RecomputeKind::Nothing => Recompute::Nothing,
                RecomputeKind::Cheap => Recompute::Cheap,
                RecomputeKind::Blocks => Recompute::Blocks,
            },
            precision: precision(run.train.precision),
        };
        TrainGraph::new(config, options, threads).map(Self)
    }
}

pub(crate) fn precision(kind: PrecisionKind) -> Precision {
    match kind {
        PrecisionKind::F32 => Precision::F32,
        PrecisionKind::Bf16 => Precision::Bf16,
    }
}

impl step::Graph for Graph {
    fn step(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        grads: &mut [f32],
        first: bool,
        ids: &[i32],
        targets: &[i32],
        run: RunInfo,
    ) -> Result<f32> {
        self.0.step(pool, weights, grads, first, ids, targets, run)
    }
    fn evaluate(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        ids: &[i32],
        targets: &[i32],
    ) -> Result<(f32, Vec<f32>)> {
        self.0.evaluate(pool, weights, ids, targets)
    }
    fn activation_bytes(&self) -> usize {
        self.0.activation_bytes()
    }
}

/// Model files of a checkpoint.
pub(crate) struct Files {
    config: Config,
    tokenizer: Tokenizer,
    generation: GenerationConfig,
}

impl Files {
    pub(crate) fn new(config: &Config, tokenizer: &Tokenizer) -> Self {
        let special = tokenizer.special_ids();
        let (bos, pad) = (special.bos, special.pad);
        let eos = special.eos.into_iter().collect();
        let generation = GenerationConfig { bos, eos, pad, ..GenerationConfig::default() };
        Self { config: config.clone(), tokenizer: tokenizer.clone(), generation }
    }
}

impl Store for Files {
    fn save(&self, folder: &Path, weights: &Weights) -> Result<()> {
        let json = self.tokenizer.to_json();
        let (config, generation) = (&self.config, &self.generation);
        checkpoint::save(folder, config, weights, Some(json), generation, StoredType::F32)?;
        self.tokenizer.save_folder(folder)
    }
    fn load(&self, folder: &Path, weights: &mut Weights) -> Result<()> {
        *weights = checkpoint::load(folder)?.weights;
        Ok(())
    }
}
