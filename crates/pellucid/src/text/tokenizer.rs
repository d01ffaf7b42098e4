//! The tokenizer: encode, decode, and what each id stands for.

use super::cache::Cache;
use super::characters::CharTable;
use super::cut::Segments;
use super::pieces::{Pieces, Stitch};
use super::special::SpecialIds;
use crate::error::{Error, Kind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{PostProcessor as _, Tokenizer as Hub};

/// What scheme a [`Tokenizer`] follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flavor {
    /// One id per character.
    Characters,
    /// One id per byte of UTF-8; the id is the byte.
    Bytes,
    /// Byte-pair encoding over bytes, as GPT-2 has it.
    ByteLevel,
    /// Anything else that a `tokenizer.json` can describe.
    Other,
}

/// Where a text came from, for errors: bytes and lines before it, both counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Bytes before the text.
    pub byte: u64,
    /// Line ends before the text.
    pub line: u64,
}

/// Turns text into ids and ids into text. Cheap to clone; can be shared between threads.
#[derive(Clone)]
pub struct Tokenizer {
    pub(super) inner: Arc<Inner>,
    pub(super) special: SpecialIds,
}

pub(super) struct Inner {
    pub(super) flavor: Flavor,
    /// Reads special tokens in the text as special tokens.
    pub(super) hub: Hub,
    /// Reads special tokens in the text as any other text; made when first needed.
    pub(super) ordinary: OnceLock<Hub>,
    /// The `tokenizer.json`, kept as it was read.
    pub(super) json: String,
    pub(super) table: Option<CharTable>,
    pub(super) pieces: Pieces,
    /// `(content, id)` of the tokens marked special.
    pub(super) marked: Vec<(String, u32)>,
    /// Of ordinary text; there if encoding by [`cut::Segments`] provably leaves the ids as they are.
    pub(super) cache: Option<Mutex<Cache>>,
    /// Of `json`; computed when first asked for.
    pub(super) fingerprint: OnceLock<u64>,
}

