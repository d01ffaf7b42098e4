//! GGUF, the format of llama.cpp: one file with sizes, tokenizer and weights, versions 2 and 3.
//!
//! | architecture | models |
//! |---|---|
//! | `llama` | Llama and Mistral; rows of queries and keys are reordered, see below |
//! | `qwen2` | Qwen2: biases of queries, keys and values |
//! | `qwen3` | Qwen3: normalised queries and keys |
//! | `gpt2` | GPT-2; nothing is transposed: rows are outputs, as ours are |
//!
//! Read are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K, all into f32 with the bits of ggml's
//! own reference code; written are the types of [`GgufType`], with its bytes.
//!
//! `llama` rotates neighbouring pairs of a head, `(2i, 2i + 1)`; ours pairs `(i, i + D/2)`, as `transformers`. So rows
//! `2i` and `2i + 1` of each query and key head there are rows `i` and `i + D/2` here.
//!
//! Llama 3's frequencies are a tensor there, `rope_freqs.weight`: the rule is found again from its numbers, with
//! low_freq_factor 1 and high_freq_factor 4, which all published models have; another is refused.
//!
//! What a file says of a tokenizer becomes the text of a `tokenizer.json` where this room knows how:
//! `tokenizer.huggingface.json` as it stands; byte-level BPE with the splits `gpt-2`, `llama-bpe`, `qwen2` and
//! `smollm`; and SentencePiece's BPE, whose merges follow from its scores. Of others there is none. Written are the
//! same, and beside them the text itself under `tokenizer.huggingface.json`, so that what llama.cpp has no words for
//! (characters, bytes, word pieces) still comes back; its own entry is then `none`.
//!
//! θ and the factor of a scaling are f32 there. A file does not say which biases a GPT-2 model lacks (they are written as zeros) nor how it was trained (dropout);
//! of [`GenerationConfig`] it carries what [`export_gguf`] names. A window, as Mistral 7B v0.1 has it, is written as
//! `llama.attention.sliding_window`, which llama.cpp does not use for this architecture.
//!
//! This room does not know tokenization or the arithmetic of a model.

/// Sizes and choices to keys and back.
mod architecture;
/// Types of elements.
mod blocks;
/// The file itself.
mod container;
mod dequantise;
mod export;
mod import;
mod meta;
mod quantise;
/// Llama 3's frequencies.
mod rope;
/// Tensors' names and places.
mod table;
/// Keys to `tokenizer.json` and back.
mod tokenizer;
mod value;
/// Keys and values to bytes.
mod writer;

#[cfg(test)]
mod tests;

pub use export::export_gguf;
pub use import::import_gguf;

use super::generation::GenerationConfig;
use crate::error::Error;
use crate::model::config::Config;
use crate::model::weights::Weights;

const IMPORT: &str = "import GGUF";
const EXPORT: &str = "export GGUF";

/// What a file holds.
#[derive(Debug)]
pub struct GgufModel {
    /// Sizes and choices; what a file does not say is as in a model that is used, not trained.
    pub config: Config,
    /// The weights, in f32 whatever the file has.
    pub weights: Weights,
    /// The text of a `tokenizer.json`, if the file has a tokenizer that can be said so.
    pub tokenizer_json: Option<String>,
    /// How to sample and where to stop, as far as the file says it.
    pub generation: GenerationConfig,
    /// The Jinja template of conversations.
    pub chat_template: Option<String>,
}

/// How matrices are written. Vectors and learned positions stay F32, as llama.cpp has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// 32 bits, exact.
    F32,
    /// Half precision: 11 significant bits, up to 65504.
    F16,
    /// The upper half of an f32: 8 significant bits.
    Bf16,
    /// Blocks of 32 share a scale; 8.5 bits an element.
    Q8_0,
    /// Blocks of 32 share a scale; 4.5 bits an element.
    Q4_0,
}

impl GgufType {
    /// Every type.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4_0];

    /// Its name in llama.cpp, in small letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }
}

/// Most faults printed.
const MOST_FAULTS: usize = 24;

/// The faults as facts of an error, the first ones if there are many.
fn listed(error: Error, faults: &[String]) -> Error {
    let error = faults.iter().take(MOST_FAULTS).fold(error, Error::fact);
    match faults.len().saturating_sub(MOST_FAULTS) {
        0 => error,
        more => error.fact(format!("and {more} more")),
    }
}
