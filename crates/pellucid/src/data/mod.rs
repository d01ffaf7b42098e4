//! Token ids to batches `(B, T)`.
//!
//! A [`Corpus`] streams documents from files; [`prepare`] encodes them once into token [`Shard`]s on
//! disk; [`Batches`] draws rows from a shard as a function of the step number alone, so a resumed
//! run sees what an uninterrupted one would have seen.

mod batch;
mod corpus;
mod examples;
mod instruct;
mod labelled;
mod masking;
mod parallel;
mod prepare;
mod prompt;
mod questions;
mod ragged;
mod random;
mod read;
mod rows;
mod shard;
pub mod synthetic;
mod tagged;
#[cfg(test)]
mod tests;
pub mod world;

pub use batch::{Batch, Batches, Evaluation, IGNORE, Sampling};
pub use corpus::{Corpus, CorpusOptions, Format, Piece, SourceFile, Statistics};
pub use examples::{Example, ExampleBatches};
pub use instruct::{Conversation, add_conversation, read_conversations};
pub use labelled::{Label, LabelKind, Labelled, LabelledColumns, LabelledText, read_labelled};
pub use masking::{Masking, MaskingOptions};
pub use parallel::{ParallelSource, TextPair, read_parallel};
pub use prepare::{Plan, Shards, Split, prepare};
pub use prompt::{Prompt, Prompts, Template};
pub use questions::{Form, Question, Questions, read_last_words, read_questions};
pub use ragged::{Fill, Order, Place, Ragged, RaggedBatches, RaggedOptions};
pub use random::{permute, random_below};
pub use rows::Column;
pub use shard::{Shard, ShardWriter};
pub use tagged::{Tagged, TaggedColumns, read_tagged};
