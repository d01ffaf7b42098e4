//! What a run learns: from its files to batches, one file per task.
//!
//! A task reads the files that the settings name and makes or loads the tokenizer ([`open`]); it says what the data
//! demand of the model ([`Task::fit`]); and it makes the batches.

use super::evaluate::Batches;
use super::resume;
use super::run::{RunConfig, TaskKind};
use crate::checkpoint::text_folder;
use crate::data::Ragged;
use crate::error::{Error, Kind, Result};
use crate::files::{self, Fnv};
use crate::model::config::{Config, Output};
use crate::text::{ChatTemplate, Tokenizer};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// Examples of any lengths as batches.
pub mod examples;
/// The assistant's answers in conversations.
pub mod instructions;
/// The label of a text, or a number for it.
pub mod labels;
/// The next token of a text.
pub mod language;
/// Tokens that were hidden.
pub mod masked;
/// Sequences that follow a law.
pub mod synthetic;
/// The tag of each word.
pub mod tags;
/// A text from another.
pub mod translation;

/// What there is to learn from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Training tokens.
    pub train: u64,
    /// Validation tokens.
    pub validation: u64,
    /// Bytes of text that a validation token stands for on average.
    pub bytes_per_token: Option<f64>,
}

/// Lengths of rows that are not all as long as the settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Longest {
    /// T.
    pub time: usize,
    /// S; 0 without a source.
    pub source_time: usize,
}

/// Files that were read, and what is to be learned from them.
pub trait Task: Debug {
    /// Makes ids.
    fn tokenizer(&self) -> &Tokenizer;
    /// How much there is.
    fn facts(&self) -> Facts;
    /// What a person should know about the data before training.
    fn notes(&self) -> &[String] {
        &[]
    }
    /// Sets what follows from the data in the model's sizes, such as labels.
    ///
    /// # Errors
    /// A model that cannot learn this.
    fn fit(&self, config: &mut Config) -> Result<()>;
    /// The longest rows, where they are of different lengths.
    fn longest(&self) -> Option<Longest> {
        None
    }
    /// Batches for a model of these sizes.
    ///
    /// # Errors
    /// Too little text for a batch; rows beyond the model's context.
    fn batches(&self, run: &RunConfig, config: &Config) -> Result<Box<dyn Batches>>;
    /// What conversations look like, where it learns from such.
    fn template(&self) -> Option<&ChatTemplate> {
        None
    }
    /// The id with which a decoder starts, where it is not the text's own first.
    fn decoder_start(&self) -> Option<u32> {
        None
    }
}

