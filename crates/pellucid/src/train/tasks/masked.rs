//! Tokens that were hidden (Devlin et al. 2019): an encoder guesses them from both sides.

use super::super::evaluate::Batches;
use super::super::run::RunConfig;
use super::examples::{ExampleBatches, Make};
use super::{
    Facts, Longest, Task, facts, given_tokenizer, learned, longest, read_tokenizer, signed, slices,
};
use crate::data::{Corpus, CorpusOptions, IGNORE, Masking, MaskingOptions, Ragged};
use crate::error::{Error, Kind, Result};
use crate::model::batch::Batch;
use crate::model::config::{Architecture, Config, Output};
use crate::text::{Tokenizer, WordPieceOptions};
use std::sync::Arc;

/// Pieces of texts, each between the tokens that the tokenizer puts around a text.
#[derive(Debug)]
pub struct Masked {
    tokenizer: Tokenizer,
    hide: Hide,
    train: Arc<[Ragged]>,
    validation: Arc<[Ragged]>,
}

#[derive(Clone, Debug)]
struct Hide {
    masking: Masking,
    seed: u64,
}

impl Make for Hide {
    fn make(&self, examples: &[&Ragged], number: u64) -> Result<Batch> {
        let mut ids: Vec<Vec<i32>> = examples.iter().map(|e| signed(&e.target)).collect();
        let mut targets = Vec::with_capacity(ids.len());
        for (row, ids) in ids.iter_mut().enumerate() {
            let mut wanted = vec![IGNORE; ids.len()];
            self.masking.hide(self.seed, number, row as u64, ids, &mut wanted)?;
            targets.push(wanted);
        }
        Batch::ragged(&slices(&ids), &slices(&targets))
    }
}

impl Masked {
    /// Reads the texts that `run` names and makes or loads the tokenizer.
    ///
    /// # Errors
    /// Files that are absent or unreadable; a tokenizer without a token that hides others.
    pub fn open(run: &RunConfig) -> Result<Self> {
        let keys = &run.data;
        let separator = (!keys.separator.is_empty()).then(|| keys.separator.clone());
        let options =
            CorpusOptions { field: keys.field.clone(), separator, ..CorpusOptions::default() };
        let corpus = Corpus::open(&keys.train, options.clone())?;
        let tokenizer = match given_tokenizer(run) {
            Some(tokenizer) => tokenizer?,
            None => tokenizer(run, &corpus)?,
        };
        let masking = MaskingOptions { rate: keys.mask_rate, whole_words: keys.whole_words };
        let hide = Hide { masking: Masking::new(&tokenizer, masking)?, seed: run.train.seed };
        let time = run.train.time.or(run.model.context).unwrap_or(128);
        let mut train = pieces(&tokenizer, &corpus, time)?;
        let validation = if keys.validation.is_empty() {
            let held = (train.len() as f64 * keys.validation_fraction).round() as usize;
            train.split_off(train.len() - held.min(train.len().saturating_sub(1)))
        } else {
            pieces(&tokenizer, &Corpus::open(&keys.validation, options)?, time)?
        };
        Ok(Self { tokenizer, hide, train: train.into(), validation: validation.into() })
    }
}

fn tokenizer(run: &RunConfig, corpus: &Corpus) -> Result<Tokenizer> {
    let keys = &run.data;
    match keys.tokenizer.as_str() {
        "word_piece" => {
            let key = format!("word_piece {} {:x}\n", keys.vocab, corpus.fingerprint());
            learned(&run.data_folder(), &key, || {
                let options = WordPieceOptions::default();
                Tokenizer::train_word_piece(corpus.texts(), keys.vocab, options)
            })
        }
        "characters" | "bytes" | "bpe" => {
            let message =
                format!("data.tokenizer = {} has no token that hides others", keys.tokenizer);
            Err(Error::new(Kind::Config, "train", message)
                .hint("set data.tokenizer = word_piece and data.vocab, or give a tokenizer's path"))
        }
        path => read_tokenizer(path),
    }
}

/// Texts in pieces of at most `time` ids, each inside the tokenizer's template.
fn pieces(tokenizer: &Tokenizer, corpus: &Corpus, time: usize) -> Result<Vec<Ragged>> {
    let frame = tokenizer.encode_pair("", None, None)?.ids;
    let Some(room) = time.checked_sub(frame.len()).filter(|&room| room > 0) else {
        let message =
            format!("train.time = {time} has no room for text in the tokenizer's template");
        return Err(Error::new(Kind::Config, "train", message).hint("choose a longer train.time"));
    };
    // BERT's template has one token before the text.
    let (before, after) = frame.split_at(frame.len().min(1));
    let mut all = vec![];
    for text in corpus.texts() {
        let ids = tokenizer.encode_ordinary(text?.as_ref())?;
        all.extend(
            ids.chunks(room)
                .map(|ids| Ragged { target: [before, ids, after].concat(), ..Ragged::default() }),
        );
    }
    Ok(all)
}

impl Task for Masked {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn facts(&self) -> Facts {
        facts(&self.train, &self.validation)
    }

    fn fit(&self, config: &mut Config) -> Result<()> {
        if config.architecture == Architecture::Encoder && config.output == Output::Tokens {
            return Ok(());
        }
        Err(Error::new(
            Kind::Config,
            "train",
            "data.task = masked needs an encoder with a head for tokens",
        )
        .hint("choose model.preset = bert-mini or bert"))
    }

    fn longest(&self) -> Option<Longest> {
        Some(longest(&self.train))
    }

    fn batches(&self, run: &RunConfig, config: &Config) -> Result<Box<dyn Batches>> {
        let both = (self.train.clone(), self.validation.clone());
        Ok(Box::new(ExampleBatches::new(self.hide.clone(), both, run, config)?))
    }
}
