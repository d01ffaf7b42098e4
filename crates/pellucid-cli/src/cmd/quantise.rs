//! `pellucid quantise`

use crate::model::{Held, find};
use crate::out;
use crate::plan;
use crate::store::{self, Whole, Words};
use clap::{Args, ValueEnum};
use pellucid::checkpoint::{self, LoadedStored, StoredType};
use pellucid::error::Result;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Quantise {
    /// A model folder or the folder of a run
    model: PathBuf,
    /// What each weight of a matrix becomes; norms, biases and positions stay f32
    #[arg(long, value_enum)]
    to: To,
    /// Folder for the new model
    #[arg(long, short)]
    out: PathBuf,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    /// 16 bits; `transformers` and every command here read it
    Bf16,
    /// 8 bits, and a scale for each 128; for `generate` and `eval`
    Int8,
    /// 4 bits, and a scale for each 32; for `generate` and `eval`
    Int4,
}

impl Quantise {
    pub(crate) fn run(self) -> Result<()> {
        let folder = find(&self.model)?;
        store::elsewhere("quantise", &folder, &self.out)?;
        let held = match self.to {
            To::Bf16 => Held::Bf16,
            To::Int8 => Held::Int8,
            To::Int4 => Held::Int4,
        };
        let words = match held {
            Held::Int8 | Held::Int4 => self.codes(&folder, held)?,
            _ => {
                let whole = Whole::load(&folder)?;
                whole.save("quantise", &self.out, StoredType::Bf16.into())?;
                whole.words
            }
        };
        let files = size(&folder).zip(size(&self.out));
        let sizes = files.map_or(String::new(), |(from, to)| {
            format!(": {} to {}", out::bytes(from), out::bytes(to))
        });
        out::line(format!("{} weights in {}{sizes}", held.name(), self.out.display()))?;
        words.said()
    }

    fn codes(&self, folder: &Path, held: Held) -> Result<Words> {
        let pool = plan::pool(self.threads);
        let loaded = checkpoint::load_stored(&pool, folder, held.format())?;
        let LoadedStored { config, weights, generation, tokenizer } = loaded;
        let tokenizer = tokenizer.as_deref();
        checkpoint::save_stored(&self.out, &config, &weights, tokenizer, &generation)?;
        let words = Words::load(folder, tokenizer.is_some())?;
        words.save(&self.out)?;
        Ok(words)
    }
}

/// Bytes of a folder's weights in one file.
fn size(folder: &Path) -> Option<u64> {
    folder.join("model.safetensors").metadata().ok().map(|m| m.len())
}
