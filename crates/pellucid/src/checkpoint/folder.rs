//! A checkpoint folder, written and read whole.

use super::generation::{GenerationConfig, fault};
use super::names::{Family, Piece, Place, config_json, parse_config};
use super::safetensors::{Entry, StoredType, TensorFile, Values, shape_text};
use super::snapshot::Snapshot;
use super::transaction::{Transaction, plain_name};
use crate::backend::cpu::stored::Format;
use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::weights::{Weights, parameters};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

const SAVE: &str = "save checkpoint";
pub(super) const LOAD: &str = "load checkpoint";
pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const GENERATION: &str = "generation_config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Most faults printed.
const MOST_FAULTS: usize = 24;

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
/// An invalid config, weights of another config, [`StoredType::F16`], the disk.
pub fn save(
    folder: &Path,
    config: &Config,
    weights: &Weights,
    tokenizer_json: Option<&str>,
    generation: &GenerationConfig,
    stored: StoredType,
) -> Result<()> {
    let mut transaction = Transaction::begin(folder)?;
    write_into(&mut transaction, config, weights, tokenizer_json, generation, stored)?;
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
    stored: StoredType,
) -> Result<()> {
    config.validate()?;
    if stored == StoredType::F16 {
        return Err(Error::new(Kind::Config, SAVE, "weights are not written in F16")
            .hint("choose F32 or BF16; half precision overflows above 65504"));
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
    let config = config_json(config, generation, stored)?;
    let text = |s: String| move |w: &mut dyn Write| w.write_all(s.as_bytes());
    transaction.write(CONFIG, text(config))?;
    transaction.write(GENERATION, text(generation.to_json()))?;
    match tokenizer_json {
        Some(json) => transaction.write(TOKENIZER, text(json.to_owned()))?,
        None => transaction.remove(TOKENIZER)?,
    }
    transaction.remove(INDEX)?;
    transaction
        .write(WEIGHTS, |w| super::safetensors::write_entries(w, &entries, &metadata, stored))
}

/// Only the sizes and the family, from `config.json`.
///
/// # Errors
/// No such file, or one that [`load`] would refuse.
pub fn load_config(folder: &Path) -> Result<(Family, Config)> {
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

/// Opens all files as they stand together and reads all but the weights.
pub(super) fn open(folder: &Path) -> Result<Opened> {
    let names = [CONFIG, WEIGHTS, INDEX, GENERATION, TOKENIZER];
    let mut snapshot = Snapshot::open(folder, &names)?;
    let mut shards = BTreeSet::new();
    if !snapshot.has(WEIGHTS) && snapshot.has(INDEX) {
        let text = snapshot.take_text(INDEX)?.unwrap_or_default();
        shards = shard_names(&text, &folder.join(INDEX).display().to_string())?;
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
    if let Some(text) = &tokenizer {
        check_tokenizer(text, &config, folder)?;
    }
    Ok(Opened { family, config, format, files, generation, tokenizer })
}

/// Reads a checkpoint: ours, or one of `transformers` whose family we know, in one file or in shards, with weights in
/// F32, F16 or BF16. NaN and infinity are read as they are.
///
/// # Errors
/// A missing, truncated or damaged file; a config this library cannot express; tensors that are missing, unexpected,
/// of the wrong shape or type (all are listed); a tokenizer with more tokens than the model; weights in int8 or int4,
/// which [`load_stored`](super::load_stored) reads.
pub fn load(folder: &Path) -> Result<Loaded> {
    let Opened { family, config, format, files, generation, tokenizer } = open(folder)?;
    if let Some(format) = format {
        let message = format!("{}: the weights are {} codes", folder.display(), format.name());
        return Err(Error::new(Kind::Format, LOAD, message)
            .hint("generate and eval read them; train on the model they were made from"));
    }
    let (weights, stored) = assemble(&config, family, &files)?;
    Ok(Loaded { config, weights, generation, tokenizer, family, stored })
}

/// The shards' file names from the text of an index.
fn shard_names(text: &str, name: &str) -> Result<BTreeSet<String>> {
    let index: Value = serde_json::from_str(text)
        .map_err(|e| fault(LOAD, format!("{name}: not JSON: {e}")).source(e))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| fault(LOAD, format!("{name}: no object \"weight_map\"")))?;
    let mut shards = BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().unwrap_or_default();
        plain_name(file).map_err(|e| e.fact(format!("{name}: the file of {tensor}")))?;
        shards.insert(file.to_owned());
    }
    Ok(shards)
}

/// The weights of `config` from safetensors files that use `family`'s names.
pub(crate) fn assemble(
    config: &Config,
    family: Family,
    files: &[TensorFile],
) -> Result<(Weights, StoredType)> {
    let plan = matched(config, family, files)?;
    let mut weights = Weights::zeros(config);
    let stored = plan.first().map_or(Ok(StoredType::F32), |(_, file, name)| file.stored(name))?;
    for (piece, file, name) in &plan {
        read_piece(piece, file, name, &mut weights)?;
    }
    Ok((weights, stored))
}

/// A piece of our weights, the file that holds it, and its name there.
pub(super) type Match<'f> = (Piece, &'f TensorFile, &'f str);

/// Every piece that the files hold; an error lists all that does not fit.
pub(super) fn matched<'f>(
    config: &Config,
    family: Family,
    files: &'f [TensorFile],
) -> Result<Vec<Match<'f>>> {
    plausible(config, files)?;
    let pieces = family.pieces(config);
    let mut found: HashMap<String, (&TensorFile, &str)> = HashMap::new();
    let mut faults = Vec::new();
    for file in files {
        for name in file.names() {
            if found.insert(family.canonical(name), (file, name)).is_some() {
                faults.push(format!("twice: {name}"));
            }
        }
    }
    let mut plan = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match found.remove(&piece.name) {
            None if matches!(piece.place, Place::Alias(_)) => {}
            None => faults.push(format!("missing: {} {}", piece.name, shape_text(&piece.shape))),
            Some((file, name)) => match check(&piece, file, name) {
                Ok(()) => plan.push((piece, file, name)),
                Err(fault) => faults.push(fault),
            },
        }
    }
    let mut extra: Vec<_> = found.into_iter().filter(|(name, _)| !family.ignores(name)).collect();
    extra.sort_by(|a, b| a.0.cmp(&b.0));
    faults.extend(extra.into_iter().map(|(_, (_, name))| format!("unexpected: {name}")));
    if !faults.is_empty() {
        return Err(mismatch(files, &faults));
    }
    Ok(plan)
}

