//! Factors to a folder.

use super::super::folder::{CONFIG, GENERATION, TOKENIZER};
use super::super::generation::GenerationConfig;
use super::super::names::{Family, Place, config_json};
use super::super::safetensors::{StoredType, write_tensors};
use super::super::shards;
use super::super::transaction::Transaction;
use super::{ADAPTER, BASE, FACTORS, Module, PREFIX, fingerprint, modules, on_top};
use crate::error::{Error, Kind, Result};
use crate::model::config::{Architecture, Config, Output};
use crate::model::weights::{Weights, parameters};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

const SAVE: &str = "save adapter";

/// Writes the adapter of `config`, and what stands on the stack where that moved, over whatever `folder` holds, all at
/// once. `base` is the folder of the model it belongs to.
///
/// # Errors
/// A config without an adapter, or with one for projections that the family stores in other parts; the disk.
pub fn save_adapter(
    folder: &Path,
    (config, weights): (&Config, &Weights),
    tokenizer_json: Option<&str>,
    generation: &GenerationConfig,
    base: &Path,
) -> Result<()> {
    let Some(adapter) = &config.adapter else {
        return Err(Error::new(Kind::Config, SAVE, "the model has no adapter"));
    };
    let plain = Config { adapter: None, ..config.clone() };
    let targeted = |module: &Module| adapter.targets.contains(&module.part.target);
    let (chosen, others): (Vec<_>, Vec<_>) = modules(&plain).into_iter().partition(targeted);
    if chosen.len() != crate::model::adapter::chosen(config).len() {
        let message = "the family stores the adapter's projections in other parts";
        return Err(Error::new(Kind::Config, SAVE, message).hint("set adapter.targets to all"));
    }
    let mut tensors: Vec<(String, Vec<usize>, &[f32])> = vec![];
    for module in &chosen {
        let (part, r) = (&module.part, adapter.rank);
        for (ours, theirs, shape) in
            [("a", "lora_A", [r, part.columns]), ("b", "lora_B", [part.rows.len(), r])]
        {
            let name = format!("{PREFIX}{}.{theirs}.weight", module.name);
            let values = weights.get(&format!("{}.lora.{ours}", part.name))?;
            tensors.push((name, shape.to_vec(), values));
        }
    }
    let saved = add_moved(&mut tensors, (config, &plain), weights)?;
    let settings = settings(config, (&chosen, &others), &saved, base);
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        (BASE.to_owned(), fingerprint(config, weights)?),
    ]);
    let tensors: Vec<_> = tensors.iter().map(|(name, shape, x)| (&**name, &**shape, *x)).collect();
    let config = config_json(&plain, generation, StoredType::F32)?;
    let text = |s: String| move |w: &mut dyn Write| w.write_all(s.as_bytes());
    let mut transaction = Transaction::begin(folder)?;
    transaction.write(CONFIG, text(config))?;
    transaction.write(GENERATION, text(generation.to_json()))?;
    match tokenizer_json {
        Some(json) => transaction.write(TOKENIZER, text(json.to_owned()))?,
        None => transaction.remove(TOKENIZER)?,
    }
    shards::remove_others(&mut transaction, &[])?;
    transaction.write(ADAPTER, text(format!("{settings:#}\n")))?;
    transaction.write(FACTORS, |w| write_tensors(w, &tensors, &metadata))?;
    transaction.commit()
}

/// Adds what stands on the stack and learned beside the adapter; the names of its modules.
fn add_moved<'a>(
    tensors: &mut Vec<(String, Vec<usize>, &'a [f32])>,
    (config, plain): (&Config, &Config),
    weights: &'a Weights,
) -> Result<Vec<String>> {
    let specs = parameters(config);
    let moved = |name: &str| on_top(name) && specs.iter().any(|s| s.name == name && s.trainable);
    let mut saved: Vec<String> = vec![];
    for piece in Family::of(plain).pieces(plain) {
        if let Place::Rows(ours, _) = &piece.place
            && moved(ours)
        {
            let module = piece.name.rsplit_once('.').map_or(&*piece.name, |(module, _)| module);
            if !saved.iter().any(|s| s == module) {
                saved.push(module.to_owned());
            }
            tensors.push((format!("{PREFIX}{}", piece.name), piece.shape, weights.get(ours)?));
        }
    }
    Ok(saved)
}

/// `adapter_config.json`, as PEFT reads it.
fn settings(
    config: &Config,
    (chosen, others): (&[Module], &[Module]),
    saved: &[String],
    base: &Path,
) -> Value {
    let (rank, alpha, dropout, root) = config
        .adapter
        .as_ref()
        .map_or((0, 0.0, 0.0, false), |a| (a.rank, a.alpha, a.dropout, a.root));
    let task = match (config.output, config.architecture) {
        (Output::Sequence, _) => json!("SEQ_CLS"),
        (Output::Positions, _) => json!("TOKEN_CLS"),
        (Output::Tokens, Architecture::Decoder) => json!("CAUSAL_LM"),
        (Output::Tokens, Architecture::EncoderDecoder) => json!("SEQ_2_SEQ_LM"),
        (Output::Vectors, _) => json!("FEATURE_EXTRACTION"),
        (Output::Tokens, Architecture::Encoder) => Value::Null,
    };
    json!({
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base.display().to_string(),
        "inference_mode": true,
        "r": rank,
        "lora_alpha": decimal(alpha),
        "lora_dropout": decimal(dropout),
        "use_rslora": root,
        "bias": "none",
        "fan_in_fan_out": chosen.iter().any(|m| m.transposed),
        "init_lora_weights": true,
        "target_modules": names(config, chosen, others),
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
    })
}

/// An f32 in its own digits.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

/// The modules by the ends of their names, where an end means no other matrix; else whole.
fn names(config: &Config, chosen: &[Module], others: &[Module]) -> Vec<String> {
    let end = |name: &str| name.rsplit_once('.').map_or(name, |(_, end)| end).to_owned();
    let plain = Config { adapter: None, ..config.clone() };
    let pieces = Family::of(&plain).pieces(&plain);
    let chosen_name = |name: &str| chosen.iter().any(|m| m.name == name);
    // Every matrix of the family, of which the parts are only some.
    let elsewhere = |wanted: &str| {
        let matrices = pieces.iter().filter_map(|p| p.name.strip_suffix(".weight"));
        matrices.chain(others.iter().map(|m| &*m.name)).any(|n| end(n) == wanted && !chosen_name(n))
    };
    let mut all = vec![];
    for module in chosen {
        let short = end(&module.name);
        let name = if elsewhere(&short) { module.name.clone() } else { short };
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
