//! What bytes each id stands for.

use tokenizers::Tokenizer as Hub;
use tokenizers::decoders::DecoderWrapper as Wrapper;

/// How the bytes of tokens make a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stitch {
    /// One after the other.
    Bytes {
        /// Drops one leading space of the whole text.
        strip: bool,
    },
    /// Only the decoder knows.
    Opaque,
}

/// Bytes of each id, in one allocation.
pub(super) struct Pieces {
    pub(super) stitch: Stitch,
    arena: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    /// `tokens[id]` is the spelling in the vocabulary, `None` for a hole.
    pub(super) fn new(hub: &Hub, tokens: &[Option<String>]) -> Self {
        let (stitch, spelling) = plan(hub.get_decoder());
        let level = byte_table();
        let (mut arena, mut ends) = (vec![], Vec::with_capacity(tokens.len()));
        for token in tokens {
            if let Some(token) = token {
                spelling.push(token, &level, &mut arena);
            }
            ends.push(arena.len());
        }
        Self { stitch, arena, ends }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Empty for an id that is not in the vocabulary.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.arena[start..end]
    }

    /// Whole characters as they are, other bytes as `<0xAB>`.
    pub(super) fn label(&self, id: u32) -> String {
        let mut label = String::new();
        for chunk in self.bytes(id).utf8_chunks() {
            label.push_str(chunk.valid());
            for byte in chunk.invalid() {
                label.push_str(&format!("<0x{byte:02X}>"));
            }
        }
        label
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Characters that stand for bytes.
    ByteLevel,
    /// `▁` for a space; `<0xAB>` for a byte where the flag is set.
    SentencePiece(bool),
    AsIs,
}

impl Spelling {
    fn push(self, token: &str, level: &[Option<u8>], arena: &mut Vec<u8>) {
        match self {
            Self::ByteLevel => {
                let start = arena.len();
                for c in token.chars() {
                    match level.get(c as usize).copied().flatten() {
                        Some(byte) => arena.push(byte),
                        // An added token spelled in plain characters.
                        None => {
                            arena.truncate(start);
                            return arena.extend_from_slice(token.as_bytes());
                        }
                    }
                }
            }
            Self::SentencePiece(fallback) => match byte_token(token).filter(|_| fallback) {
                Some(byte) => arena.push(byte),
                None => arena.extend_from_slice(token.replace('▁', " ").as_bytes()),
            },
            Self::AsIs => arena.extend_from_slice(token.as_bytes()),
        }
    }
}

/// `<0xAB>` is the byte 0xAB.
fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(digits, 16).ok())?
}

fn plan(decoder: Option<&Wrapper>) -> (Stitch, Spelling) {
    let bytes = |strip| Stitch::Bytes { strip };
    match decoder {
        Some(Wrapper::ByteLevel(_)) => (bytes(false), Spelling::ByteLevel),
        Some(Wrapper::Fuse(_)) => (bytes(false), Spelling::AsIs),
        Some(decoder @ Wrapper::Sequence(_)) => {
            // The parts of a decoder are private to its crate; the file's spelling is not.
            let json = serde_json::to_value(decoder).unwrap_or_default();
            let parts = json["decoders"].as_array().map(Vec::as_slice).unwrap_or_default();
            let kinds: Vec<&str> = parts.iter().filter_map(|p| p["type"].as_str()).collect();
            let spaces = parts.first().is_some_and(|p| {
                p["pattern"]["String"].as_str() == Some("▁") && p["content"].as_str() == Some(" ")
            });
            let strip = parts.last().is_some_and(|p| {
                p["content"].as_str() == Some(" ")
                    && p["start"].as_u64() == Some(1)
                    && p["stop"].as_u64() == Some(0)
            });
            match kinds.as_slice() {
                ["Replace", "ByteFallback", "Fuse"] if spaces => {
                    (bytes(false), Spelling::SentencePiece(true))
                }
                ["Replace", "ByteFallback", "Fuse", "Strip"] if spaces && strip => {
                    (bytes(true), Spelling::SentencePiece(true))
                }
                _ => (Stitch::Opaque, Spelling::SentencePiece(false)),
            }
        }
        _ => (Stitch::Opaque, Spelling::SentencePiece(false)),
    }
}

/// The character that stands for each byte in byte-level vocabularies: itself if it prints, else
/// the next code point from U+0100 on (Radford et al. 2019, `encoder.py`).
pub(super) fn byte_characters() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let prints = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if prints {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).unwrap_or('\0')
    })
}

/// The inverse of [`byte_characters`], by code point.
fn byte_table() -> Vec<Option<u8>> {
    let characters = byte_characters();
    let mut table = vec![None; 512];
    for (byte, &c) in characters.iter().enumerate() {
        table[c as usize] = u8::try_from(byte).ok();
    }
    table
}