fn check(piece: &Piece, file: &TensorFile, name: &str) -> Result<(), String> {
    let shape = file.shape(name).map_err(|e| e.to_string())?;
    if shape != piece.shape {
        let (found, expected) = (shape_text(shape), shape_text(&piece.shape));
        return Err(format!("wrong shape: {name} is {found}, but config.json says {expected}"));
    }
    file.stored(name).map(drop).map_err(|e| format!("wrong type: {e}"))
}

pub(super) fn mismatch(files: &[TensorFile], faults: &[String]) -> Error {
    let count = faults.len();
    let path = files.first().map_or_else(String::new, |f| f.path().display().to_string());
    let plural = if count == 1 { " does" } else { "s do" };
    let mut error = fault(LOAD, format!("{path}: {count} tensor{plural} not fit config.json"));
    for fault in faults.iter().take(MOST_FAULTS) {
        error = error.fact(fault);
    }
    if count > MOST_FAULTS {
        error = error.fact(format!("and {} more", count - MOST_FAULTS));
    }
    let embedding = faults
        .iter()
        .any(|f| f.starts_with("wrong shape") && (f.contains("wte") || f.contains("embed_tokens")));
    error.hint(if embedding {
        "if tokens were added, set vocab_size to the embedding's rows"
    } else {
        "config.json and the weights must come from one model"
    })
}

