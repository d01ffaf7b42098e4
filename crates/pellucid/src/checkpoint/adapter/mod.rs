//! LoRA factors in PEFT's layout, out and in: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A factor is called `base_model.model.<module>.lora_A.weight` (R, I) or `lora_B` (P, R), where `<module>.weight` is
//! the family's own name of what it is added to; so the families' tables are the tables of adapters too. What stands
//! on the stack of a model that labels is stored whole (`modules_to_save`).
//!
//! A folder of ours also holds `config.json` and the tokenizer, and names what its base weighed, so that an adapter for
//! another base is refused. [`load`](super::load) gives the merged model; training goes on with the factors themselves.

mod read;
mod write;

pub(super) use read::{is_one, load, load_config};
pub use read::{read_factors, text_folder};
pub use write::save_adapter;

use super::names::{Family, Piece, Place};
use crate::error::{Error, Kind, Result};
use crate::files::Fnv;
use crate::model::adapter::{Part, Target, parts};
use crate::model::config::Config;
use crate::model::weights::{Weights, parameters};

pub(super) const ADAPTER: &str = "adapter_config.json";
const FACTORS: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of the model inside.
const PREFIX: &str = "base_model.model.";
/// Key of the file's metadata under which the base's fingerprint stands.
const BASE: &str = "pellucid.base";

/// A part of a model under the family's name.
#[derive(Debug)]
struct Module {
    part: Part,
    /// Its name without `.weight`.
    name: String,
    /// Whether the family stores its matrix the other way round (`fan_in_fan_out`).
    transposed: bool,
}

/// Every part that the family has a name for.
fn modules(config: &Config) -> Vec<Module> {
    let pieces = Family::of(config).pieces(config);
    let specs = parameters(config);
    parts(config).into_iter().filter_map(|part| module(&pieces, &specs, part)).collect()
}

fn module(
    pieces: &[Piece],
    specs: &[crate::model::weights::ParamSpec],
    part: Part,
) -> Option<Module> {
    let whole = specs.iter().find(|s| s.name == part.matrix)?.shape[0];
    let of = |piece: &&Piece| match &piece.place {
        Place::Rows(ours, rows) => *ours == part.matrix && *rows == part.rows,
        Place::Transposed(ours) => *ours == part.matrix && part.rows == (0..whole),
        Place::Zeros | Place::Alias(_) => false,
    };
    let piece = pieces.iter().find(of)?;
    let name = piece.name.strip_suffix(".weight").unwrap_or(&piece.name).to_owned();
    Some(Module { part, name, transposed: matches!(piece.place, Place::Transposed(_)) })
}

/// The projections that `config` can be added to in its family's files, each once; those of `names`, or every one
/// where `names` is `all`.
///
/// # Errors
/// A name that is no projection, or one that the family stores in other parts.
pub fn targets(config: &Config, names: &[String]) -> Result<Vec<Target>> {
    let plain = Config { adapter: None, ..config.clone() };
    let mut possible = vec![];
    for module in modules(&plain) {
        if !possible.contains(&module.part.target) {
            possible.push(module.part.target);
        }
    }
    // Where the family has one matrix for all three, or three for one, only one of the two is possible; of our own
    // folders, which could hold both, the parts.
    let parts = [Target::Q, Target::K, Target::V];
    let finer = parts.iter().all(|part| possible.contains(part));
    let all = possible.iter().copied().filter(|&t| t != Target::Qkv || !finer);
    if names.len() == 1 && names[0] == "all" {
        return Ok(all.collect());
    }
    let find = |name: &String| possible.iter().copied().find(|t| t.name() == name);
    let unknown: Vec<&String> = names.iter().filter(|name| find(name).is_none()).collect();
    if unknown.is_empty() {
        return Ok(names.iter().filter_map(find).collect());
    }
    let known: Vec<&str> = possible.iter().map(|t| t.name()).collect();
    let family = Family::of(&plain).model_type();
    let message = format!("adapter.targets = {names:?}, but a {family} model has others");
    let error = Error::new(Kind::Config, "adapter", message)
        .hint(format!("choose among {}, or write all", known.join(", ")));
    Err(unknown.into_iter().fold(error, |e, name| e.fact(format!("{name:?}"))))
}

/// Whether a parameter of ours stands on the stack, so that an adapter stores it whole.
fn on_top(name: &str) -> bool {
    name.starts_with("head.") || name.starts_with("pooler.")
}

/// FNV-1a over the words of what an adapter leaves as it is.
fn fingerprint(config: &Config, weights: &Weights) -> Result<String> {
    let plain = Config { adapter: None, ..config.clone() };
    let mut hash = Fnv::new();
    for spec in parameters(&plain).iter().filter(|spec| !on_top(&spec.name)) {
        weights.get(&spec.name)?.iter().for_each(|x| hash.add_word(x.to_bits()));
    }
    Ok(hash.text())
}
