//! A checkpoint folder, written and read whole.

use super::adapter;
use super::assemble::assemble;
use super::generation::{GenerationConfig, fault};
use super::names::{Family, Place, config_json, parse_config};
use super::safetensors::{Entry, StoredType, TensorFile, Values};
use super::shards::{self, Layout};
use super::snapshot::Snapshot;
use super::transaction::Transaction;
use crate::backend::cpu::stored::Format;
use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::weights::{Weights, parameters};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::resume_unwind;
use std::path::Path;

pub(super) const SAVE: &str = "save checkpoint";
pub(super) const LOAD: &str = "load checkpoint";
pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const GENERATION: &str = "generation_config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Bytes of a tokenizer that are worth a thread.
const LARGE_TEXT: usize = 1 << 18;

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Loaded {
    /// Sizes and choices.
    pub config: Config,
    /// The weights, in f32 whatever the file has.
    pub weights: Weights,
    /// How to sample; defaults if the folder does not say.
    pub generation: GenerationConfig,
    /// The text of `tokenizer.json`.
    pub tokenizer: Option<String>,
    /// Whose names the folder uses.
    pub family: Family,
    /// How the first tensor is stored.
    pub stored: StoredType,
}

/// Writes a checkpoint over whatever `folder` holds, all at once: see [`transaction`](super::transaction).
///
/// Without `tokenizer_json` the new checkpoint has no `tokenizer.json`.
///
/// # Errors
/// An invalid config, weights of another config or too large for [`StoredType::F16`], the disk.
pub fn save(
    folder: &Path,
    config: &Config,
    weights: &Weights,
    tokenizer_json: Option<&str>,
    generation: &GenerationConfig,
    layout: impl Into<Layout>,
) -> Result<()> {
    let mut transaction = Transaction::begin(folder)?;
    write_into(&mut transaction, config, weights, tokenizer_json, generation, layout)?;
    transaction.commit()
}

/// As [`save`], as a part of a transaction that may hold more files, such as the state of the optimizer.
///
/// # Errors
/// As [`save`].
pub fn write_into(
    transaction: &mut Transaction,
    config: &Config,
    weights: &Weights,
    tokenizer_json: Option<&str>,
    generation: &GenerationConfig,
    layout: impl Into<Layout>,
) -> Result<()> {
    let layout = layout.into();
    config.validate()?;
    if config.adapter.is_some() {
        let message = "the model has an adapter, which a folder of weights cannot hold";
        return Err(Error::new(Kind::Config, SAVE, message).hint("merge it, or save the adapter"));
    }
    if weights.specs() != parameters(config) {
        return Err(Error::new(Kind::Shape, SAVE, "the weights belong to another config"));
    }
    let family = Family::of(config);
    let pieces = family.pieces(config);
    let mut entries = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let values = match &piece.place {
            Place::Alias(_) => continue,
            Place::Zeros => Values::Zeros,
            Place::Transposed(ours) => Values::Transposed(weights.get(ours)?),
            Place::Rows(ours, rows) => {
                let columns: usize = piece.shape[1..].iter().product();
                Values::Plain(&weights.get(ours)?[rows.start * columns..rows.end * columns])
            }
        };
        entries.push(Entry { name: piece.name, shape: piece.shape, values });
    }
    // transformers refuses files that do not say which framework's layout they have.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let config = config_json(config, generation, layout.stored)?;
    let text = |s: String| move |w: &mut dyn Write| w.write_all(s.as_bytes());
    transaction.write(CONFIG, text(config))?;
    transaction.write(GENERATION, text(generation.to_json()))?;
    match tokenizer_json {
        Some(json) => transaction.write(TOKENIZER, text(json.to_owned()))?,
        None => transaction.remove(TOKENIZER)?,
    }
    shards::write(transaction, entries, &metadata, layout)
}

/// Only the sizes and the family, from `config.json`.
///
/// # Errors
/// No such file, or one that [`load`] would refuse.
pub fn load_config(folder: &Path) -> Result<(Family, Config)> {
    if adapter::is_one(folder) {
        return adapter::load_config(folder);
    }
    read_config(folder, &mut Snapshot::open(folder, &[CONFIG])?)
}

fn read_config(folder: &Path, snapshot: &mut Snapshot) -> Result<(Family, Config)> {
    let text = config_text(folder, snapshot)?;
    parse_config(&text, &folder.join(CONFIG).display().to_string())
}

/// The text of `config.json`.
pub(super) fn config_text(folder: &Path, snapshot: &mut Snapshot) -> Result<String> {
    snapshot.take_text(CONFIG)?.ok_or_else(|| {
        let message = format!("{}: no {CONFIG} is there", folder.display());
        Error::new(Kind::Io, LOAD, message)
            .hint("give a folder that pellucid, or save_pretrained of transformers, wrote")
    })
}

/// A checkpoint whose weights are not read yet.
pub(super) struct Opened {
    pub(super) family: Family,
    pub(super) config: Config,
    /// The format of a folder that holds codes.
    pub(super) format: Option<Format>,
    pub(super) files: Vec<TensorFile>,
    pub(super) generation: GenerationConfig,
    pub(super) tokenizer: Option<String>,
}

