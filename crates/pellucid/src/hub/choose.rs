//! Names that may be asked for, and the files of a model that are wanted.

use super::HUB;
use super::cache::Blob;
use super::client::Listing;
use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Fetched where they are.
const ALWAYS: [&str; 8] = [
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
];

/// Fetched where there is no `tokenizer.json`.
const TOKENIZERS: [&str; 5] =
    ["vocab.txt", "vocab.json", "merges.txt", "encoder.json", "vocab.bpe"];

/// Ends of files with weights that are not read.
const OTHER_WEIGHTS: [&str; 7] = [".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl"];

/// Where the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// In one file, which is among the others.
    Whole,
    /// In files that the index names.
    Index,
}

/// `owner/name`, or `name` alone. It becomes a folder's name, so nothing else may be in it.
pub(super) fn check_name(name: &str) -> Result<()> {
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(plain)
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    if name.split('/').count() <= 2 && name.split('/').all(part) {
        return Ok(());
    }
    Err(Error::new(Kind::Input, HUB, format!("{name:?} is no name of a model"))
        .hint("a name is like owner/name: letters, digits, and single - _ . inside"))
}

/// A branch, a tag or a commit; it becomes a path below `refs`.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(plain)
    };
    if revision.len() <= 200 && revision.split('/').all(part) {
        return Ok(());
    }
    Err(Error::new(Kind::Input, HUB, format!("{revision:?} is no revision"))
        .hint("give a branch such as main, a tag, or the 40 digits of a commit"))
}

/// Of a listing, the files that are fetched first, and where the weights are.
pub(super) fn files(name: &str, listing: &Listing) -> Result<(Vec<Blob>, Weights)> {
    let has = |file: &str| listing.files.iter().any(|f| f.name == file);
    let fail = |message: String| Err(Error::new(Kind::Format, HUB, message));
    if !has(CONFIG) {
        return match fail(format!("{name} has no {CONFIG}: it is no model of transformers")) {
            Err(error) => {
                Err(error.hint("give a model that from_pretrained of transformers reads"))
            }
            done => done,
        };
    }
    let weights = match (has(WEIGHTS), has(INDEX)) {
        (true, _) => Weights::Whole,
        (false, true) => Weights::Index,
        (false, false) => return Err(no_weights(name, listing)),
    };
    let mut wanted: Vec<&str> = ALWAYS.to_vec();
    if !has("tokenizer.json") {
        wanted.extend(TOKENIZERS);
    }
    wanted.push(if weights == Weights::Whole { WEIGHTS } else { INDEX });
    let wanted = wanted.into_iter().filter(|file| has(file));
    Ok((wanted.map(|file| listing.blob(file)).collect::<Result<_>>()?, weights))
}

fn no_weights(name: &str, listing: &Listing) -> Error {
    let mut others = listing.files.iter().map(|f| f.name.as_str());
    match others.find(|file| OTHER_WEIGHTS.iter().any(|end| file.ends_with(end))) {
        Some(file) => {
            let message = format!("{name} has weights, but none in safetensors");
            Error::new(Kind::Format, HUB, message)
                .fact(format!("it has {file}"))
                .hint("pickled weights are programs, which are not run; look for a revision such as refs/pr/1 that converts \
                       them, or save the model with safe_serialization=True")
        }
        None => Error::new(Kind::Format, HUB, format!("{name} has no weights: no {WEIGHTS}"))
            .hint("give a model, not a tokenizer, a data set or an adapter"),
    }
}

/// The files that an index names.
pub(super) fn shards(index: &Path, listing: &Listing) -> Result<Vec<Blob>> {
    let names = shard_names(index)?;
    names.iter().map(|name| listing.blob(name)).collect()
}

/// Names of the files that an index names.
pub(super) fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    let fault = |what: &str| {
        Error::new(Kind::Format, HUB, format!("{}: {what}", index.display()))
            .hint("the model is damaged; tell its owner")
    };
    let text = files::read_text(HUB, index)?;
    let json: Value = serde_json::from_str(&text).map_err(|e| fault(&format!("not JSON: {e}")))?;
    let Some(map) = json["weight_map"].as_object() else {
        return Err(fault("no object \"weight_map\""));
    };
    let plain = |name: &&str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        name.chars().all(allowed) && !name.starts_with('.') && name.ends_with(".safetensors")
    };
    let names: Option<BTreeSet<String>> =
        map.values().map(|file| file.as_str().filter(plain).map(str::to_owned)).collect();
    match names {
        Some(names) if !names.is_empty() => Ok(names),
        Some(_) => Err(fault("it names no file")),
        None => Err(fault("it names a file that is no .safetensors beside it")),
    }
}