/// Refuses a config that asks for far more than the files hold, before any memory is asked for.
pub(super) fn plausible(config: &Config, files: &[TensorFile]) -> Result<()> {
    let held: u128 = files.iter().map(TensorFile::elements).sum();
    let tensors: usize = files.iter().map(|f| f.names().count()).sum();
    let n = |size: usize| size as u128;
    let (c, f, v) = (n(config.width), n(config.hidden), n(config.vocab));
    let (queries, keys) =
        (n(config.heads) * n(config.head_width), n(config.kv_heads) * n(config.head_width));
    let up = if config.gated { 2 } else { 1 };
    // Every factor is below 2^31, so no product of three overflows.
    let block = (2 * queries + 2 * keys) * c + (up + 1) * f * c;
    let wanted = block.saturating_mul(n(config.layers)).saturating_add(v * c);
    if wanted > 4 * held + (1 << 20) || config.layers > tensors + 16 {
        let message = format!("config.json speaks of {wanted} weights in {} blocks", config.layers);
        return Err(fault(LOAD, message)
            .fact(format!("the files hold {held} in {tensors} tensors"))
            .hint("config.json and the weights must come from one model; or the file is damaged"));
    }
    Ok(())
}

/// Reads one piece into `weights`, which have its parameter.
pub(super) fn read_piece(
    piece: &Piece,
    file: &TensorFile,
    name: &str,
    weights: &mut Weights,
) -> Result<()> {
    let columns: usize = piece.shape[1..].iter().product();
    match &piece.place {
        Place::Rows(ours, rows) => {
            let values = weights.get_mut(ours)?;
            file.read_into(name, &mut values[rows.start * columns..rows.end * columns])
        }
        Place::Transposed(ours) => {
            // (c, r) in the file becomes (r, c): sixteen of its rows fill one cache line of ours.
            const ROWS: usize = 16;
            let (values, wide) = (weights.get_mut(ours)?, piece.shape[0]);
            file.for_pieces(name, ROWS * columns, |start, elements| {
                for (i, block) in elements.chunks(ROWS * columns).enumerate() {
                    let first = start / columns + i * ROWS;
                    for r in 0..columns {
                        for j in 0..block.len() / columns {
                            values[r * wide + first + j] = block[j * columns + r];
                        }
                    }
                }
                Ok(())
            })
        }
        Place::Zeros => file.for_pieces(name, 1, |start, elements| {
            match elements.iter().position(|&x| x != 0.0) {
                None => Ok(()),
                Some(i) => Err(fault(
                    LOAD,
                    format!("{name}[{}] = {}, but config.json says there is no bias", start + i, elements[i]),
                )
                .hint("the model was trained elsewhere: set bias and norm_bias under \"pellucid\" to true")),
            }
        }),
        Place::Alias(ours) => {
            let values = weights.get(ours)?;
            file.for_pieces(name, 1, |start, elements| {
                let own = &values[start..start + elements.len()];
                if own.iter().zip(elements).all(|(a, b)| a.to_bits() == b.to_bits()) {
                    return Ok(());
                }
                Err(fault(LOAD, format!("{name} differs from the token embedding it is tied to"))
                    .hint("set tie_word_embeddings to false, in \"pellucid\" tied_head as well"))
            })
        }
    }
}

/// Whether the ids of a tokenizer fit the model. What is not a tokenizer of this shape is left to `text` to judge.
fn check_tokenizer(text: &str, config: &Config, folder: &Path) -> Result<()> {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Ok(()) };
    let vocabulary = value.pointer("/model/vocab");
    let ids = vocabulary.and_then(Value::as_object).into_iter().flat_map(|map| map.values());
    let added = value.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let listed = vocabulary.and_then(Value::as_array).map_or(0, |list| list.len() as u64);
    let most = ids
        .chain(added.filter_map(|token| token.get("id")))
        .filter_map(Value::as_u64)
        .map(|id| id.saturating_add(1))
        .fold(listed, u64::max);
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