impl Opened {
    /// Does `work`, such as reading the weights, while the tokenizer's text is checked.
    pub(super) fn checking_tokenizer<T>(
        &self,
        folder: &Path,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(text) = self.tokenizer.as_deref() else { return work() };
        if text.len() <= LARGE_TEXT {
            let done = work()?;
            return check_tokenizer(text, &self.config, folder).map(|()| done);
        }
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| check_tokenizer(text, &self.config, folder));
            let done = work();
            let fits = beside.join().unwrap_or_else(|panic| resume_unwind(panic));
            let done = done?;
            fits.map(|()| done)
        })
    }
}

/// Opens all files as they stand together and reads all but the weights; the tokenizer's text is not checked yet.
pub(super) fn open(folder: &Path) -> Result<Opened> {
    let names = [CONFIG, WEIGHTS, INDEX, GENERATION, TOKENIZER];
    let mut snapshot = Snapshot::open(folder, &names)?;
    let mut shards = BTreeSet::new();
    if !snapshot.has(WEIGHTS) && snapshot.has(INDEX) {
        let text = snapshot.take_text(INDEX)?.unwrap_or_default();
        shards = shards::names(&text, &folder.join(INDEX).display().to_string())?;
        let all: Vec<&str> = names.into_iter().chain(shards.iter().map(String::as_str)).collect();
        snapshot = Snapshot::open(folder, &all)?;
    } else {
        shards.insert(WEIGHTS.to_owned());
    }
    let (text, name) = (config_text(folder, &mut snapshot)?, folder.join(CONFIG));
    let name = name.display().to_string();
    let (family, config) = parse_config(&text, &name)?;
    let format = super::quantised::format_of(&text, &name)?;
    let mut files = Vec::with_capacity(shards.len());
    for shard in &shards {
        let (path, file) = snapshot.take(shard).ok_or_else(|| {
            Error::new(Kind::Io, LOAD, format!("{}: no {shard} is there", folder.display()))
                .hint("save the model with safe_serialization=True; pickled weights are not read")
        })?;
        files.push(TensorFile::open(file, &path)?);
    }
    let generation = match snapshot.take_text(GENERATION)? {
        Some(text) => {
            GenerationConfig::from_json(&text, &folder.join(GENERATION).display().to_string())?
        }
        None => GenerationConfig::default(),
    };
    let tokenizer = snapshot.take_text(TOKENIZER)?;
    Ok(Opened { family, config, format, files, generation, tokenizer })
}

/// Reads a checkpoint: ours, or one of `transformers` whose family we know, in one file or in shards, with weights in
/// F32, F16 or BF16. NaN and infinity are read as they are.
///
/// # Errors
/// A missing, truncated or damaged file; a config this library cannot express; tensors that are missing, unexpected,
/// of the wrong shape or type (all are listed); a tokenizer with more tokens than the model; weights in int8 or int4,
/// which [`load_stored`](super::load_stored) reads. Of a folder of LoRA factors, the model they belong to is read and
/// they are merged into it.
pub fn load(folder: &Path) -> Result<Loaded> {
    if adapter::is_one(folder) {
        return adapter::load(folder);
    }
    let opened = open(folder)?;
    if let Some(format) = opened.format {
        let message = format!("{}: the weights are {} codes", folder.display(), format.name());
        return Err(Error::new(Kind::Format, LOAD, message)
            .hint("generate and eval read them; train on the model they were made from"));
    }
    let (weights, stored) = opened
        .checking_tokenizer(folder, || assemble(&opened.config, opened.family, &opened.files))?;
    let Opened { family, config, generation, tokenizer, .. } = opened;
    Ok(Loaded { config, weights, generation, tokenizer, family, stored })
}

/// Of a `tokenizer.json`, what tells its ids; the rest is skipped without being kept.
#[derive(Deserialize)]
struct Ids {
    model: Option<IdsOfModel>,
    added_tokens: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct IdsOfModel {
    vocab: Option<Vocabulary>,
}

/// One more than the greatest id of a vocabulary, which maps spellings to ids or lists them in order.
struct Vocabulary(u64);

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Greatest;
        impl<'de> Visitor<'de> for Greatest {
            type Value = Vocabulary;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a vocabulary")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Vocabulary, A::Error> {
                let mut most = 0;
                while let Some((_, id)) = map.next_entry::<IgnoredAny, Value>()? {
                    most = most.max(id.as_u64().map_or(0, |id| id.saturating_add(1)));
                }
                Ok(Vocabulary(most))
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> std::result::Result<Vocabulary, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Vocabulary(count))
            }
        }
        deserializer.deserialize_any(Greatest)
    }
}

/// One more than the greatest id in the text of a `tokenizer.json`; none of what is not of its shape.
pub(super) fn ids_of_tokenizer(text: &str) -> Option<u64> {
    let ids = serde_json::from_str::<Ids>(text).ok()?;
    let added = (ids.added_tokens.iter().flatten())
        .filter_map(|token| token.get("id").and_then(Value::as_u64))
        .map(|id| id.saturating_add(1));
    Some(added.fold(ids.model.and_then(|m| m.vocab).map_or(0, |v| v.0), u64::max))
}

/// Whether the ids of a tokenizer fit the model. What is not a tokenizer of this shape is left to `text` to judge.
fn check_tokenizer(text: &str, config: &Config, folder: &Path) -> Result<()> {
    let Some(most) = ids_of_tokenizer(text) else { return Ok(()) };
    if most <= config.vocab as u64 {
        return Ok(());
    }
    let message = format!(
        "{}: ids up to {}, but the model's vocab = {}",
        folder.join(TOKENIZER).display(),
        most - 1,
        config.vocab
    );
    Err(fault(LOAD, message).hint("the tokenizer belongs to another model"))
}