impl Tokenizer {
    /// Ids of `text`. Special tokens written out in it, such as `<|endoftext|>`, become their ids;
    /// none is added.
    ///
    /// # Errors
    /// A character that the vocabulary lacks (and no unknown token stands for), with its place.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / self.bytes_per_id());
        let spelled = self.inner.marked.iter().any(|(name, _)| text.contains(name.as_str()));
        match self.inner.flavor {
            _ if !spelled => self.encode_into(text, Origin::default(), &mut ids)?,
            Flavor::Characters | Flavor::Bytes => self.encode_marked(text, &mut ids)?,
            _ => encode_whole(&self.inner.hub, text, &mut ids)?,
        }
        Ok(ids)
    }

    /// Ids of `text`, where the spelling of a special token is text like any other: what text from
    /// strangers needs.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_ordinary(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / self.bytes_per_id());
        self.encode_into(text, Origin::default(), &mut ids)?;
        Ok(ids)
    }

    /// Ids of `text` inside the tokens that the tokenizer's template puts around it, such as
    /// `[CLS] … [SEP]` or a leading `<s>`; without a template the same as [`Self::encode`].
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with_template(&self, text: &str) -> Result<Vec<u32>> {
        if self.inner.hub.get_post_processor().is_none() {
            return self.encode(text);
        }
        guard("encode", || self.inner.hub.encode_fast(text, true))
            .map(|encoding| encoding.get_ids().to_vec())
    }

    /// Whether the template is one that puts nothing around a text: no token ends it then. Without
    /// any template that is not said.
    #[must_use]
    pub fn adds_nothing(&self) -> bool {
        match self.inner.hub.get_post_processor() {
            Some(PostProcessorWrapper::Template(template)) => template.added_tokens(false) == 0,
            _ => false,
        }
    }

    /// Appends the ids of `text`, as [`Self::encode_ordinary`]; `origin` is where the text began,
    /// for the error.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_into(&self, text: &str, origin: Origin, ids: &mut Vec<u32>) -> Result<()> {
        match (&self.inner.table, self.inner.flavor) {
            (Some(table), _) => table.encode(text, origin, ids),
            (None, Flavor::Bytes) => {
                ids.extend(text.bytes().map(u32::from));
                Ok(())
            }
            _ if self.inner.marked.is_empty() => self.encode_hub(&self.inner.hub, text, ids),
            _ => {
                let ordinary = self.inner.ordinary.get_or_init(|| {
                    let mut hub = self.inner.hub.clone();
                    hub.set_encode_special_tokens(true);
                    hub
                });
                self.encode_hub(ordinary, text, ids)
            }
        }
    }

    /// Segment by segment where that changes no id, else as a whole.
    fn encode_hub(&self, hub: &Hub, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let Some(cache) = &self.inner.cache else { return encode_whole(hub, text, ids) };
        // Another thread has it: do without what it learned.
        let (mut shared, mut own);
        let cache = match cache.try_lock() {
            Ok(guard) => {
                shared = guard;
                &mut *shared
            }
            Err(TryLockError::Poisoned(poisoned)) => {
                shared = poisoned.into_inner();
                &mut *shared
            }
            Err(TryLockError::WouldBlock) => {
                own = Cache::default();
                &mut own
            }
        };
        for segment in Segments(text) {
            if let Some(known) = cache.get(segment) {
                ids.extend_from_slice(known);
                continue;
            }
            let start = ids.len();
            encode_whole(hub, segment, ids)?;
            cache.put(segment, &ids[start..]);
        }
        Ok(())
    }

    /// The direct paths between special tokens: the leftmost one first, the longest of several.
    fn encode_marked(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut at = 0;
        loop {
            let marked = self.inner.marked.iter();
            let found = marked
                .filter_map(|(name, id)| Some((text[at..].find(name.as_str())?, name.len(), *id)))
                .min_by_key(|&(start, length, _)| (start, std::cmp::Reverse(length)));
            let end = found.map_or(text.len(), |(start, ..)| at + start);
            let line = text[..at].matches('\n').count() as u64;
            self.encode_into(&text[at..end], Origin { byte: at as u64, line }, ids)?;
            let Some((_, length, id)) = found else { return Ok(()) };
            ids.push(id);
            at = end + length;
        }
    }

    fn bytes_per_id(&self) -> usize {
        match self.inner.flavor {
            Flavor::Characters | Flavor::Bytes => 1,
            _ => 3,
        }
    }

    /// Text of `ids`, special tokens spelled out. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.check(ids)?;
        match self.inner.pieces.stitch {
            Stitch::Bytes { strip } => {
                let mut bytes = Vec::with_capacity(ids.len() * self.bytes_per_id());
                for &id in ids {
                    bytes.extend_from_slice(self.inner.pieces.bytes(id));
                }
                if strip && bytes.first() == Some(&b' ') {
                    bytes.remove(0);
                }
                Ok(match String::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
                })
            }
            Stitch::Opaque => guard("decode", || self.inner.hub.decode(ids, false)),
        }
    }

    /// Text of `ids` without the special tokens.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
    pub fn decode_plain(&self, ids: &[u32]) -> Result<String> {
        let plain: Vec<u32> = ids.iter().copied().filter(|&id| !self.is_special(id)).collect();
        self.decode(&plain)
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.vocab_size();
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            None => Ok(()),
            Some(id) => Err(Error::new(
                Kind::Input,
                "decode",
                format!("id {id} is outside the vocabulary, whose ids are below {vocabulary}"),
            )
            .hint("these ids were made by another tokenizer; use the one of the checkpoint")),
        }
    }

    /// Rows that an embedding needs: the greatest id plus one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.pieces.len()
    }

    /// The scheme.
    #[must_use]
    pub fn flavor(&self) -> Flavor {
        self.inner.flavor
    }

    /// Ids of the tokens that have a meaning of their own.
    #[must_use]
    pub fn special_ids(&self) -> SpecialIds {
        self.special
    }

    /// The same tokenizer with other special ids, where a checkpoint's configuration says so.
    #[must_use]
    pub fn with_special_ids(mut self, special: SpecialIds) -> Self {
        self.special = special;
        self
    }

    /// Whether `id` is a special token, which no ordinary text produces.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.marked.iter().any(|&(_, marked)| marked == id)
    }

    /// The token as the vocabulary spells it (`Ġthe`, `▁the`, `##ing`), `None` for a hole.
    #[must_use]
    pub fn id_to_piece(&self, id: u32) -> Option<String> {
        self.inner.hub.id_to_token(id)
    }

    /// The id of a token as the vocabulary spells it.
    #[must_use]
    pub fn piece_to_id(&self, piece: &str) -> Option<u32> {
        self.inner.hub.token_to_id(piece)
    }

    /// What the token adds to the text, for showing to people: ` the`, and `<0xF0>` for each byte
    /// that is only part of a character.
    #[must_use]
    pub fn label(&self, id: u32) -> String {
        self.inner.pieces.label(id)
    }

    /// The `tokenizer.json`.
    #[must_use]
    pub fn to_json(&self) -> &str {
        &self.inner.json
    }

    /// A hash of the `tokenizer.json`: another value means that ids may differ.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        // FNV-1a, 64 bits.
        *self.inner.fingerprint.get_or_init(|| {
            self.inner.json.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            })
        })
    }

    /// Writes the `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        crate::files::replace("save tokenizer", path, |w| w.write_all(self.inner.json.as_bytes()))
    }

    /// Writes `tokenizer.json` and the `tokenizer_config.json` that names its special tokens into a
    /// folder, as `transformers` reads them.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save_folder(&self, folder: &Path) -> Result<()> {
        let mut config = serde_json::Map::new();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.insert("clean_up_tokenization_spaces".into(), false.into());
        for (name, id) in self.special.named() {
            if let Some(piece) = id.and_then(|id| self.id_to_piece(id)) {
                config.insert(name.into(), piece.into());
            }
        }
        self.save(&folder.join("tokenizer.json"))?;
        let path = folder.join("tokenizer_config.json");
        crate::files::replace("save tokenizer", &path, |w| {
            serde_json::to_writer_pretty(w, &config).map_err(Into::into)
        })
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({:?}, V={})", self.inner.flavor, self.vocab_size())
    }
}

fn encode_whole(hub: &Hub, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    if !text.is_empty() {
        ids.extend_from_slice(guard("encode", || hub.encode_fast(text, false))?.get_ids());
    }
    Ok(())
}

/// Runs the `tokenizers` crate, whose panics on strange files become errors.
pub(super) fn guard<T>(
    operation: &'static str,
    run: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => {
            Err(Error::new(Kind::Input, operation, format!("the tokenizer refused: {e}")))
        }
        Err(_) => Err(Error::new(Kind::Format, operation, "the tokenizer.json contradicts itself")
            .hint("load it once in Python's tokenizers to see what it objects to")),
    }
}
