//! A model into a file.

use super::architecture::Architecture;
use super::blocks::Stored;
use super::container::{ALIGNMENT, MAGIC};
use super::quantise::{most, quantise};
use super::table::{Entry, Source, entries};
use super::writer::{Keys, text};
use super::{EXPORT, GgufType, rope, tokenizer};
use crate::checkpoint::generation::GenerationConfig;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Config, RotaryScaling};
use crate::model::weights::Weights;
use std::io::Write;
use std::path::Path;

/// Bytes written at a time, at least.
const PIECE: usize = 1 << 20;

/// Writes a model into one file, at once: a crash leaves the old file or the new one.
///
/// Vectors and learned positions are F32 whatever `stored` says; matrices whose rows are no multiple of a block's 32
/// elements are F16 where `stored` has blocks, as in llama.cpp's converter. The vocabulary is filled up with unused
/// tokens to the size of the model's. Of `generation` the first three ends of a text, bos and pad are written, and
/// temperature, top_k, top_p, min_p and the penalty of repetitions where they are not the defaults.
///
/// # Errors
/// An invalid config, or one that no architecture of the format expresses ([the module](super) has them); weights of
/// another config; a weight that the type cannot hold; a tokenizer that is no tokenizer or has more tokens than the
/// model; the disk.
pub fn export_gguf(
    path: &Path,
    config: &Config,
    weights: &Weights,
    tokenizer_json: Option<&str>,
    chat_template: Option<&str>,
    generation: &GenerationConfig,
    stored: GgufType,
) -> Result<()> {
    let architecture = Architecture::of(config, weights)?;
    let plan = entries(architecture, config);
    let mut outs = plan
        .iter()
        .map(|entry| Out::new(entry, config, weights, stored))
        .collect::<Result<Vec<_>>>()?;
    let factors = match config.rotary_scaling {
        scaling @ RotaryScaling::Llama3 { .. } => {
            rope::factors(scaling, (config.rotary_base, config.head_width))
        }
        _ => vec![],
    };
    if !factors.is_empty() {
        outs.push(Out {
            name: rope::FACTORS,
            shape: vec![factors.len()],
            stored: Stored::F32,
            values: &factors,
            columns: 1,
            head: None,
        });
    }
    outs.iter().try_for_each(Out::check)?;
    let mut keys = Keys::default();
    keys.text("general.architecture", architecture.name());
    keys.text("general.type", "model");
    keys.size("general.file_type", file_type(stored));
    keys.size("general.quantization_version", 2);
    architecture.write(config, &mut keys);
    write_generation(generation, &mut keys);
    tokenizer::write(tokenizer_json, config.vocab, &mut keys)?;
    if let Some(template) = chat_template {
        keys.text("tokenizer.chat_template", template);
    }
    let header = header(&keys, &outs);
    crate::files::replace(EXPORT, path, |to| {
        to.write_all(&header)?;
        outs.iter().try_for_each(|out| out.write(to))
    })
}

/// The number of the type that most of the file is.
fn file_type(stored: GgufType) -> usize {
    match stored {
        GgufType::F32 => 0,
        GgufType::F16 => 1,
        GgufType::Q4_0 => 2,
        GgufType::Q8_0 => 7,
        GgufType::Bf16 => 32,
    }
}

