//! A model from a folder, ready to run.

use clap::ValueEnum;
use pellucid::backend::cpu::pool::Pool;
use pellucid::backend::cpu::stored::Format;
use pellucid::checkpoint::{self, GenerationConfig};
use pellucid::error::{Error, Kind, Result};
use pellucid::generate::{
    Event, Flow, GenerateOptions, Generated, NextLogits, Sampling, Translator, WithModel, generate,
};
use pellucid::model::config::Config;
use pellucid::model::continuations::Request;
use pellucid::model::decoder::Decoder;
use pellucid::model::standing::Standing;
use pellucid::model::stored_weights::StoredWeights;
use pellucid::model::weights::{ParamSpec, Weights, parameters};
use pellucid::text::Tokenizer;
use pellucid::train::resume;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;

/// How weights are held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Held {
    /// As trained
    F32,
    /// 16 bits each
    Bf16,
    /// 8 bits, and a scale for each 128
    Int8,
    /// 4 bits, and a scale for each 32
    Int4,
}

impl Held {
    /// `None` for f32.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(Format::Bf16),
            Self::Int8 => Some(Format::Int8),
            Self::Int4 => Some(Format::Int4),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.format().map_or("f32", Format::name)
    }
}

/// Sizes, weights, tokenizer and defaults. `folder` is where its files about text lie.
pub(crate) struct Model {
    pub(crate) config: Config,
    /// All weights, or those beside the stored matrices.
    pub(crate) weights: Weights,
    pub(crate) stored: Option<StoredWeights>,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) generation: GenerationConfig,
    pub(crate) folder: PathBuf,
    /// Changes that hold while it writes.
    pub(crate) standing: Vec<Standing>,
}

/// The model folder of a run (its best checkpoint, else its last), or the folder itself.
pub(crate) fn find(folder: &Path) -> Result<PathBuf> {
    resume::find(folder, "best").or_else(|_| resume::find(folder, "last"))
}

/// The tokenizer of a folder; `there` says that it has a `tokenizer.json`, and faults of other files mean none.
pub(crate) fn tokenizer_of(folder: &Path, there: bool) -> Result<Option<Tokenizer>> {
    match Tokenizer::from_folder(folder) {
        Err(error) if there => Err(error),
        found => Ok(found.ok()),
    }
}

