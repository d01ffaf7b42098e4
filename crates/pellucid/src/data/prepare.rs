//! A corpus to token shards in a folder, once: the next call with the same sources finds them.

use super::corpus::{Corpus, Piece};
use super::random::mix;
use super::shard::{Shard, ShardWriter};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::text::{Origin, Tokenizer};
use serde::{Deserialize, Serialize};
use std::path::Path;

const PREPARE: &str = "prepare data";

/// What of a corpus is for validation. Fractions are in `0..1`; at 0 there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Split {
    /// [`Self::Position`] for a single plain text, [`Self::Documents`] for anything else.
    Auto(f64),
    /// The last part of the text, counted in characters: of n characters, the first
    /// `floor(n * (1 - fraction))` are for training. With 0.1 this is nanoGPT's split.
    Position(f64),
    /// Whole documents, chosen by a hash of how they begin: equal documents fall on the same side,
    /// and a growing corpus keeps the side of the documents that it had.
    Documents(f64),
}

impl Split {
    fn fraction(self) -> f64 {
        match self {
            Self::Auto(f) | Self::Position(f) | Self::Documents(f) => f,
        }
    }
}

/// What to prepare.
pub struct Plan<'a> {
    /// Text for training, and for validation unless that is given apart.
    pub corpus: &'a Corpus,
    /// Text for validation; `split` is then not used.
    pub validation: Option<&'a Corpus>,
    /// Makes the ids.
    pub tokenizer: &'a Tokenizer,
    /// What of `corpus` is for validation.
    pub split: Split,
}

/// Token shards of one corpus.
#[derive(Debug)]
pub struct Shards {
    /// For training.
    pub train: Shard,
    /// For validation, if any.
    pub validation: Option<Shard>,
    /// Whether they were there already.
    pub reused: bool,
}

/// `shards.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    /// Of sources, options, tokenizer and split.
    fingerprint: String,
    tokenizer: String,
    vocabulary: usize,
    split: String,
    train_tokens: u64,
    validation_tokens: u64,
    sources: Vec<ManifestSource>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ManifestSource {
    path: String,
    bytes: u64,
    modified: u64,
}

