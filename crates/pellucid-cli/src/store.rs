//! A model to a folder, with all that belongs to it.

use crate::model::tokenizer_of;
use crate::out;
use clap::{Args, ValueEnum};
use pellucid::checkpoint::gguf::{GgufType, export_gguf};
use pellucid::checkpoint::{self, GenerationConfig, Layout, StoredType};
use pellucid::error::{Error, Kind, Result};
use pellucid::model::config::Config;
use pellucid::model::weights::Weights;
use pellucid::text::{ChatTemplate, Tokenizer};
use std::path::Path;

/// How each weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// 32 bits, as trained
    F32,
    /// 16 bits, the range of f32
    Bf16,
    /// 16 bits, three more of them digits; nothing above 65504
    F16,
    /// 8 bits, and a scale for each 32; GGUF only
    #[value(name = "q8_0")]
    Q8,
    /// 4 bits, and a scale for each 32; GGUF only
    #[value(name = "q4_0")]
    Q4,
}

impl Dtype {
    /// In safetensors.
    fn stored(self) -> Result<StoredType> {
        match self {
            Self::F32 => Ok(StoredType::F32),
            Self::Bf16 => Ok(StoredType::Bf16),
            Self::F16 => Ok(StoredType::F16),
            Self::Q8 | Self::Q4 => {
                let message = "q8_0 and q4_0 are types of GGUF, not of a folder";
                Err(Error::new(Kind::Config, "dtype", message)
                    .hint("export to a file that ends in .gguf, or see `pellucid quantise`"))
            }
        }
    }

    pub(crate) fn gguf(self) -> GgufType {
        match self {
            Self::F32 => GgufType::F32,
            Self::Bf16 => GgufType::Bf16,
            Self::F16 => GgufType::F16,
            Self::Q8 => GgufType::Q8_0,
            Self::Q4 => GgufType::Q4_0,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StoreArgs {
    /// How weights are stored; without it, as they were
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) dtype: Option<Dtype>,
    /// Several files of at most this size, such as 5GB or 200MB; without it, one file
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_shard_size: Option<u64>,
}

impl StoreArgs {
    pub(crate) fn layout(&self, was: StoredType) -> Result<Layout> {
        let stored = self.dtype.map_or(Ok(was), Dtype::stored)?;
        Ok(Layout { stored, shard: self.max_shard_size })
    }
}

/// Bytes, of a number with KB, MB or GB (powers of 1000, as `transformers` counts) or without.
fn size(text: &str) -> std::result::Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &upper[digits.len()..] {
        "" | "B" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        unit => return Err(format!("{unit} is not B, KB, MB or GB")),
    };
    let bytes = digits.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
    bytes.filter(|&n| n > 0).ok_or_else(|| "a whole number above 0 and a unit, as in 5GB".into())
}

/// Refuses to write over what is read.
pub(crate) fn elsewhere(operation: &'static str, from: &Path, out: &Path) -> Result<()> {
    let same = from.canonicalize().ok().zip(out.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if !same {
        return Ok(());
    }
    let message = format!("{}: would replace what it is made from", out.display());
    Err(Error::new(Kind::Input, operation, message).hint("choose another --out"))
}

/// How a model's folder reads and writes text.
#[derive(Default)]
pub(crate) struct Words {
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) template: Option<ChatTemplate>,
}

impl Words {
    /// Of a folder; `there` says that it has a `tokenizer.json`.
    pub(crate) fn load(folder: &Path, there: bool) -> Result<Self> {
        let folder = checkpoint::text_folder(folder)?;
        let template = ChatTemplate::from_folder(&folder, None)?;
        Ok(Self { tokenizer: tokenizer_of(&folder, there)?, template })
    }

    /// The text of `tokenizer.json`, which belongs to the checkpoint itself.
    pub(crate) fn json(&self) -> Option<&str> {
        self.tokenizer.as_ref().map(Tokenizer::to_json)
    }

    /// Writes what stands beside a checkpoint that is there.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        if let Some(tokenizer) = &self.tokenizer {
            tokenizer.save_folder(folder)?;
        }
        self.template.as_ref().map_or(Ok(()), |template| template.save_folder(folder))
    }

    pub(crate) fn said(&self) -> Result<()> {
        match self.tokenizer {
            Some(_) => Ok(()),
            None => out::line("there is no tokenizer: `generate` takes --ids, such as --ids 1"),
        }
    }
}

/// A model and what belongs to it, from anywhere.
pub(crate) struct Whole {
    pub(crate) config: Config,
    pub(crate) weights: Weights,
    pub(crate) words: Words,
    pub(crate) generation: GenerationConfig,
    pub(crate) stored: StoredType,
}

impl Whole {
    /// From a folder; LoRA factors are merged into their base.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let loaded = checkpoint::load(folder)?;
        let words = Words::load(folder, loaded.tokenizer.is_some())?;
        let checkpoint::Loaded { config, weights, generation, stored, .. } = loaded;
        Ok(Self { config, weights, words, generation, stored })
    }

    /// Writes all to `out`.
    pub(crate) fn save(&self, operation: &'static str, out: &Path, layout: Layout) -> Result<()> {
        if let Some(tokenizer) = &self.words.tokenizer
            && tokenizer.vocab_size() > self.config.vocab
        {
            let (v, most) = (tokenizer.vocab_size(), self.config.vocab);
            let message = format!("the tokenizer has {v} ids, the model only {most}");
            return Err(Error::new(Kind::Config, operation, message)
                .hint("use the tokenizer that the model was trained with"));
        }
        let (config, json) = (&self.config, self.words.json());
        checkpoint::save(out, config, &self.weights, json, &self.generation, layout)?;
        self.words.save(out)
    }

    /// Writes all to one file for llama.cpp.
    pub(crate) fn save_gguf(&self, out: &Path, dtype: Option<Dtype>) -> Result<()> {
        let dtype = dtype.unwrap_or(match self.stored {
            StoredType::F32 => Dtype::F32,
            StoredType::Bf16 => Dtype::Bf16,
            StoredType::F16 => Dtype::F16,
        });
        let json = self.words.json();
        let template = self.words.template.as_ref().map(ChatTemplate::source);
        let (config, generation) = (&self.config, &self.generation);
        export_gguf(out, config, &self.weights, json, template, generation, dtype.gguf())?;
        let name = dtype.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned());
        self.said(out, &name)
    }

    /// Says what is there.
    pub(crate) fn said(&self, out: &Path, dtype: &str) -> Result<()> {
        let n = out::count(self.weights.count() as u64);
        out::line(format!("{n} parameters in {dtype}: {}", out.display()))?;
        self.words.said()
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        let right = [("5GB", 5_000_000_000), ("200 mb", 200_000_000), ("7", 7), ("9kb", 9000)];
        right.into_iter().for_each(|(text, bytes)| assert_eq!(size(text), Ok(bytes)));
        for wrong in ["", "0", "GB", "5TB", "-1", "1.5GB", "99999999999GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