impl Model {
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let found = find(folder)?;
        let folder = checkpoint::text_folder(&found)?;
        // A large tokenizer is read beside the weights.
        let read = || Tokenizer::from_folder(&folder);
        let large = fs::metadata(folder.join("tokenizer.json")).is_ok_and(|m| m.len() > 1 << 18);
        let (loaded, tokenizer) = std::thread::scope(|scope| {
            let beside = large.then(|| scope.spawn(read));
            let loaded = checkpoint::load(&found);
            let join = |t: ScopedJoinHandle<'_, _>| t.join().unwrap_or_else(|p| resume_unwind(p));
            (loaded, beside.map_or_else(read, join))
        });
        let loaded = loaded?;
        let tokenizer = match loaded.tokenizer {
            Some(_) => Some(tokenizer?),
            None => tokenizer.ok(),
        };
        let (config, weights, generation) = (loaded.config, loaded.weights, loaded.generation);
        let (stored, standing) = (None, vec![]);
        Ok(Self { config, weights, stored, tokenizer, generation, folder, standing })
    }

    /// With weights held as asked; else as the folder has them, plain ones in f32.
    pub(crate) fn load_as(pool: &Pool, folder: &Path, held: Option<Held>) -> Result<Self> {
        let found = find(folder)?;
        let codes = checkpoint::stored_format(&found)?;
        let format = held.map_or(codes, Held::format);
        if codes.is_none() && format.is_none() {
            return Self::load(folder);
        }
        let loaded =
            checkpoint::load_stored(pool, &found, codes.filter(|_| format.is_none()).or(format))?;
        let folder = checkpoint::text_folder(&found)?;
        let tokenizer = tokenizer_of(&folder, loaded.tokenizer.is_some())?;
        let (config, generation) = (loaded.config, loaded.generation);
        let (weights, stored) = match format {
            None => (loaded.weights.dequantised(&config)?, None),
            Some(_) => (loaded.weights.rest().clone(), Some(loaded.weights)),
        };
        let standing = vec![];
        Ok(Self { config, weights, stored, tokenizer, generation, folder, standing })
    }

    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            let message = format!("{}: has no tokenizer", self.folder.display());
            Error::new(Kind::Input, "model", message)
                .hint("put its tokenizer.json there, or give token ids: --ids \"1 2 3\"")
        })
    }

    /// Ids of a prompt; an empty one begins with the token that begins or ends a text.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let mut ids = tokenizer.encode_with_template(prompt)?;
        // Some templates also end the text, which is not what a continuation wants.
        if ids.len() > 1 && ids.last().is_some_and(|id| self.ends().contains(id)) {
            ids.pop();
        }
        if ids.is_empty() {
            let special = tokenizer.special_ids();
            ids.extend(special.bos.or(self.generation.bos).or(special.eos));
        }
        Ok(ids)
    }

    /// Tokens that end a text.
    pub(crate) fn ends(&self) -> Vec<u32> {
        let mut ends = self.generation.eos.clone();
        if ends.is_empty() {
            ends.extend(self.tokenizer.as_ref().and_then(|t| t.special_ids().eos));
        }
        ends
    }

    /// An encoder-decoder with what it needs to read and write.
    pub(crate) fn translator<'a>(&'a self, pool: &'a Pool) -> Result<Translator<'a>> {
        let tokenizer = self.tokenizer()?;
        let Some(&end) = self.ends().first() else {
            let message = "the model has no token that ends a text";
            return Err(Error::new(Kind::Config, "translate", message)
                .hint("say it in generation_config.json: eos_token_id"));
        };
        let special = tokenizer.special_ids();
        let start = self.generation.decoder_start.or(special.bos).or(special.pad).unwrap_or(end);
        let (config, weights) = (&self.config, &self.weights);
        Ok(Translator { config, weights, pool, tokenizer, start, end })
    }

    /// A text and one that follows it; an encoder reads the first, where there is one.
    pub(crate) fn continued(&self, pool: &Pool, context: &str, text: &str) -> Result<Request> {
        let request = self.continued_whole(pool, context, text)?;
        let (n, most) = (request.continuation.len(), self.config.context);
        if n <= most {
            return Ok(request);
        }
        let message = format!("the continuation has {n} tokens, but the context holds {most}");
        Err(Error::new(Kind::Input, "model", message))
    }

    fn continued_whole(&self, pool: &Pool, context: &str, text: &str) -> Result<Request> {
        let ids = |ids: Vec<u32>| ids.into_iter().map(|id| id as i32).collect();
        if self.config.has_source() {
            let translator = self.translator(pool)?;
            // Spaces belong to what follows, as in Tokenizer::encode_continuation.
            let (context, spaces) = context.split_at(context.trim_end().len());
            let continuation = self.tokenizer()?.encode(&format!("{spaces}{text}"))?;
            let (source, context) = (translator.source(context)?, vec![translator.start as i32]);
            return Ok(Request { source, context, continuation: ids(continuation) });
        }
        let begin = self.generation.bos;
        let found = self.tokenizer()?.encode_continuation(context, text, begin)?;
        let (context, continuation) = (ids(found.context), ids(found.continuation));
        Ok(Request { source: vec![], context, continuation })
    }

    /// How the folder says that tokens are chosen.
    pub(crate) fn sampling(&self) -> Sampling {
        let g = &self.generation;
        Sampling {
            temperature: g.temperature,
            top_k: g.top_k,
            top_p: g.top_p,
            min_p: g.min_p,
            repetition_penalty: g.repetition_penalty,
            seed: 0,
        }
    }

    /// For these weights as they are held.
    pub(crate) fn decoder(&self, pool: &Pool, rows: usize, capacity: usize) -> Result<Decoder> {
        let (config, threads) = (&self.config, pool.threads());
        let mut decoder = match &self.stored {
            None => Decoder::new(config, rows, capacity, threads),
            Some(stored) => Decoder::with_stored(config, stored, rows, capacity, threads),
        }?;
        if !self.standing.is_empty() {
            decoder.hold(&self.standing)?;
        }
        Ok(decoder)
    }

    /// Parameters, however they are held.
    pub(crate) fn parameters(&self) -> usize {
        parameters(&self.config).iter().map(ParamSpec::len).sum()
    }

    /// Continues prompts, `rows` at a time.
    pub(crate) fn generate(
        &self,
        pool: &Pool,
        prompts: &[Vec<u32>],
        rows: usize,
        options: &GenerateOptions,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<Vec<Generated>> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let capacity = (longest + options.max_new).clamp(1, self.config.context);
        let rows = rows.clamp(1, prompts.len().max(1));
        let mut decoder = self.decoder(pool, rows, capacity)?;
        self.continue_with(&mut decoder, pool, prompts, options, sink)
    }

    /// As [`Self::generate`] with a decoder that is already there.
    pub(crate) fn continue_with(
        &self,
        decoder: &mut Decoder,
        pool: &Pool,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<Vec<Generated>> {
        let mut model =
            WithModel { decoder, pool, weights: &self.weights, vocab: self.config.vocab };
        generate(&mut model as &mut dyn NextLogits, prompts, options, self.tokenizer.as_ref(), sink)
    }
}
