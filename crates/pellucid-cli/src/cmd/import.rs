//! `pellucid import`

use crate::out;
use clap::Args;
use pellucid::checkpoint::{self, GenerationConfig, StoredType, import_llama2c};
use pellucid::error::{Error, Kind, Result};
use pellucid::text::Tokenizer;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A llama2.c checkpoint (.bin, version 0)
    file: PathBuf,
    /// Folder for the model
    #[arg(long, short)]
    out: PathBuf,
    /// A tokenizer.json, or a folder that has one
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

impl Import {
    pub(crate) fn run(self) -> Result<()> {
        let (config, weights) = import_llama2c(&self.file)?;
        let tokenizer = match &self.tokenizer {
            None => None,
            Some(path) if path.is_dir() => Some(Tokenizer::from_folder(path)?),
            Some(path) => Some(Tokenizer::from_file(path)?),
        };
        if let Some(tokenizer) = &tokenizer
            && tokenizer.vocab_size() > config.vocab
        {
            let (v, most) = (tokenizer.vocab_size(), config.vocab);
            let message = format!("the tokenizer has {v} ids, the model only {most}");
            return Err(Error::new(Kind::Config, "import", message)
                .hint("use the tokenizer that the model was trained with"));
        }
        // llama2.c begins every text with 1 and ends it with 2.
        let generation =
            GenerationConfig { bos: Some(1), eos: vec![2], ..GenerationConfig::default() };
        let json = tokenizer.as_ref().map(Tokenizer::to_json);
        checkpoint::save(&self.out, &config, &weights, json, &generation, StoredType::F32)?;
        if let Some(tokenizer) = &tokenizer {
            tokenizer.save_folder(&self.out)?;
        }
        let n = out::count(weights.count() as u64);
        out::line(format!("{n} parameters in {}", self.out.display()))?;
        if tokenizer.is_none() {
            out::line("no tokenizer was given: `generate` takes --ids, such as --ids 1")?;
        }
        Ok(())
    }
}
