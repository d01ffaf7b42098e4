//! Keys to the text of a `tokenizer.json` and back.

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;

use serde_json::{Value, json};

/// `tokenizer.json` as it stands.
const WHOLE: &str = "tokenizer.huggingface.json";

/// `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// SentencePiece's mark of a word's beginning.
const SPACE: &str = "\u{2581}";

/// How byte-level BPE splits a text before it merges: `tokenizer.ggml.pre`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    Gpt2,
    Llama3,
    Qwen2,
    /// Each digit alone, then as GPT-2.
    Digits,
}

impl Split {
    const ALL: [Self; 4] = [Self::Gpt2, Self::Llama3, Self::Qwen2, Self::Digits];

    /// Its names in files, the usual one first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &["gpt-2", "gpt2"],
            Self::Llama3 => &["llama-bpe", "llama3", "llama-v3"],
            Self::Qwen2 => &["qwen2", "deepseek-r1-qwen"],
            Self::Digits => &["smollm"],
        }
    }

    /// Llama 3 and Qwen2 differ in how many digits are one piece.
    fn pattern(digits: &str) -> String {
        [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
            digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]
        .concat()
    }

    /// The entry `pre_tokenizer` of a `tokenizer.json`.
    fn pre_tokenizer(self) -> Value {
        let level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let sequence = |first: Value, regex: bool| json!({"type": "Sequence", "pretokenizers": [first, level(regex)]});
        let split = |pattern: String| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        match self {
            Self::Gpt2 => level(true),
            Self::Llama3 => sequence(split(Self::pattern("{1,3}")), false),
            Self::Qwen2 => sequence(split(Self::pattern("")), false),
            Self::Digits => sequence(json!({"type": "Digits", "individual_digits": true}), true),
        }
    }

    /// What normalises a text first.
    fn normalizer(self) -> Value {
        if self == Self::Qwen2 { json!({"type": "NFC"}) } else { Value::Null }
    }

    /// Whether a piece that is a token needs no merges.
    fn ignores_merges(self) -> bool {
        self == Self::Llama3
    }
}
