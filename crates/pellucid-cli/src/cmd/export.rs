//! `pellucid export`

use crate::model::find;
use crate::store::{self, StoreArgs, Whole};
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A model folder, the folder of a run, or one of LoRA factors, which are merged into their base
    model: PathBuf,
    /// Folder for `transformers`, or a file that ends in .gguf for llama.cpp
    #[arg(long, short)]
    out: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

impl Export {
    pub(crate) fn run(self) -> Result<()> {
        let found = find(&self.model)?;
        store::elsewhere("export", &found, &self.out)?;
        let whole = Whole::load(&found)?;
        let gguf = self.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if gguf && self.store.max_shard_size.is_some() {
            let message = "--max-shard-size splits a folder's weights; a GGUF file is one";
            return Err(Error::new(Kind::Input, "export", message).hint("leave it out"));
        }
        if gguf {
            return whole.save_gguf(&self.out, self.store.dtype);
        }
        let layout = self.store.layout(whole.stored)?;
        whole.save("export", &self.out, layout)?;
        whole.said(&self.out, layout.stored.name())
    }
}