/// Encodes the corpus into `train.bin` and `validation.bin` of `folder`, with bounded memory, or
/// opens the ones that are there if sources, tokenizer and split are still the same. `progress` gets
/// bytes done and bytes in all; an error from it ends the work.
///
/// Between documents stands the tokenizer's end token; without one, the separator of the documents
/// or a line end. A single plain text gets neither.
///
/// # Errors
/// Unreadable text, a character that the tokenizer lacks, a full disk, or no text for training.
pub fn prepare(
    folder: &Path,
    plan: &Plan<'_>,
    progress: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<Shards> {
    let fraction = plan.split.fraction();
    if !(0.0..1.0).contains(&fraction) {
        let message = format!("validation fraction {fraction}; it must be at least 0 and below 1");
        return Err(Error::new(Kind::Config, PREPARE, message).hint("0.1 is usual"));
    }
    let mut manifest = describe(plan);
    if let Some(shards) = reuse(folder, &manifest)? {
        return Ok(shards);
    }
    // The old manifest must not vouch for new files.
    let path = folder.join("shards.json");
    if path.exists() {
        std::fs::remove_file(&path).map_err(|e| Error::io(PREPARE, &path, e))?;
    }
    let mut train = ShardWriter::create(&folder.join("train.bin"), plan.tokenizer)?;
    let mut validation = ShardWriter::create(&folder.join("validation.bin"), plan.tokenizer)?;
    let mut meter = Meter { done: 0, total: total(plan), progress };
    match plan.validation {
        None => {
            let side = Side::of(plan)?;
            encode(plan.corpus, plan.tokenizer, side, [&mut train, &mut validation], &mut meter)?;
        }
        Some(apart) => {
            let sides = [&mut train, &mut validation];
            encode(plan.corpus, plan.tokenizer, Side::Train, sides, &mut meter)?;
            let sides = [&mut train, &mut validation];
            encode(apart, plan.tokenizer, Side::Validation, sides, &mut meter)?;
        }
    }
    if train.is_empty() {
        return Err(Error::new(Kind::Input, PREPARE, "no text is left for training")
            .hint("lower the validation fraction or give more text"));
    }
    manifest.train_tokens = train.len();
    manifest.validation_tokens = validation.len();
    train.finish()?;
    validation.finish()?;
    files::replace(PREPARE, &path, |w| {
        serde_json::to_writer_pretty(w, &manifest).map_err(Into::into)
    })?;
    let shards = reuse(folder, &manifest)?.map(|shards| Shards { reused: false, ..shards });
    shards.ok_or_else(|| Error::new(Kind::Io, PREPARE, "the shards changed while being written"))
}

fn describe(plan: &Plan<'_>) -> Manifest {
    let mut hash = mix(plan.tokenizer.fingerprint());
    let split = format!("{:?}", plan.split);
    hash = split.bytes().fold(hash, |hash, byte| mix(hash ^ u64::from(byte)));
    let mut sources = vec![];
    for corpus in std::iter::once(plan.corpus).chain(plan.validation) {
        hash = mix(hash ^ corpus.fingerprint());
        sources.extend(corpus.files().iter().map(|file| ManifestSource {
            path: file.path.display().to_string(),
            bytes: file.bytes,
            modified: file.modified,
        }));
    }
    if plan.validation.is_some() {
        hash = mix(hash);
    }
    Manifest {
        format: "pellucid token shards".into(),
        version: 1,
        fingerprint: format!("{hash:016x}"),
        tokenizer: format!("{:016x}", plan.tokenizer.fingerprint()),
        vocabulary: plan.tokenizer.vocab_size(),
        split,
        train_tokens: 0,
        validation_tokens: 0,
        sources,
    }
}

/// The shards of `folder`, if its manifest is for the same sources. A damaged shard is an error and
/// not silently made again: the disk or a program is at fault.
fn reuse(folder: &Path, wanted: &Manifest) -> Result<Option<Shards>> {
    let path = folder.join("shards.json");
    if !path.is_file() {
        return Ok(None);
    }
    let text = files::read(PREPARE, &path)?;
    let Ok(found) = serde_json::from_slice::<Manifest>(&text) else { return Ok(None) };
    let same = found.format == wanted.format && found.version == wanted.version;
    if !same || found.fingerprint != wanted.fingerprint {
        return Ok(None);
    }
    let open = |name: &str, tokens: u64| -> Result<Option<Shard>> {
        let path = folder.join(name);
        let shard = Shard::open(&path)?;
        if shard.len() != tokens {
            let message =
                format!("{}: {} ids; shards.json says {tokens}", path.display(), shard.len());
            return Err(Error::new(Kind::Format, PREPARE, message)
                .hint("delete the folder and prepare the data again"));
        }
        Ok((tokens > 0).then_some(shard))
    };
    let Some(train) = open("train.bin", found.train_tokens)? else { return Ok(None) };
    let validation = open("validation.bin", found.validation_tokens)?;
    Ok(Some(Shards { train, validation, reused: true }))
}

/// On which side a piece of text falls.
enum Side {
    Train,
    Validation,
    /// Characters that are still for training.
    Position(u64),
    /// Of the current document, and the bound of the hash below which it is for validation.
    Documents(bool, u64),
}

impl Side {
    fn of(plan: &Plan<'_>) -> Result<Self> {
        let by_position = |fraction: f64| -> Result<Self> {
            let characters = plan.corpus.statistics()?.characters;
            Ok(Self::Position((characters as f64 * (1.0 - fraction)) as u64))
        };
        match plan.split {
            split if split.fraction() == 0.0 => Ok(Self::Train),
            Split::Auto(f) if plan.corpus.is_single_text() => by_position(f),
            Split::Position(f) => by_position(f),
            Split::Auto(f) | Split::Documents(f) => {
                Ok(Self::Documents(false, (f * u64::MAX as f64) as u64))
            }
        }
    }

    /// Bytes of the piece that are for training; the rest is for validation.
    fn train_bytes(&mut self, piece: &Piece) -> usize {
        let all = piece.text.len();
        match self {
            Self::Train => all,
            Self::Validation => 0,
            Self::Position(left) => {
                let end =
                    piece.text.char_indices().nth(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= match end {
                    Some(_) => *left,
                    None => piece.text.chars().count() as u64,
                };
                end.map_or(all, |(at, _)| at)
            }
            Self::Documents(validation, bound) => {
                if piece.begins {
                    let hash = piece.text.bytes().fold(0, |h, byte| mix(h ^ u64::from(byte)));
                    *validation = hash < *bound;
                }
                if *validation { 0 } else { all }
            }
        }
    }
}

struct Meter<'a> {
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64) -> Result<()>,
}

fn total(plan: &Plan<'_>) -> u64 {
    plan.corpus.bytes() + plan.validation.map_or(0, Corpus::bytes)
}

/// Ids that stand after a document.
fn gap(corpus: &Corpus, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    if corpus.is_single_text() {
        return Ok(vec![]);
    }
    if let Some(end) = tokenizer.special_ids().eos {
        return Ok(vec![end]);
    }
    let between = corpus.options().separator.as_deref().unwrap_or("\n");
    tokenizer.encode_ordinary(between).map_err(|e| {
        e.fact("it stands between documents, as the tokenizer has no end token")
            .hint("make the tokenizer with an end token such as \"<|endoftext|>\"")
    })
}

fn encode(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    mut side: Side,
    shards: [&mut ShardWriter; 2],
    meter: &mut Meter<'_>,
) -> Result<()> {
    let gap = gap(corpus, tokenizer)?;
    let [train, validation] = shards;
    let mut ids = vec![];
    for piece in corpus.pieces() {
        let piece = piece?;
        let cut = side.train_bytes(&piece);
        let (first, second) = piece.text.split_at(cut);
        let moved = Origin {
            byte: piece.origin.byte + cut as u64,
            line: piece.origin.line + first.matches('\n').count() as u64,
        };
        for (shard, text, origin) in
            [(&mut *train, first, piece.origin), (&mut *validation, second, moved)]
        {
            ids.clear();
            tokenizer
                .encode_into(text, origin, &mut ids)
                .map_err(|e| e.fact(corpus.place(&piece)))?;
            shard.push(&ids)?;
        }
        if piece.ends {
            let shard = if cut == piece.text.len() { &mut *train } else { &mut *validation };
            shard.push(&gap)?;
        }
        meter.done += piece.text.len() as u64;
        (meter.progress)(meter.done.min(meter.total), meter.total)?;
    }
    Ok(())
}
