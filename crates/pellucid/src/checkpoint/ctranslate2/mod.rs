//! Encoder-decoders in CTranslate2's format (OpenNMT): `model.bin` (`file.rs` says how it is laid out), `config.json`
//! since version 6, and the tokens in `shared_vocabulary` or `source_vocabulary` and `target_vocabulary`, `.json` or
//! `.txt`.
//!
//! Read are `TransformerSpec` up to revision 7 and the older `TransformerBase` and `TransformerBig`: pre-norm or
//! post-norm, LayerNorm or RMSNorm, ReLU, GELU or SiLU, gated or not, a norm after the embedding or not, positions that
//! are computed or stored. Elements may be f32, f16, bf16, or int8 and int16 with scales; all become f32. A variable
//! that is not understood is an error, as the model would compute something else without it.
//!
//! **Two vocabularies.** Source and target have a list of tokens and a table of embeddings each. [`Config`] has a table
//! for each stack (`source_vocab`), but a tokenizer reads and writes one list of ids. So ids are those of the target,
//! then those of tokens that only the source has: [`CTranslate2Model::vocabulary`]. Both tables have a row for every
//! id; a token that a side has not is to CTranslate2 its unknown one, so its row is a copy of that. Tokens that only
//! the source has are never written: their bias in the head is -1e9, which makes their probability 0. The model
//! computes what it did, and `tokenizer.json` does both sides.
//!
//! **Zeros first.** Marian's decoders start from a zero vector (`start_from_zero_embedding`). It becomes one more token,
//! `<pad>` as in `transformers`, whose row is zero and which is never written.
//!
//! **No end of a source.** Unless `add_source_eos` says so, CTranslate2 puts no token after a source. The tokenizer's
//! template then adds nothing, and is there to say so.

mod file;
mod fill;
mod settings;
mod sizes;
#[cfg(test)]
mod tests;
mod vocabulary;
mod waves;

use super::generation::GenerationConfig;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::config::Config;
use crate::model::weights::Weights;
use file::ModelFile;
use settings::Settings;
use std::path::Path;
use vocabulary::Joined;

const IMPORT: &str = "import CTranslate2";
/// What variables' names begin with, and ours.
const SIDES: [&str; 2] = ["encoder", "decoder"];
/// CTranslate2's own default.
const BEAMS: usize = 2;

/// A model that was read.
#[derive(Debug)]
pub struct CTranslate2Model {
    /// Sizes and choices.
    pub config: Config,
    /// The weights in f32.
    pub weights: Weights,
    /// Tokens of a source as the folder lists them, with the unknown one; their ids are places in `vocabulary`.
    pub source_vocabulary: Vec<String>,
    /// Tokens of a translation as the folder lists them, with the unknown one: ids are places in it.
    pub target_vocabulary: Vec<String>,
    /// Tokens of both by id: the target's, those that only the source has, and the start if it is zeros.
    pub vocabulary: Vec<String>,
    /// Which tokens start and end a text; two beams, as CTranslate2 has by default.
    pub generation: GenerationConfig,
    /// The text of a `tokenizer.json` for tokens between blanks.
    pub tokenizer: String,
}

/// Reads the model of a folder.
///
/// # Errors
/// A file that is missing, truncated or damaged; a model that is no encoder-decoder, or has parts that this library
/// has not; variables that are missing, unknown or of the wrong shape (they are listed); vocabularies of other sizes
/// than their tables.
pub fn import_ctranslate2(folder: &Path) -> Result<CTranslate2Model> {
    let path = folder.join("model.bin");
    let bytes = files::read(IMPORT, &path)?;
    read(folder, &bytes).map_err(|e| e.fact(format!("in {}", path.display())))
}

/// As [`import_ctranslate2`] with the bytes of `model.bin`.
fn read(folder: &Path, bytes: &[u8]) -> Result<CTranslate2Model> {
    let file = ModelFile::parse(bytes)?;
    let settings = Settings::read(folder, &file)?;
    let (config, factors) = sizes::read(&file, &settings)?;
    let (source, target) = vocabulary::read(folder, &settings.unknown)?;
    for (side, tokens) in [&source, &target].into_iter().enumerate() {
        let [rows, _] = sizes::table(&file, side)?;
        if rows != tokens.len() {
            let name = sizes::table_name(&file, side);
            let message = format!("{} tokens, but {name} has {rows} rows", tokens.len());
            return Err(fault(message)
                .fact(format!("{:?} is one of the tokens, if need be the last", settings.unknown))
                .hint("the vocabulary belongs to another model"));
        }
    }
    let zeros = file.number("decoder/start_from_zero_embedding")?.is_some_and(|x| x != 0.0);
    let joined = Joined::new(&source, &target, &settings.unknown, zeros);
    let (config, weights) = fill::weights(&file, config, &joined, (source.len(), factors))?;
    let id = |token: &String| joined.id(token);
    let generation = GenerationConfig {
        temperature: 0.0,
        bos: id(&settings.bos),
        eos: id(&settings.eos).into_iter().collect(),
        pad: joined.zero,
        decoder_start: joined.zero.or(settings.start.as_ref().and_then(id)),
        beams: Some(BEAMS),
        ..GenerationConfig::default()
    };
    Ok(CTranslate2Model {
        config,
        weights,
        tokenizer: joined.tokenizer(&settings),
        vocabulary: joined.tokens,
        source_vocabulary: source,
        target_vocabulary: target,
        generation,
    })
}

/// An error about what a file holds.
fn fault(message: String) -> Error {
    Error::new(Kind::Format, IMPORT, message)
}
