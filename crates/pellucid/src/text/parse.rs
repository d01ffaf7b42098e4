//! Reading a `tokenizer.json`, which may come from a stranger.

use super::characters::{CharTable, EACH};
use super::cut;
use super::pieces::{Pieces, byte_characters};
use super::special::SpecialIds;
use super::tokenizer::{Flavor, Inner, Tokenizer, guard};
use crate::error::{Error, Kind, Result};
use crate::files;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use tokenizers::decoders::DecoderWrapper as Decoder;
use tokenizers::models::ModelWrapper as Model;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NormalizerWrapper as Normalizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper as Splitter;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::processors::PostProcessorWrapper as Processor;
use tokenizers::{Model as _, Tokenizer as Hub, TokenizerImpl};

const READ: &str = "read tokenizer";

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or describes no tokenizer.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = files::read_text(READ, path)?;
        Self::from_json(text).map_err(|e| e.fact(format!("in {}", path.display())))
    }

    /// Reads the tokenizer of a checkpoint folder: `tokenizer.json`, with the special tokens that
    /// `tokenizer_config.json` names; GPT-2's two files; or BERT's `vocab.txt`.
    ///
    /// # Errors
    /// The folder has no tokenizer that this reads, or a file in it is broken.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let has = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let config = match has("tokenizer_config.json") {
            None => Value::Null,
            Some(path) => serde_json::from_str(&files::read_text(READ, &path)?)
                .map_err(|e| Error::new(Kind::Format, READ, format!("{}: {e}", path.display())))?,
        };
        let mut tokenizer = if let Some(path) = has("tokenizer.json") {
            Self::from_file(&path)?
        } else if let (Some(vocabulary), Some(merges)) = (
            has("vocab.json").or_else(|| has("encoder.json")),
            has("merges.txt").or_else(|| has("vocab.bpe")),
        ) {
            Self::from_gpt2(&vocabulary, &merges)?
        } else if let Some(path) = has("vocab.txt") {
            Self::from_vocab_txt(&path, &config)?
        } else {
            return Err(none(folder));
        };
        let id = |name: &str| {
            let token = &config[name];
            token
                .as_str()
                .or_else(|| token["content"].as_str())
                .and_then(|token| tokenizer.piece_to_id(token))
        };
        tokenizer.special = tokenizer.special.renamed(id);
        Ok(tokenizer)
    }

    /// Reads the contents of a `tokenizer.json`, which [`Self::save`] writes back as they are.
    /// Padding, truncation and dropout in it are not applied: every text gives all of its ids.
    ///
    /// # Errors
    /// It is not JSON, or describes no tokenizer.
    pub fn from_json(json: impl Into<String>) -> Result<Self> {
        let json = json.into();
        let mut hub = hub(&json)?;
        guard(READ, || hub.with_truncation(None).map(|_| ()))?;
        hub.with_padding(None);
        if let Model::BPE(bpe) = hub.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            hub.with_model(bpe);
        }
        let tokens = tokens(&hub)?;
        let pieces = Pieces::new(&hub, &tokens);
        let marked = marked(&hub);
        let (flavor, table) = flavor(&hub, &tokens);
        let special = guess(&hub, &json);
        let cache = cut::cuttable(&hub).then(Mutex::default);
        let (ordinary, fingerprint) = (OnceLock::new(), OnceLock::new());
        let inner =
            Inner { flavor, hub, ordinary, json, table, pieces, marked, cache, fingerprint };
        Ok(Self { inner: Arc::new(inner), special })
    }
}

/// A [`Hub`] whose model is read as BPE at once; as one of several kinds it goes through a second copy of the file.
type BpeHub = TokenizerImpl<BPE, Normalizer, Splitter, Processor, Decoder>;

fn hub(json: &str) -> Result<Hub> {
    let bpe = || serde_json::from_str::<BpeHub>(json).map_err(Into::into);
    if let Ok(bpe) = guard(READ, bpe) {
        return Ok(bpe.into());
    }
    let bad = |why: String| Error::new(Kind::Format, READ, why);
    // Told apart here: the error for a file that is no JSON has line and column.
    let file: Value = serde_json::from_str(json)
        .map_err(|e| bad(format!("not JSON: {e}")).hint("give a Hugging Face tokenizer.json"))?;
    if !file.is_object() || !file["model"].is_object() {
        return Err(bad("JSON without a \"model\": not a tokenizer".into())
            .hint("give a Hugging Face tokenizer.json"));
    }
    guard(READ, || json.parse()).map_err(|e| bad(e.to_string()))
}

fn none(folder: &Path) -> Error {
    if !folder.is_dir() {
        return Error::new(Kind::Io, READ, format!("{}: no such folder", folder.display()));
    }
    let error =
        Error::new(Kind::Io, READ, format!("{}: no tokenizer.json in it", folder.display()));
    if folder.join("tokenizer.model").is_file() {
        return error.fact("it has an older vocabulary file").hint(
            "convert it once: python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('.').save_pretrained('.')\"",
        );
    }
    error.hint("expected tokenizer.json, vocab.json (encoder.json) with merges.txt (vocab.bpe), or vocab.txt")
}

