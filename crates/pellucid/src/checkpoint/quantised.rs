//! Folders whose matrices are int8 or int4 codes, and folders of f32 read straight into codes.
//!
//! Types, packing and `quantization_config` are those of compressed-tensors' `pack-quantized` (weights only,
//! symmetric, a scale per group); names are this library's own, each parameter's with an ending, and `model_type` is
//! `pellucid`: no other program knows a matrix of queries, keys and values together, or codes of an embedding that is
//! also the head, and none shall read this as something else.
//!
//! | tensor, for a matrix (n, k) called `x` | type, shape | holds |
//! |---|---|---|
//! | `x_packed` | I32 (n, ⌈k·bits/32⌉) | code i of a row at bits i·bits of the row's words, lowest first; code = value + 2^(bits-1) |
//! | `x_scale` | BF16 (n, ⌈k/group⌉) | what a group's values are multiplied by |
//! | `x_shape` | I64 (2) | n, k |
//!
//! Norms, biases and learned positions are F32 under their own names.

use super::adapter;
use super::assemble;
use super::folder::{self, CONFIG, GENERATION, LOAD, Loaded, Opened, TOKENIZER, WEIGHTS};
use super::generation::{GenerationConfig, fault};
use super::names::{Family, Place, config_map};
use super::safetensors::{StoredType, TensorFile};
use super::snapshot::Snapshot;
use super::transaction::Transaction;
use crate::backend::cpu::pool::Pool;
use crate::backend::cpu::stored::{Format, Row, Store};
use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::stored_weights::{Part, StoredWeights, is_matrix};
use crate::model::weights::{ParamSpec, Weights, parameters};
use ::safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

/// A checkpoint in memory, its matrices stored.
#[derive(Debug)]
pub struct LoadedStored {
    /// Sizes and choices.
    pub config: Config,
    /// The weights.
    pub weights: StoredWeights,
    /// How to sample; defaults if the folder does not say.
    pub generation: GenerationConfig,
    /// The text of `tokenizer.json`.
    pub tokenizer: Option<String>,
}

/// The format of the codes in a folder; `None` for one with plain weights.
///
/// # Errors
/// No `config.json`, or one that is damaged or asks for what this library cannot read.
pub fn stored_format(path: &Path) -> Result<Option<Format>> {
    if adapter::is_one(path) {
        return Ok(None);
    }
    let text = folder::config_text(path, &mut Snapshot::open(path, &[CONFIG])?)?;
    format_of(&text, &path.join(CONFIG).display().to_string())
}

/// What `quantization_config` in the text of a `config.json` says.
pub(super) fn format_of(text: &str, name: &str) -> Result<Option<Format>> {
    let value: Value = serde_json::from_str(text)
        .map_err(|e| fault(LOAD, format!("{name}: not JSON: {e}")).source(e))?;
    let Some(told) = value.get("quantization_config").filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    for format in [Format::Int8, Format::Int4] {
        if is(told, format) {
            return Ok(Some(format));
        }
    }
    let message = format!("{name}: this quantization_config is not one this library reads");
    Err(Error::new(Kind::Format, LOAD, message)
        .fact("read are pack-quantized int8 in groups of 128 and int4 in groups of 32, symmetric")
        .hint("quantise the original weights again: pellucid quantise"))
}

/// Whether what was told and what is written for `format` agree in all that matters.
fn is(told: &Value, format: Format) -> bool {
    let own = quantization_config(format);
    let same = |path: &str| told.pointer(path) == own.pointer(path);
    let weights = ["num_bits", "type", "symmetric", "strategy", "group_size"];
    same("/format")
        && same("/quant_method")
        && weights.iter().all(|key| same(&format!("/config_groups/group_0/weights/{key}")))
}

fn quantization_config(format: Format) -> Value {
    json!({
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": { "group_0": {
            "targets": ["Linear", "Embedding"],
            "input_activations": null,
            "output_activations": null,
            "weights": {
                "num_bits": format.bits(), "type": "int", "symmetric": true,
                "strategy": "group", "group_size": format.group(), "dynamic": false,
            },
        }},
        "ignore": [],
    })
}

/// Reads a folder with stored matrices: codes as they are, or plain weights, each matrix stored in `format` before
/// the next is read.
///
/// # Errors
/// As [`load`](super::load); a folder of codes in another format, a folder of plain weights without `format`; weights
/// or scales that are not finite.
pub fn load_stored(pool: &Pool, path: &Path, format: Option<Format>) -> Result<LoadedStored> {
    if let (true, Some(format)) = (adapter::is_one(path), format) {
        let Loaded { config, weights, generation, tokenizer, .. } = adapter::load(path)?;
        let weights = StoredWeights::from_weights(pool, &config, weights, format)?;
        return Ok(LoadedStored { config, weights, generation, tokenizer });
    }
    let opened = folder::open(path)?;
    let weights = opened.checking_tokenizer(path, || read_stored(pool, path, &opened, format))?;
    let Opened { config, generation, tokenizer, .. } = opened;
    Ok(LoadedStored { config, weights, generation, tokenizer })
}

