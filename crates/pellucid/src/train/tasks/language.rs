//! The next token of a text: tokenizer, shards, windows of tokens.

use super::super::evaluate::Batches;
use super::super::run::{RunConfig, SamplingKind};
use super::{Facts, Task, given_tokenizer, learned, read_tokenizer};
use crate::data::{self, Corpus, CorpusOptions, Plan, Sampling, Shard, Shards, Split};
use crate::error::{Error, Kind, Result};
use crate::files::Fnv;
use crate::model::batch::Batch;
use crate::model::config::{Architecture, Config};
use crate::text::{Specials, Tokenizer};
use std::sync::Arc;

/// Validation tokens whose bytes are counted, at most.
const COUNTED: u64 = 1 << 20;

/// Tokens on disk and the tokenizer that made them.
#[derive(Debug)]
pub struct Language {
    /// Makes ids.
    pub tokenizer: Tokenizer,
    /// For training.
    pub train: Arc<Shard>,
    /// For validation, if any.
    pub validation: Option<Arc<Shard>>,
    /// Bytes of text that a validation token stands for on average.
    pub bytes_per_token: Option<f64>,
}

impl Language {
    /// Reads the corpus that `run` names, makes or loads the tokenizer, and encodes what is not encoded yet.
    /// `progress` gets bytes done and bytes in all; an error from it ends the work.
    ///
    /// # Errors
    /// Files that are absent or unreadable, text that the tokenizer lacks characters for, a full disk.
    pub fn open(run: &RunConfig, progress: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<Self> {
        let keys = &run.data;
        let separator = (!keys.separator.is_empty()).then(|| keys.separator.clone());
        let options =
            CorpusOptions { field: keys.field.clone(), separator, ..CorpusOptions::default() };
        let corpus = Corpus::open(&keys.train, options.clone())?;
        let apart = match keys.validation.is_empty() {
            true => None,
            false => Some(Corpus::open(&keys.validation, options)?),
        };
        let tokenizer = match given_tokenizer(run) {
            Some(tokenizer) => tokenizer?,
            None => make_tokenizer(run, &corpus, apart.as_ref())?,
        };
        let plan = Plan {
            corpus: &corpus,
            validation: apart.as_ref(),
            tokenizer: &tokenizer,
            split: Split::Auto(keys.validation_fraction),
        };
        let Shards { train, validation, .. } = data::prepare(&run.data_folder(), &plan, progress)?;
        let bytes_per_token = match &validation {
            Some(shard) => bytes_per_token(shard, &tokenizer)?,
            None => None,
        };
        let validation = validation.map(Arc::new);
        Ok(Self { tokenizer, train: Arc::new(train), validation, bytes_per_token })
    }

    /// Of tokenizer and ids, wherever the files lie: both ends and evenly spread pieces of each shard are read.
    fn fingerprint(&self) -> Result<String> {
        let mut hash = Fnv::new();
        hash.add(&self.tokenizer.fingerprint().to_le_bytes());
        for shard in [Some(&self.train), self.validation.as_ref()].into_iter().flatten() {
            hash.add(&shard.len().to_le_bytes());
            let piece = shard.len().min(1 << 12);
            let mut ids = vec![0i32; piece as usize];
            for part in 0..=64 {
                let start = u128::from(shard.len() - piece) * part / 64;
                shard.read(start as u64, &mut ids)?;
                ids.iter().for_each(|id| hash.add(&id.to_le_bytes()));
            }
        }
        Ok(hash.text())
    }
}

impl Task for Language {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn facts(&self) -> Facts {
        Facts {
            train: self.train.len(),
            validation: self.validation.as_ref().map_or(0, |s| s.len()),
            bytes_per_token: self.bytes_per_token,
        }
    }

    fn fit(&self, config: &mut Config) -> Result<()> {
        if config.architecture == Architecture::Decoder {
            return Ok(());
        }
        Err(Error::new(Kind::Config, "train", "data.task = language needs a decoder").hint(
            "choose model.preset = nano, gpt2 or llama; or data.task = translation or masked",
        ))
    }