/// Spelling of each id; the ids must not be absurdly sparse, as the embedding has a row for each.
fn tokens(hub: &Hub) -> Result<Vec<Option<String>>> {
    let vocabulary = hub.get_vocab(true);
    let Some(greatest) = vocabulary.values().max().map(|&id| id as usize) else {
        return Err(Error::new(Kind::Format, READ, "the vocabulary is empty"));
    };
    if greatest > 4 * vocabulary.len() + (1 << 16) {
        let message = format!("id {greatest} in a vocabulary of {} tokens", vocabulary.len());
        return Err(
            Error::new(Kind::Format, READ, message).hint("ids must run from 0 without large holes")
        );
    }
    let mut tokens = vec![None; greatest + 1];
    for (token, id) in vocabulary {
        // Two spellings of one id: the lesser, so that every run agrees.
        let place: &mut Option<String> = &mut tokens[id as usize];
        if place.as_ref().is_none_or(|other| token < *other) {
            *place = Some(token);
        }
    }
    Ok(tokens)
}

fn marked(hub: &Hub) -> Vec<(String, u32)> {
    let added = hub.get_added_vocabulary().get_added_tokens_decoder();
    let mut marked: Vec<(String, u32)> = added
        .iter()
        .filter(|(_, token)| token.special && !token.content.is_empty())
        .map(|(&id, token)| (token.content.clone(), id))
        .collect();
    marked.sort_by_key(|&(_, id)| id);
    marked
}

/// Recognises the two forms that this crate writes, which have a direct path.
fn flavor(hub: &Hub, tokens: &[Option<String>]) -> (Flavor, Option<CharTable>) {
    let plain = hub.get_normalizer().is_none();
    match (hub.get_model(), hub.get_pre_tokenizer()) {
        (Model::WordLevel(words), Some(Splitter::Split(split)))
            if plain
                && split.pattern == SplitPattern::Regex(EACH.into())
                && split.behavior == tokenizers::SplitDelimiterBehavior::Isolated
                && !split.invert
                && only_special(hub) =>
        {
            let unknown = words.token_to_id(&words.unk_token);
            let mut pairs = vec![];
            for (id, token) in tokens.iter().enumerate() {
                let mut letters = token.as_deref().unwrap_or_default().chars();
                if let (Some(c), None) = (letters.next(), letters.next()) {
                    pairs.push((c, id as u32));
                }
            }
            (Flavor::Characters, Some(CharTable::new(&pairs, unknown)))
        }
        (Model::BPE(bpe), Some(Splitter::ByteLevel(level))) => {
            let bytes = byte_characters();
            let mut buffer = [0; 4];
            let identity = (0..256)
                .all(|b| bpe.token_to_id(bytes[b].encode_utf8(&mut buffer)) == Some(b as u32));
            let direct = plain
                && identity
                && only_special(hub)
                && !level.use_regex
                && !level.add_prefix_space
                && merges(hub) == Some(0);
            (if direct { Flavor::Bytes } else { Flavor::ByteLevel }, None)
        }
        (Model::BPE(_), Some(Splitter::Sequence(parts)))
            if parts.as_ref().iter().any(|part| matches!(part, Splitter::ByteLevel(_))) =>
        {
            (Flavor::ByteLevel, None)
        }
        _ => (Flavor::Other, None),
    }
}

/// Whether ordinary text never gives an added token, and each takes its own spelling only.
fn only_special(hub: &Hub) -> bool {
    let added = hub.get_added_vocabulary().get_added_tokens_decoder();
    added.values().all(|t| t.special && !(t.lstrip || t.rstrip || t.single_word))
}

/// The merges of a BPE model are private to its crate; the file's spelling is not.
fn merges(hub: &Hub) -> Option<usize> {
    let model = serde_json::to_value(hub.get_model()).ok()?;
    model["merges"].as_array().map(Vec::len)
}

/// The special tokens by the names that are in use.
fn guess(hub: &Hub, json: &str) -> SpecialIds {
    let added = hub.get_added_vocabulary();
    let first = |names: &[&str]| {
        names.iter().find(|name| added.is_special_token(name)).and_then(|n| hub.token_to_id(n))
    };
    let unk = match hub.get_model() {
        Model::BPE(model) => model.unk_token.as_deref().and_then(|t| model.token_to_id(t)),
        Model::WordLevel(model) => model.token_to_id(&model.unk_token),
        Model::WordPiece(model) => model.token_to_id(&model.unk_token),
        Model::Unigram(_) => unigram_unknown(json),
    };
    // RoBERTa's names; elsewhere <s> only begins a text.
    let masks = first(&["<mask>"]).is_some();
    SpecialIds {
        bos: first(&["<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<|bos|>", "[BOS]"]),
        eos: first(&[
            "</s>",
            "<eos>",
            "<|end_of_text|>",
            "<|endoftext|>",
            "<|im_end|>",
            "<|eos|>",
            "[EOS]",
        ]),
        unk: unk.or_else(|| first(&["<unk>", "[UNK]"])),
        pad: first(&["<pad>", "[PAD]", "<|pad|>"]),
        cls: first(&["[CLS]", "<cls>"]).or(if masks { first(&["<s>"]) } else { None }),
        sep: first(&["[SEP]", "<sep>"]).or(if masks { first(&["</s>"]) } else { None }),
        mask: first(&["[MASK]", "<mask>"]),
    }
}

/// The unknown token of a Unigram model, which is private to its crate; the file has it.
fn unigram_unknown(json: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct File {
        model: Unigram,
    }
    #[derive(Deserialize)]
    struct Unigram {
        unk_id: Option<u32>,
    }
    serde_json::from_str::<File>(json).ok()?.model.unk_id
}