/// Reads what `run` names. `progress` gets bytes done and bytes in all; an error from it ends the work.
///
/// # Errors
/// Files that are absent or unreadable, or faults in them, with their lines; a full disk.
pub fn open(
    run: &RunConfig,
    progress: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<Box<dyn Task>> {
    Ok(match run.data.task {
        TaskKind::Language => Box::new(language::Language::open(run, progress)?),
        TaskKind::Translation => Box::new(translation::Translation::open(run)?),
        TaskKind::Masked => Box::new(masked::Masked::open(run)?),
        TaskKind::Labels | TaskKind::Numbers => Box::new(labels::Labels::open(run)?),
        TaskKind::Tags => Box::new(tags::Tags::open(run)?),
        TaskKind::Instructions => Box::new(instructions::Instructions::open(run)?),
        TaskKind::Markov | TaskKind::Repeat | TaskKind::Sort | TaskKind::Modular => {
            Box::new(synthetic::Synthetic::open(run)?)
        }
    })
}

/// The folder of the model that the run starts from.
///
/// # Errors
/// No model there.
pub fn start_folder(run: &RunConfig) -> Result<Option<PathBuf>> {
    let find = |folder: &String| {
        let folder = Path::new(folder);
        resume::find(folder, "best").or_else(|_| resume::find(folder, "last"))
    };
    run.train.start.as_ref().map(find).transpose()
}

/// The tokenizer that need not be made: that of the model to start from; or that of the run's last checkpoint, if the
/// settings still name the same one: learning it again would cost time, and a changed file would change ids.
fn given_tokenizer(run: &RunConfig) -> Option<Result<Tokenizer>> {
    match start_folder(run) {
        Err(e) => return Some(Err(e)),
        Ok(Some(folder)) => {
            return Some(text_folder(&folder).and_then(|f| Tokenizer::from_folder(&f)));
        }
        Ok(None) => {}
    }
    let last = resume::find(Path::new(&run.checkpoint.folder), "last").ok()?;
    let saved = RunConfig::load(&last.join("run.toml")).ok()?;
    let same = saved.data.tokenizer == run.data.tokenizer && saved.data.vocab == run.data.vocab;
    (same && last.join("tokenizer.json").is_file()).then(|| Tokenizer::from_folder(&last))
}

/// A tokenizer from where `data.tokenizer` says, unless it is to be learned.
fn read_tokenizer(path: &str) -> Result<Tokenizer> {
    if Path::new(path).is_dir() {
        return Tokenizer::from_folder(Path::new(path));
    }
    Tokenizer::from_file(Path::new(path)).map_err(|e| match e.kind() {
        Kind::Io => e.hint("data.tokenizer is characters, bytes, bpe, or the path of a tokenizer"),
        _ => e,
    })
}

/// The tokenizer of a task whose model must know the language already; `what` it learns.
fn known_tokenizer(run: &RunConfig, what: &str) -> Result<Tokenizer> {
    given_tokenizer(run).unwrap_or_else(|| {
        read_tokenizer(&run.data.tokenizer).map_err(|e| {
            e.hint(format!("{what} are learned by a model that knows its language: set train.start to its folder"))
        })
    })
}

/// Puts a layer that scores `names` where the stack's own head was.
fn label_with(config: &mut Config, output: Output, names: &[String]) -> Result<()> {
    if config.has_source() {
        let what = if output == Output::Positions { "tags" } else { "labels" };
        let message = format!("{what} are learned by an encoder or a decoder");
        return Err(Error::new(Kind::Config, "train", message)
            .hint("start from a model like BERT, which reads both sides of a word, or GPT-2"));
    }
    config.output = output;
    config.labels = names.to_vec();
    (config.head_bias, config.head_transform, config.scaled_head) = (false, false, false);
    Ok(())
}

/// A learned tokenizer is kept in the run's data folder, with what it was learned from: `key`.
fn learned(
    folder: &Path,
    key: &str,
    learn: impl FnOnce() -> Result<Tokenizer>,
) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.key");
    if path.is_file() && files::read("train", &path)? == key.as_bytes() {
        return Tokenizer::from_folder(folder);
    }
    let tokenizer = learn()?;
    if path.is_file() {
        // The old key must not vouch for the new files.
        std::fs::remove_file(&path).map_err(|e| Error::io("train", &path, e))?;
    }
    tokenizer.save_folder(folder)?;
    files::replace("train", &path, |w| w.write_all(key.as_bytes()))?;
    Ok(tokenizer)
}

fn slices<T>(rows: &[Vec<T>]) -> Vec<&[T]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn signed(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|&id| id as i32).collect()
}

fn facts(train: &[Ragged], validation: &[Ragged]) -> Facts {
    let tokens = |examples: &[Ragged]| examples.iter().map(|e| e.tokens() as u64).sum();
    Facts { train: tokens(train), validation: tokens(validation), bytes_per_token: None }
}

/// The longest of `examples` that have no source.
fn longest(examples: &[Ragged]) -> Longest {
    let time = examples.iter().map(|e| e.target.len()).max().unwrap_or(0);
    Longest { time, source_time: 0 }
}

/// Adds ids and how many they are.
fn add_ids(hash: &mut Fnv, ids: &[u32]) {
    hash.add(&(ids.len() as u64).to_le_bytes());
    ids.iter().for_each(|id| hash.add(&id.to_le_bytes()));
}
