//! The Transformer, one file per idea. Read `transformer.rs` first.
//!
//! Layers only record operations on a tape; what they compute is in `ops`. The same layers train, generate and
//! are looked into.
//!
//! This room does not know training, generation or lens.

/// Every size, validated once.
pub mod config;
/// Named sets of sizes.
pub mod presets;
mod rules;
/// One flat buffer, named pieces.
pub mod weights;

mod absent;
/// LoRA: additions of low rank beside frozen matrices.
pub mod adapter;
mod attention;
/// Rows with their targets, padded.
pub mod batch;
mod block;
mod builder;
mod chunk;
mod cross;
mod embedding;
mod feed_forward;
mod graph;
mod head;
#[cfg(test)]
pub(crate) mod lies;
mod memory;
mod norm;
mod parameters;
/// Scores and vectors of whole texts.
pub mod reader;
/// Vectors of the stream, read through the head.
pub mod readout;
mod recurrent;
mod residual;
mod source;
/// The rest of a run, from a block and a position on.
pub mod tail;
mod transformer;
/// What is wanted of a run's insides.
pub mod watch;

/// How probable texts are after others.
pub mod continuations;
/// Inference with a KV cache.
pub mod decoder;
/// Which elements of a site, and what becomes of them.
pub mod edit;
/// Who may look at whom, drawn.
pub mod mask;
/// A run whose insides are read and changed.
pub mod observer;
/// What passed chosen sites while texts grew.
pub mod recording;
/// Loss with stored weights.
pub mod scorer;
/// The closed list of everything observable.
pub mod site;
/// Changes that hold at every position.
pub mod standing;
/// Weights for inference in fewer bits.
pub mod stored_weights;
/// Loss and gradients of a micro-batch.
pub mod train_graph;
/// Several tokens at once with scores after each, and tokens taken back.
pub mod verified;
