//! One id per character, one id per byte: no training, nothing to download.

use super::special::Specials;
use super::tokenizer::{Origin, Tokenizer};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// No such character.
const NONE: u32 = u32::MAX;

/// Every character by itself, in the syntax of Rust's and of Python's regular expressions.
pub(super) const EACH: &str = r"[\s\S]";

/// Character to id, by code point.
pub(super) struct CharTable {
    ids: Vec<u32>,
    unknown: Option<u32>,
}

impl CharTable {
    /// `pairs` of a character and its id.
    pub(super) fn new(pairs: &[(char, u32)], unknown: Option<u32>) -> Self {
        let length = pairs.iter().map(|&(c, _)| c as usize + 1).max().unwrap_or(0);
        let mut ids = vec![NONE; length];
        for &(c, id) in pairs {
            ids[c as usize] = id;
        }
        Self { ids, unknown }
    }

    /// Appends one id per character.
    pub(super) fn encode(&self, text: &str, origin: Origin, ids: &mut Vec<u32>) -> Result<()> {
        ids.reserve(text.len());
        for (at, c) in text.char_indices() {
            match self.ids.get(c as usize).copied().unwrap_or(NONE) {
                NONE => match self.unknown {
                    Some(unknown) => ids.push(unknown),
                    None => return Err(unknown(text, at, c, origin)),
                },
                id => ids.push(id),
            }
        }
        Ok(())
    }
}

fn unknown(text: &str, at: usize, c: char, origin: Origin) -> Error {
    let before = &text[..at];
    let line = origin.line + before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let (code, byte) = (u32::from(c), origin.byte + at as u64);
    let message = format!("character {c:?} (U+{code:04X}) is not in the vocabulary");
    Error::new(Kind::Input, "encode", message)
        .fact(format!("at byte {byte}, line {line}, column {column}"))
        .hint("take it out of the text, or use a byte, BPE or <unk> tokenizer, which know every character")
}

impl Tokenizer {
    /// One id per character that occurs in `texts`, in the order of their code points as nanoGPT
    /// has it; the special tokens follow.
    ///
    /// # Errors
    /// No text at all, or a special token of fewer than two characters.
    pub fn characters<S: AsRef<str>>(
        texts: impl IntoIterator<Item = S>,
        specials: &Specials,
    ) -> Result<Self> {
        Self::characters_from(texts.into_iter().map(Ok), specials)
    }

    /// [`Self::characters`] of texts that may fail to be read.
    ///
    /// # Errors
    /// As [`Self::characters`], and the first error among the texts.
    pub fn characters_from<S: AsRef<str>>(
        texts: impl IntoIterator<Item = Result<S>>,
        specials: &Specials,
    ) -> Result<Self> {
        let mut seen = BTreeSet::new();
        let mut ascii = [false; 128];
        for text in texts {
            for c in text?.as_ref().chars() {
                match ascii.get_mut(c as usize) {
                    Some(known) => *known = true,
                    None => drop(seen.insert(c)),
                }
            }
        }
        seen.extend((0..128u8).filter(|&b| ascii[usize::from(b)]).map(char::from));
        if seen.is_empty() {
            return Err(Error::new(Kind::Input, "characters", "the text is empty; no vocabulary"));
        }
        let mut vocab = Map::new();
        for (id, c) in seen.into_iter().enumerate() {
            vocab.insert(c.to_string(), id.into());
        }
        let added = add_specials("characters", &mut vocab, specials, true)?;
        let unk = specials.unk.as_deref().unwrap_or("<unk>");
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {
                "type": "Split", "pattern": {"Regex": EACH}, "behavior": "Isolated", "invert": false
            },
            "post_processor": null,
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": unk},
        });
        Self::from_json(file.to_string())?.named(specials)
    }

    /// One id per byte of UTF-8, V = 256, able to encode any text.
    #[must_use]
    pub fn bytes() -> Self {
        Self::bytes_with(&Specials::default()).expect("256 bytes make a tokenizer")
    }

    /// [`Self::bytes`] with special tokens from id 256 on.
    ///
    /// # Errors
    /// A special token of fewer than two characters.
    pub fn bytes_with(specials: &Specials) -> Result<Self> {
        let mut vocab = Map::new();
        for (byte, c) in super::pieces::byte_characters().into_iter().enumerate() {
            vocab.insert(c.to_string(), byte.into());
        }
        let added = add_specials("bytes", &mut vocab, specials, false)?;
        let level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
        });
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": level, "post_processor": null, "decoder": level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": [],
            },
        });
        Self::from_json(file.to_string())?.named(specials)
    }

    /// Sets the special ids by name, where the names were chosen here.
    pub(super) fn named(mut self, specials: &Specials) -> Result<Self> {
        let id = |name: &Option<String>| name.as_deref().and_then(|n| self.piece_to_id(n));
        self.special = super::SpecialIds {
            bos: id(&specials.bos),
            eos: id(&specials.eos),
            unk: id(&specials.unk),
            pad: id(&specials.pad),
            cls: id(&specials.cls),
            sep: id(&specials.sep),
            mask: id(&specials.mask),
        };
        Ok(self)
    }
}

/// Gives the special tokens the ids after the vocabulary and lists them for `added_tokens`. The
/// unknown token of a character vocabulary is left out of that list: it stands for characters, and
/// its spelling in a text is text.
fn add_specials(
    operation: &'static str,
    vocab: &mut Map<String, Value>,
    specials: &Specials,
    model_knows_unk: bool,
) -> Result<Vec<Value>> {
    let mut added = vec![];
    for name in specials.names() {
        if name.chars().count() < 2 || name.contains(char::is_whitespace) {
            let message = format!("special token {name:?} is too short or contains a space");
            return Err(Error::new(Kind::Config, operation, message)
                .hint("use a name that no text contains, such as \"<|endoftext|>\""));
        }
        let id = vocab.len();
        vocab.insert(name.into(), id.into());
        if !(model_knows_unk && specials.unk.as_deref() == Some(name)) {
            added.push(special_token(id, name));
        }
    }
    Ok(added)
}

/// One entry of `added_tokens`.
pub(super) fn special_token(id: usize, name: &str) -> Value {
    json!({
        "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true
    })
}
