//! A text from another: pairs of sentences, one vocabulary for both sides.

use super::super::evaluate::Batches;
use super::super::run::RunConfig;
use super::examples::{ExampleBatches, Make};
use super::{Facts, Longest, Task, facts, given_tokenizer, learned, read_tokenizer, slices};
use crate::data::{Column, ParallelSource, Ragged, TextPair, read_parallel};
use crate::error::{Error, Kind, Result};
use crate::files::Fnv;
use crate::model::batch::Batch;
use crate::model::config::Config;
use crate::text::{Specials, Tokenizer};
use std::path::PathBuf;
use std::sync::Arc;

/// Pairs of sentences in ids.
#[derive(Debug)]
pub struct Translation {
    tokenizer: Tokenizer,
    frame: Frame,
    train: Arc<[Ragged]>,
    validation: Arc<[Ragged]>,
}

/// The ids that begin and end a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// With which the decoder starts.
    pub start: i32,
    /// With which a target ends.
    pub end: i32,
    /// Whether a source ends with it too, as it does unless the tokenizer says that nothing is added.
    pub ends_source: bool,
}

impl Frame {
    /// As the tokenizer's special tokens are.
    ///
    /// # Errors
    /// A tokenizer without a token that ends a text.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let ids = tokenizer.special_ids();
        let Some(end) = ids.eos else {
            return Err(Error::new(
                Kind::Config,
                "translation",
                "the tokenizer has no token that ends a text",
            )
            .hint("let data.tokenizer = bpe learn one, or give one with </s>"));
        };
        // Marian starts with the padding token, others with the one that begins a text.
        let start = ids.bos.or(ids.pad).unwrap_or(end);
        let ends_source = !tokenizer.adds_nothing();
        Ok(Self { start: start as i32, end: end as i32, ends_source })
    }

    /// What the encoder reads.
    #[must_use]
    pub fn source(self, ids: &[u32]) -> Vec<i32> {
        let end = self.ends_source.then_some(self.end);
        ids.iter().map(|&id| id as i32).chain(end).collect()
    }
}

impl Make for Frame {
    fn make(&self, examples: &[&Ragged], _: u64) -> Result<Batch> {
        let sources: Vec<Vec<i32>> = examples.iter().map(|e| self.source(&e.source)).collect();
        let with = |e: &&Ragged, first: Option<i32>, last: Option<i32>| -> Vec<i32> {
            first.into_iter().chain(e.target.iter().map(|&id| id as i32)).chain(last).collect()
        };
        let given: Vec<_> = examples.iter().map(|e| with(e, Some(self.start), None)).collect();
        let wanted: Vec<_> = examples.iter().map(|e| with(e, None, Some(self.end))).collect();
        Batch::ragged(&slices(&given), &slices(&wanted))?.with_source(&slices(&sources))
    }
}

impl Translation {
    /// Reads the pairs that `run` names and makes or loads the tokenizer.
    ///
    /// # Errors
    /// As [`read_parallel`]; no tokenizer, or one without a token that ends a text.
    pub fn open(run: &RunConfig) -> Result<Self> {
        let keys = &run.data;
        let train = read(&keys.train, &keys.target, &keys.columns)?;
        let validation = match keys.validation.is_empty() {
            true => vec![],
            false => read(&keys.validation, &keys.validation_target, &keys.columns)?,
        };
        let tokenizer = match given_tokenizer(run) {
            Some(tokenizer) => tokenizer?,
            None => tokenizer(run, &train)?,
        };
        let frame = Frame::of(&tokenizer)?;
        let encode = |pairs: &[TextPair]| -> Result<Arc<[Ragged]>> {
            let one = |pair: &TextPair| -> Result<Ragged> {
                let source = tokenizer.encode_ordinary(&pair.source)?;
                let target = tokenizer.encode_ordinary(&pair.target)?;
                Ok(Ragged { source, target, ..Ragged::default() })
            };
            pairs.iter().map(one).collect()
        };
        let (train, validation) = (encode(&train)?, encode(&validation)?);
        Ok(Self { tokenizer, frame, train, validation })
    }
}

fn read(sources: &[String], targets: &[String], columns: &[String]) -> Result<Vec<TextPair>> {
    let columns = match columns {
        [] => None,
        [source, target] => Some((Column::from(source.as_str()), Column::from(target.as_str()))),
        _ => {
            let message = format!("data.columns = {columns:?}, but a translation has two");
            return Err(Error::new(Kind::Config, "train", message)
                .hint("name the column of the source and that of the target"));
        }
    };
    let mut pairs = vec![];
    for (i, source) in sources.iter().enumerate() {
        let from = match targets.get(i) {
            Some(target) => ParallelSource::Files { source: source.into(), target: target.into() },
            None => {
                ParallelSource::Columns { path: PathBuf::from(source), columns: columns.clone() }
            }
        };
        pairs.extend(read_parallel(&from)?);
    }
    Ok(pairs)
}

/// One vocabulary for both sides, so that names and numbers are the same pieces and embeddings can be shared.
fn tokenizer(run: &RunConfig, pairs: &[TextPair]) -> Result<Tokenizer> {
    if run.data.tokenizer != "bpe" {
        return match run.data.tokenizer.as_str() {
            "characters" | "bytes" => {
                Err(Error::new(Kind::Config, "train", "translation has one vocabulary of pieces")
                    .hint("set data.tokenizer = bpe and data.vocab, or give a tokenizer's path"))
            }
            path => read_tokenizer(path),
        };
    }
    let specials = Specials::translation();
    let texts = || pairs.iter().flat_map(|p| [&p.source, &p.target]);
    let mut hash = Fnv::new();
    texts().for_each(|text| hash.add(text.as_bytes()));
    let key = format!("joint bpe {} {}\n", run.data.vocab, hash.text());
    learned(&run.data_folder(), &key, || {
        Tokenizer::train_bpe(texts().map(Ok), run.data.vocab, &specials)
    })
}

impl Task for Translation {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn facts(&self) -> Facts {
        facts(&self.train, &self.validation)
    }

    fn fit(&self, config: &mut Config) -> Result<()> {
        if config.has_source() {
            return Ok(());
        }
        Err(Error::new(Kind::Config, "train", "data.task = translation needs an encoder-decoder")
            .hint("choose model.preset = transformer-tiny, -iwslt, -base or -big"))
    }

    fn longest(&self) -> Option<Longest> {
        let longest = |side: fn(&Ragged) -> usize| self.train.iter().map(side).max().unwrap_or(0);
        // The end of the source; the start of what the decoder reads.
        let (time, source_time) =
            (longest(|e| e.target.len()) + 1, longest(|e| e.source.len()) + 1);
        Some(Longest { time, source_time })
    }

    fn batches(&self, run: &RunConfig, config: &Config) -> Result<Box<dyn Batches>> {
        let both = (self.train.clone(), self.validation.clone());
        Ok(Box::new(ExampleBatches::new(self.frame, both, run, config)?))
    }

    fn decoder_start(&self) -> Option<u32> {
        Some(self.frame.start as u32)
    }
}
