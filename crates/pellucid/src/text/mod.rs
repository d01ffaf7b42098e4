//! Characters to token ids and back.
//!
//! One type, [`Tokenizer`], whatever the scheme: characters, bytes, byte-level BPE or anything else
//! that a Hugging Face `tokenizer.json` describes. Each is backed by such a file, so a checkpoint
//! carries a standard one and Python's `tokenizers` gives the same ids.

mod bpe;
mod cache;
mod characters;
mod chat;
mod chat_ids;
mod chat_python;
mod continuation;
mod cut;
mod pair;
mod parse;
mod pieces;
mod special;
mod stream;
mod symbols;
#[cfg(test)]
mod tests;
mod tokenizer;
mod word_piece;
mod words;

pub use chat::{ChatMessage, ChatOptions, ChatTemplate};
pub use chat_ids::{ChatIds, TurnEnd};
pub use chat_python::ChatDate;
pub use continuation::Continued;
pub use cut::piece_end;
pub use pair::Encoded;
pub use special::{SpecialIds, Specials};
pub use stream::StreamDecoder;
pub use tokenizer::{Flavor, Origin, Tokenizer};
pub use word_piece::WordPieceOptions;
pub use words::EncodedWords;