fn header(keys: &Keys, outs: &[Out<'_>]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((outs.len() as u64).to_le_bytes());
    bytes.extend(keys.count.to_le_bytes());
    bytes.extend(&keys.bytes);
    let mut offset = 0u64;
    for out in outs {
        text(&mut bytes, out.name);
        bytes.extend((out.shape.len() as u32).to_le_bytes());
        out.shape.iter().rev().for_each(|&n| bytes.extend((n as u64).to_le_bytes()));
        bytes.extend(out.stored.number().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset = (offset + out.bytes()).next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    bytes
}

/// A tensor to be written.
struct Out<'a> {
    name: &'a str,
    shape: Vec<usize>,
    stored: Stored,
    /// None of a tensor of zeros.
    values: &'a [f32],
    columns: usize,
    /// Rows of a head, if they are reordered.
    head: Option<usize>,
}

impl<'a> Out<'a> {
    fn new(
        entry: &'a Entry,
        config: &Config,
        weights: &'a Weights,
        wanted: GgufType,
    ) -> Result<Self> {
        let columns = entry.columns();
        let (values, head) = match &entry.source {
            Source::Zeros => (&[][..], None),
            Source::Rows { ours, rows, turned } => (
                &weights.get(ours)?[rows.start * columns..rows.end * columns],
                turned.then_some(config.head_width),
            ),
        };
        let vector = entry.shape.len() == 1 || entry.name == "position_embd.weight";
        let stored = match wanted {
            _ if vector => Stored::F32,
            GgufType::Q8_0 | GgufType::Q4_0 if !columns.is_multiple_of(32) => Stored::F16,
            GgufType::F32 => Stored::F32,
            GgufType::F16 => Stored::F16,
            GgufType::Bf16 => Stored::Bf16,
            GgufType::Q8_0 => Stored::Q8_0,
            GgufType::Q4_0 => Stored::Q4_0,
        };
        Ok(Self { name: &entry.name, shape: entry.shape.clone(), stored, values, columns, head })
    }

    fn bytes(&self) -> u64 {
        self.stored.bytes(self.shape.iter().product()) as u64
    }

    /// Whether every value can be written; a scale of NaN would spoil a block unseen.
    fn check(&self) -> Result<()> {
        let most = most(self.stored);
        let blocks = !matches!(self.stored, Stored::F32 | Stored::F16 | Stored::Bf16);
        let bad = |x: f32| if x.is_finite() { x.abs() > most } else { blocks };
        let Some(at) = self.values.iter().position(|&x| bad(x)) else { return Ok(()) };
        let (name, x, stored) = (self.name, self.values[at], self.stored);
        let message = format!("{name}[{at}] = {x}, which {stored:?} cannot hold");
        Err(Error::new(Kind::Numeric, EXPORT, message).hint("write F32 or BF16"))
    }

    /// The row of ours that stands at `row` there.
    fn row(&self, row: usize) -> &'a [f32] {
        let from = match self.head {
            Some(d) => row / d * d + row % d / 2 + row % 2 * (d / 2),
            None => row,
        };
        &self.values[from * self.columns..(from + 1) * self.columns]
    }

    fn write(&self, to: &mut dyn Write) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        if self.values.is_empty() {
            bytes.resize(self.bytes() as usize, 0);
        }
        for row in 0..self.values.len() / self.columns {
            quantise(self.stored, self.row(row), &mut bytes);
            if bytes.len() >= PIECE {
                to.write_all(&bytes)?;
                bytes.clear();
            }
        }
        to.write_all(&bytes)?;
        let gap = self.bytes().next_multiple_of(ALIGNMENT) - self.bytes();
        to.write_all(&[0; ALIGNMENT as usize][..gap as usize])
    }
}

fn write_generation(generation: &GenerationConfig, keys: &mut Keys) {
    let mut id = |key: &str, id: Option<u32>| {
        if let Some(id) = id {
            keys.size(&format!("tokenizer.ggml.{key}_token_id"), id as usize);
        }
    };
    id("bos", generation.bos);
    id("padding", generation.pad);
    for (key, end) in ["eos", "eot", "eom"].into_iter().zip(&generation.eos) {
        id(key, Some(*end));
    }
    let defaults = GenerationConfig::default();
    for (key, found, default) in [
        ("temp", generation.temperature, defaults.temperature),
        ("top_p", generation.top_p, defaults.top_p),
        ("min_p", generation.min_p, defaults.min_p),
        ("penalty_repeat", generation.repetition_penalty, defaults.repetition_penalty),
    ] {
        if found != default {
            keys.single(&format!("general.sampling.{key}"), found);
        }
    }
    if let Ok(k) = i32::try_from(generation.top_k)
        && k > 0
    {
        keys.signed("general.sampling.top_k", k);
    }
}
