//! A file into a model.

use super::architecture::Architecture;
use super::container::{Container, Tensor, refused};
use super::meta::Meta;
use super::table::{Entry, Source, entries};
use super::{GgufModel, listed, rope, tokenizer};
use crate::checkpoint::generation::GenerationConfig;
use crate::checkpoint::import_llama2c::halves;
use crate::checkpoint::safetensors::shape_text;
use crate::error::Result;
use crate::model::config::Config;
use crate::model::weights::Weights;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Reads a file, its weights into f32. NaN and infinity are read as they are.
///
/// # Errors
/// No GGUF file of version 2 or 3, or a damaged one; an architecture, a type of elements or a choice this library does
/// not know; tensors that are missing, unexpected or of the wrong shape (all are listed); a tokenizer with more tokens
/// than the model; the disk.
pub fn import_gguf(path: &Path) -> Result<GgufModel> {
    let file = Container::open(path)?;
    let architecture = Architecture::of_file(&file)?;
    let config = architecture.read(&file)?;
    let plan = entries(architecture, &config);
    let plan = matched(&file, &plan)?;
    let mut meta = Meta::new(&file, architecture.name());
    let generation = generation(&mut meta);
    let chat_template = meta.text("tokenizer.chat_template").map(str::to_owned);
    let tokenizer_json = tokenizer::read(&mut meta, config.vocab);
    meta.finish()?;
    let generation =
        GenerationConfig::from_json(&generation.to_string(), &path.display().to_string())?;
    let mut weights = Weights::zeros(&config);
    for (entry, tensor) in plan {
        place(&file, tensor, entry, &config, &mut weights)?;
    }
    Ok(GgufModel { config, weights, tokenizer_json, generation, chat_template })
}

/// Each entry's tensor; an error lists all that does not fit.
fn matched<'f>(file: &'f Container, plan: &'f [Entry]) -> Result<Vec<(&'f Entry, &'f Tensor)>> {
    let (mut pairs, mut faults) = (vec![], vec![]);
    for entry in plan.iter().filter(|entry| entry.is_ours()) {
        let Entry { name, shape, .. } = entry;
        match file.tensors.get(name) {
            None => faults.push(format!("missing: {name} {}", shape_text(shape))),
            Some(tensor) if tensor.shape != *shape => {
                let (found, wanted) = (shape_text(&tensor.shape), shape_text(shape));
                faults.push(format!("wrong shape: {name} is {found}, but the keys say {wanted}"));
            }
            Some(tensor) => pairs.push((entry, tensor)),
        }
    }
    let known: BTreeSet<&str> =
        plan.iter().filter(|entry| entry.is_ours()).map(|entry| entry.name.as_str()).collect();
    // What follows from the keys, as old exports have it.
    let constant = |name: &str| name == rope::FACTORS || name.ends_with(".attn_rot_embd.weight");
    for name in file.tensors.keys().filter(|name| !known.contains(name.as_str()) && !constant(name))
    {
        faults.push(format!("unexpected: {name}"));
    }
    if faults.is_empty() {
        return Ok(pairs);
    }
    let plural = if faults.len() == 1 { " does" } else { "s do" };
    let error = refused(&file.path, format!("{} tensor{plural} not fit the keys", faults.len()));
    Err(listed(error, &faults)
        .hint("the model may be of another architecture, or the file damaged"))
}

/// Reads a tensor into its rows of ours.
fn place(
    file: &Container,
    tensor: &Tensor,
    entry: &Entry,
    config: &Config,
    weights: &mut Weights,
) -> Result<()> {
    let Source::Rows { ours, rows, turned } = &entry.source else { return Ok(()) };
    let columns = entry.columns();
    let to = &mut weights.get_mut(ours)?[rows.start * columns..rows.end * columns];
    file.read(tensor, to)?;
    if *turned {
        let d = config.head_width;
        to.chunks_exact_mut(d * columns).for_each(|head| halves(head, d, columns));
    }
    Ok(())
}

/// In the words of `generation_config.json`.
fn generation(meta: &mut Meta<'_>) -> Value {
    let mut map = Map::new();
    for (key, name) in [
        ("tokenizer.ggml.bos_token_id", "bos_token_id"),
        ("tokenizer.ggml.padding_token_id", "pad_token_id"),
    ] {
        map.extend(meta.id(key).map(|id| (name.to_owned(), json!(id))));
    }
    // The end of a text, of a turn, of a message.
    let mut ends: Vec<u32> = vec![];
    for key in ["eos", "eot", "eom"] {
        ends.extend(
            meta.id(&format!("tokenizer.ggml.{key}_token_id")).filter(|id| !ends.contains(id)),
        );
    }
    map.insert("eos_token_id".into(), json!(ends));
    for (key, name) in [
        ("temp", "temperature"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("penalty_repeat", "repetition_penalty"),
    ] {
        let found = meta.real(&format!("general.sampling.{key}"));
        map.extend(found.map(|x| (name.to_owned(), json!(x))));
    }
    if let Some(k) = meta.size_opt("general.sampling.top_k") {
        map.insert("top_k".into(), json!(k));
    }
    Value::Object(map)
}