    /// Batches of B rows of T tokens. Too few validation tokens count as none.
    fn batches(&self, run: &RunConfig, config: &Config) -> Result<Box<dyn Batches>> {
        let (rows, time) = (run.batch(config), run.time(config));
        let sampling = match run.data.sampling {
            SamplingKind::Random => Sampling::Random,
            SamplingKind::Epochs => Sampling::Epochs,
        };
        let seed = run.train.seed;
        let train = data::Batches::new(self.train.clone(), rows, time, sampling, seed)?;
        let windows = (run.evaluate.batches * rows) as u64;
        let validation = match self.validation.clone().filter(|s| s.len() >= 2) {
            None => None,
            Some(shard) if windows == 0 => Some(data::Evaluation::all(shard, rows, time)?),
            Some(shard) => Some(data::Evaluation::some(shard, rows, time, windows)?),
        };
        let fingerprint = self.fingerprint()?;
        let bytes_per_token = self.bytes_per_token;
        let batches = TokenBatches { train, validation, bytes_per_token, fingerprint, rows, time };
        Ok(Box::new(batches))
    }
}

fn make_tokenizer(run: &RunConfig, corpus: &Corpus, apart: Option<&Corpus>) -> Result<Tokenizer> {
    // One text needs no token that ends it; nanoGPT's recipe has none.
    let single = corpus.is_single_text() && apart.is_none();
    let specials = if single { Specials::default() } else { Specials::end_of_text() };
    match run.data.tokenizer.as_str() {
        "characters" => learned(&run.data_folder(), &key(run, corpus, apart), || {
            // A character that only validation holds must have an id too.
            let all = corpus.texts().chain(apart.into_iter().flat_map(Corpus::texts));
            Tokenizer::characters_from(all, &specials)
        }),
        "bpe" => learned(&run.data_folder(), &key(run, corpus, None), || {
            Tokenizer::train_bpe(corpus.texts(), run.data.vocab, &Specials::end_of_text())
        }),
        "bytes" => Tokenizer::bytes_with(&specials),
        path => read_tokenizer(path),
    }
}

fn key(run: &RunConfig, corpus: &Corpus, apart: Option<&Corpus>) -> String {
    let from = [corpus.fingerprint(), apart.map_or(0, Corpus::fingerprint)];
    format!("{} {} {:x} {:x}\n", run.data.tokenizer, run.data.vocab, from[0], from[1])
}

fn bytes_per_token(shard: &Shard, tokenizer: &Tokenizer) -> Result<Option<f64>> {
    let (mut bytes, mut at) = (0u64, 0u64);
    let end = shard.len().min(COUNTED);
    while at < end {
        let mut ids = vec![0i32; (end - at).min(1 << 16) as usize];
        shard.read(at, &mut ids)?;
        let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
        bytes += tokenizer.decode_plain(&ids)?.len() as u64;
        at += ids.len() as u64;
    }
    Ok((bytes > 0 && end > 0).then(|| bytes as f64 / end as f64))
}

/// Batches of token shards.
#[derive(Debug)]
pub struct TokenBatches {
    train: data::Batches,
    validation: Option<data::Evaluation>,
    bytes_per_token: Option<f64>,
    fingerprint: String,
    rows: usize,
    time: usize,
}

impl TokenBatches {
    /// Makes a batch one of whole rows (B, T).
    fn shape(&self, batch: &mut Batch) {
        if (batch.rows, batch.time) != (self.rows, self.time) {
            *batch = Batch::whole(self.rows, self.time);
        }
    }
}

impl Batches for TokenBatches {
    fn train(&self, number: u64, batch: &mut Batch) -> Result<()> {
        self.shape(batch);
        self.train.fill(number, &mut batch.ids, &mut batch.targets)
    }
    fn validation_batches(&self) -> usize {
        self.validation.as_ref().map_or(0, |v| v.batches() as usize)
    }
    fn validation(&self, number: usize, batch: &mut Batch) -> Result<()> {
        let Some(validation) = &self.validation else {
            return Err(Error::new(Kind::Input, "evaluate", "nothing is held out"));
        };
        self.shape(batch);
        validation.fill(number as u64, &mut batch.ids, &mut batch.targets).map(|_| ())
    }
    fn bytes_per_token(&self) -> Option<f64> {
        self.bytes_per_token
    }
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}
