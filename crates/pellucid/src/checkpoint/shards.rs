//! The weights of a folder in one file or in several, as Hugging Face splits them:
//! `model-00001-of-00003.safetensors` and so on, each at most so many bytes and at least one tensor, and
//! `model.safetensors.index.json`, which says which file has which tensor.

use super::folder::{INDEX, LOAD, SAVE, WEIGHTS};
use super::generation::fault;
use super::safetensors::{Entry, StoredType, Values, write_entries};
use super::transaction::{Transaction, plain_name};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// From here on, rounding to half precision gives infinity: halfway between its greatest number and the next step.
const HALF_OVERFLOW: f32 = 65520.0;

/// How the weights of a folder are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// How each element is.
    pub stored: StoredType,
    /// Most bytes of tensors in one file; without it, there is one file. A tensor is never split.
    pub shard: Option<u64>,
}

impl From<StoredType> for Layout {
    fn from(stored: StoredType) -> Self {
        Self { stored, shard: None }
    }
}

/// The shards' file names from the text of an index.
pub(super) fn names(text: &str, name: &str) -> Result<BTreeSet<String>> {
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

/// Writes `entries` as `layout` says, and says which files of another layout go.
pub(super) fn write(
    transaction: &mut Transaction,
    entries: Vec<Entry<'_>>,
    metadata: &BTreeMap<String, String>,
    layout: Layout,
) -> Result<()> {
    if layout.stored == StoredType::F16 {
        fit_half(&entries)?;
    }
    let mut files = split(entries, layout);
    let count = files.len();
    let name = |i: usize| match count {
        1 => WEIGHTS.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
    };
    let kept: Vec<String> = (0..count).map(name).collect();
    remove_others(transaction, &kept)?;
    if count == 1 {
        let whole = files.pop().unwrap_or_default();
        return transaction.write(WEIGHTS, |w| write_entries(w, &whole, metadata, layout.stored));
    }
    let (mut map, mut total) = (Map::new(), 0);
    for (file, name) in files.iter().zip(&kept) {
        for entry in file {
            total += bytes(entry, layout);
            map.insert(entry.name.clone(), json!(name));
        }
        transaction.write(name, |w| write_entries(w, file, metadata, layout.stored))?;
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    transaction.write(INDEX, |w: &mut dyn Write| w.write_all(format!("{index:#}\n").as_bytes()))
}

/// Says that all files of weights go but those of `kept`, and the index unless they are several.
pub(super) fn remove_others(transaction: &mut Transaction, kept: &[String]) -> Result<()> {
    let mut others = shards_of(transaction.folder())?;
    others.push(WEIGHTS.to_owned());
    for old in others.iter().filter(|old| !kept.contains(old)) {
        transaction.remove(old)?;
    }
    if kept.len() < 2 { transaction.remove(INDEX) } else { Ok(()) }
}

fn bytes(entry: &Entry<'_>, layout: Layout) -> u64 {
    (entry.shape.iter().product::<usize>() * layout.stored.bytes()) as u64
}

/// In order, each file as full as it may be.
fn split(entries: Vec<Entry<'_>>, layout: Layout) -> Vec<Vec<Entry<'_>>> {
    let most = layout.shard.unwrap_or(u64::MAX);
    let (mut files, mut filled) = (vec![vec![]], 0u64);
    for entry in entries {
        let size = bytes(&entry, layout);
        if filled > 0 && filled.saturating_add(size) > most {
            files.push(vec![]);
            filled = 0;
        }
        filled += size;
        if let Some(file) = files.last_mut() {
            file.push(entry);
        }
    }
    files
}

fn fit_half(entries: &[Entry<'_>]) -> Result<()> {
    for entry in entries {
        let (Values::Plain(x) | Values::Transposed(x)) = entry.values else { continue };
        if let Some(x) = x.iter().find(|x| x.is_finite() && x.abs() >= HALF_OVERFLOW) {
            let message = format!("{} has {x}, but half precision ends at 65504", entry.name);
            return Err(Error::new(Kind::Config, SAVE, message).hint("choose f32 or bf16"));
        }
    }
    Ok(())
}

/// The shards that `folder` has now.
fn shards_of(folder: &Path) -> Result<Vec<String>> {
    let io = |e| Error::io(SAVE, folder, e);
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let numbers = name.strip_prefix("model-").and_then(|n| n.strip_suffix(".safetensors"));
        let digits = |n: &str| n.len() == 5 && n.bytes().all(|b| b.is_ascii_digit());
        if numbers.and_then(|n| n.split_once("-of-")).is_some_and(|(a, b)| digits(a) && digits(b)) {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}
