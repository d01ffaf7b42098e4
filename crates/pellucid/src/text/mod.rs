//! Characters to token ids and back.
//!
//! One type, [`Tokenizer`], whatever the scheme: characters, bytes, byte-level BPE or anything else
//! that a Hugging Face `tokenizer.json` describes. Each is backed by such a file, so a checkpoint
//! carries a standard one and Python's `tokenizers` gives the same ids.

mod bpe;
mod cache;
mod characters;
mod cut;
mod parse;
mod pieces;
mod stream;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use cut::piece_end;
pub use stream::StreamDecoder;
pub use tokenizer::{Flavor, Origin, SpecialIds, Specials, Tokenizer};