fn read_stored(
    pool: &Pool,
    path: &Path,
    opened: &Opened,
    format: Option<Format>,
) -> Result<StoredWeights> {
    let (config, files) = (&opened.config, &opened.files);
    Ok(match (opened.format, format) {
        (Some(held), Some(asked)) if held != asked => {
            let (held, asked) = (held.name(), asked.name());
            let message = format!("{}: holds {held}, but {asked} is asked for", path.display());
            return Err(Error::new(Kind::Config, LOAD, message)
                .hint("quantise the original weights; codes are not turned into other codes"));
        }
        (Some(held), _) => read_codes(pool, config, files, held)?,
        (None, Some(format)) => {
            let plan = assemble::matched(config, opened.family, files)?;
            StoredWeights::build(pool, config, format, |spec, to| {
                // The parameter alone; every piece of it, and whatever must equal it.
                let mut one = Weights::of(vec![spec.clone()]);
                for piece in &plan {
                    let ours = match &piece.0.place {
                        Place::Rows(ours, _) | Place::Transposed(ours) | Place::Alias(ours) => ours,
                        Place::Zeros => continue,
                    };
                    if *ours == spec.name {
                        assemble::read_piece(piece, &mut one)?;
                    }
                }
                to.copy_from_slice(one.get(&spec.name)?);
                Ok(())
            })
            .and_then(|weights| zeros(&plan).map(|()| weights))?
        }
        (None, None) => {
            let message = format!("{}: holds plain weights", path.display());
            return Err(Error::new(Kind::Config, LOAD, message).hint("say how to store them"));
        }
    })
}

