//! `pellucid import`

use crate::model::find;
use crate::store::{self, StoreArgs, Whole, Words};
use clap::Args;
use pellucid::checkpoint::gguf::import_gguf;
use pellucid::checkpoint::{GenerationConfig, StoredType, import_ctranslate2, import_llama2c};
use pellucid::error::{Error, Kind, Result};
use pellucid::text::{ChatTemplate, Tokenizer};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A folder of `transformers`, of LoRA factors (merged into their base) or of CTranslate2; a GGUF file; a
    /// llama2.c checkpoint (.bin, version 0); or the name of a model on the Hugging Face Hub, such as owner/name
    source: PathBuf,
    /// Folder for the model
    #[arg(long, short)]
    out: PathBuf,
    /// A tokenizer.json, or a folder that has one, in place of the model's own
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Branch, tag or commit of a model on the hub
    #[arg(long, default_value = "main", value_name = "NAME")]
    revision: String,
    #[command(flatten)]
    store: StoreArgs,
}

impl Import {
    pub(crate) fn run(self) -> Result<()> {
        let mut whole = self.read()?;
        match &self.tokenizer {
            None => {}
            Some(path) if path.is_dir() => {
                whole.words.tokenizer = Some(Tokenizer::from_folder(path)?)
            }
            Some(path) => whole.words.tokenizer = Some(Tokenizer::from_file(path)?),
        }
        let layout = self.store.layout(whole.stored)?;
        whole.save("import", &self.out, layout)?;
        whole.said(&self.out, layout.stored.name())
    }

    fn read(&self) -> Result<Whole> {
        let source = &self.source;
        if source.is_file() {
            return if is_gguf(source)? { gguf(source) } else { llama2c(source) };
        }
        let has = |name: &str| source.join(name).is_file();
        if has("model.bin") && !has("model.safetensors") {
            return ctranslate2(source);
        }
        if source.is_dir() {
            return folder(source, &self.out);
        }
        let name = source.to_str().filter(|name| {
            let parts: Vec<&str> = name.split('/').collect();
            parts.len() <= 2 && parts.iter().all(|part| !part.is_empty() && !part.starts_with('.'))
        });
        let Some(name) = name else {
            let message = format!("{}: no such file or folder", source.display());
            return Err(Error::new(Kind::Io, "import", message)
                .hint("a model on the hub is named owner/name"));
        };
        Whole::load(&fetch(name, &self.revision)?)
    }
}

fn llama2c(file: &Path) -> Result<Whole> {
    let (config, weights) = import_llama2c(file)?;
    // llama2.c begins every text with 1 and ends it with 2.
    let generation = GenerationConfig { bos: Some(1), eos: vec![2], ..GenerationConfig::default() };
    let stored = StoredType::F32;
    Ok(Whole { config, weights, words: Words::default(), generation, stored })
}

fn is_gguf(file: &Path) -> Result<bool> {
    let mut magic = vec![];
    let read = File::open(file).and_then(|f| f.take(4).read_to_end(&mut magic));
    read.map_err(|e| Error::io("import", file, e))?;
    Ok(magic == b"GGUF")
}

fn gguf(file: &Path) -> Result<Whole> {
    let model = import_gguf(file)?;
    let tokenizer = model.tokenizer_json.map(Tokenizer::from_json).transpose()?;
    let piece = |id: Option<u32>| tokenizer.as_ref().zip(id).and_then(|(t, id)| t.id_to_piece(id));
    let bos = piece(model.generation.bos).unwrap_or_default();
    let eos = piece(model.generation.eos.first().copied()).unwrap_or_default();
    let template =
        |source: String| ChatTemplate::new(&source, [("bos_token", &*bos), ("eos_token", &*eos)]);
    let template = model.chat_template.map(template).transpose()?;
    let (config, weights, generation) = (model.config, model.weights, model.generation);
    let (words, stored) = (Words { tokenizer, template }, StoredType::F32);
    Ok(Whole { config, weights, words, generation, stored })
}

fn ctranslate2(folder: &Path) -> Result<Whole> {
    let model = import_ctranslate2(folder)?;
    let tokenizer = Some(Tokenizer::from_json(model.tokenizer)?);
    let (config, weights, generation) = (model.config, model.weights, model.generation);
    let stored = StoredType::F32;
    let words = Words { tokenizer, template: None };
    Ok(Whole { config, weights, words, generation, stored })
}

fn folder(source: &Path, out: &Path) -> Result<Whole> {
    let found = find(source)?;
    store::elsewhere("import", &found, out)?;
    Whole::load(&found)
}

/// The folder of the cache that holds a model of the hub.
#[cfg(feature = "hub")]
fn fetch(name: &str, revision: &str) -> Result<PathBuf> {
    use crate::signal;
    use pellucid::backend::settings::Settings;
    use pellucid::hub::{self, HubOptions, Progress};
    let options = HubOptions::from_settings(Settings::get())?;
    let bar = crate::out::byte_bar();
    signal::listen("stopping; what came so far is kept")?;
    let mut progress = |p: Progress<'_>| {
        bar.set_length(p.size);
        bar.set_position(p.done);
        bar.set_message(p.file.to_owned());
        match signal::take() {
            true => Err(Error::new(Kind::Interrupted, "import", "stopped")
                .hint("the same command goes on where this one stopped")),
            false => Ok(()),
        }
    };
    let folder = hub::fetch_with(name, revision, &options, &mut progress);
    bar.finish_and_clear();
    folder
}

#[cfg(not(feature = "hub"))]
fn fetch(name: &str, _: &str) -> Result<PathBuf> {
    let message =
        format!("{name}: no such file or folder, and this command was built without the hub");
    Err(Error::new(Kind::Io, "import", message).hint("build it with --features hub"))
}