/// Biases that the config has not must be zero.
fn zeros(plan: &[assemble::Match<'_>]) -> Result<()> {
    let mut none = Weights::of(vec![]);
    let mut pieces = plan.iter().filter(|(piece, ..)| matches!(piece.place, Place::Zeros));
    pieces.try_for_each(|piece| assemble::read_piece(piece, &mut none))
}

/// The three tensors of a matrix: ending, type, shape.
fn tensors(spec: &ParamSpec, format: Format) -> [(String, Dtype, Vec<usize>); 3] {
    let (n, k) = (spec.shape[0], spec.shape[1]);
    let name = |ending: &str| format!("{}_{ending}", spec.name);
    [
        (name("packed"), Dtype::I32, vec![n, (k * format.bits()).div_ceil(32)]),
        (name("scale"), Dtype::BF16, vec![n, format.scales(k)]),
        (name("shape"), Dtype::I64, vec![2]),
    ]
}

fn read_codes(
    pool: &Pool,
    config: &Config,
    files: &[TensorFile],
    format: Format,
) -> Result<StoredWeights> {
    let specs = parameters(config);
    let mut wanted: HashSet<String> = HashSet::new();
    for spec in &specs {
        match is_matrix(spec) {
            true => wanted.extend(tensors(spec, format).map(|(name, ..)| name)),
            false => drop(wanted.insert(spec.name.clone())),
        }
    }
    let mut faults = vec![];
    let [file] = files else {
        return Err(fault(LOAD, "codes lie in one file, model.safetensors".into()));
    };
    let held: HashSet<&str> = file.names().collect();
    faults.extend(
        wanted.iter().filter(|w| !held.contains(w.as_str())).map(|w| format!("missing: {w}")),
    );
    faults
        .extend(held.iter().filter(|h| !wanted.contains(**h)).map(|h| format!("unexpected: {h}")));
    if !faults.is_empty() {
        faults.sort();
        return Err(assemble::mismatch(files, &faults));
    }
    // Shapes are judged before memory is asked for.
    for spec in specs.iter().filter(|s| is_matrix(s)) {
        let [_, _, (name, dtype, shape)] = tensors(spec, format);
        let told = file.read_bytes(&name, dtype, &shape)?;
        let told: Vec<i64> =
            told.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
        if told != [spec.shape[0] as i64, spec.shape[1] as i64] {
            let message = format!("{name} says {told:?}, but config.json {:?}", spec.shape);
            return Err(assemble::mismatch(files, &[message]));
        }
    }
    StoredWeights::assemble(config, format, |spec, part| match part {
        Part::Rest(into) => {
            let shape = file.shape(&spec.name)?;
            if shape != spec.shape {
                let message =
                    format!("{} is {shape:?}, but config.json says {:?}", spec.name, spec.shape);
                return Err(assemble::mismatch(files, &[message]));
            }
            file.read_into(&spec.name, into)
        }
        Part::Matrix(store, _) => read_matrix(pool, spec, file, format, store),
    })
}

fn read_matrix(
    pool: &Pool,
    spec: &ParamSpec,
    file: &TensorFile,
    format: Format,
    store: &mut Store,
) -> Result<()> {
    let (n, k) = (spec.shape[0], spec.shape[1]);
    let [packed, scale, _] = tensors(spec, format);
    let words = packed.2[1] * 4;
    let groups = scale.2[1];
    let packed = file.read_bytes(&packed.0, packed.1, &packed.2)?;
    let scales = file.read_bytes(&scale.0, scale.1, &scale.2)?;
    store.add(pool, format, (n, k), &|index, row| {
        let bytes = &packed[index * words..][..words];
        row.codes.clear();
        row.codes.extend((0..k).map(|i| match format {
            Format::Int4 => u16::from(bytes[i / 2] >> (i % 2 * 4) & 15),
            _ => u16::from(bytes[i]),
        }));
        row.scales.clear();
        let scales = scales[index * groups * 2..][..groups * 2].as_chunks::<2>().0;
        row.scales.extend(scales.iter().map(|b| u16::from_le_bytes(*b)));
        match row.scales.iter().position(|s| s & 0x7F80 == 0x7F80) {
            None => Ok(()),
            Some(group) => {
                let path = file.path().display();
                let message = format!("{path}: {}[{index}, {group}] is not finite", scale.0);
                Err(fault(LOAD, message).hint("the file is damaged; quantise the original again"))
            }
        }
    })
}

/// Writes a folder of int8 or int4 weights over whatever `path` holds, all at once.
///
/// # Errors
/// Weights in bf16, which [`save`](super::save) writes; the disk.
pub fn save_stored(
    path: &Path,
    config: &Config,
    weights: &StoredWeights,
    tokenizer_json: Option<&str>,
    generation: &GenerationConfig,
) -> Result<()> {
    let format = weights.format();
    if format == Format::Bf16 {
        return Err(Error::new(Kind::Config, "save checkpoint", "bf16 weights are not codes")
            .hint("save plain weights with the stored type bf16"));
    }
    let mut map = config_map(Family::Native, config, generation, StoredType::F32)?;
    map.insert("quantization_config".into(), quantization_config(format));
    let text = |s: String| move |w: &mut dyn Write| w.write_all(s.as_bytes());
    let mut transaction = Transaction::begin(path)?;
    transaction.write(CONFIG, text(format!("{:#}\n", Value::Object(map))))?;
    transaction.write(GENERATION, text(generation.to_json()))?;
    match tokenizer_json {
        Some(json) => transaction.write(TOKENIZER, text(json.to_owned()))?,
        None => transaction.remove(TOKENIZER)?,
    }
    super::shards::remove_others(&mut transaction, &[WEIGHTS.to_owned()])?;
    let specs = parameters(config);
    transaction.write(WEIGHTS, |w| write(w, &specs, weights))?;
    transaction.commit()
}

fn write(w: &mut dyn Write, specs: &[ParamSpec], weights: &StoredWeights) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut offset = 0;
    let mut entry = |name: String, dtype: Dtype, shape: Vec<usize>| {
        let end = offset + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let value = json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]});
        header.insert(name, value);
        offset = end;
    };
    // The widest first, so that every tensor lies on a multiple of its own width.
    let (matrices, rest): (Vec<_>, Vec<_>) = specs.iter().partition(|s| is_matrix(s));
    let parts =
        |which: usize| matrices.iter().map(move |s| tensors(s, weights.format())[which].clone());
    parts(2).for_each(|(name, dtype, shape)| entry(name, dtype, shape));
    rest.iter().for_each(|s| entry(s.name.clone(), Dtype::F32, s.shape.clone()));
    parts(0).chain(parts(1)).for_each(|(name, dtype, shape)| entry(name, dtype, shape));
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    w.write_all(&(text.len() as u64).to_le_bytes())?;
    w.write_all(&text)?;
    let lost = |e: Error| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
    for spec in &matrices {
        spec.shape.iter().try_for_each(|&s| w.write_all(&(s as i64).to_le_bytes()))?;
    }
    for spec in &rest {
        let values = weights.rest().get(&spec.name).map_err(lost)?;
        values.iter().try_for_each(|x| w.write_all(&x.to_le_bytes()))?;
    }
    let (mut row, mut bytes) = (Row::default(), vec![]);
    for scales in [false, true] {
        for spec in &matrices {
            let matrix = weights.matrix(&spec.name).map_err(lost)?;
            for index in 0..spec.shape[0] {
                matrix.row(index, &mut row);
                bytes.clear();
                if scales {
                    bytes.extend(row.scales.iter().flat_map(|s| s.to_le_bytes()));
                } else if weights.format() == Format::Int4 {
                    let pair = |c: &[u16]| c[0] as u8 | (c.get(1).map_or(0, |&c| c as u8) << 4);
                    bytes.extend(row.codes.chunks(2).map(pair));
                    bytes.resize(bytes.len().next_multiple_of(4), 0);
                } else {
                    bytes.extend(row.codes.iter().map(|&c| c as u8));
                    bytes.resize(bytes.len().next_multiple_of(4), 0);
                }
                w.write_all(&bytes)?;
            }
        }
    }
    Ok(())
}
