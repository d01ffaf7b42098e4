//! Looking inside: questions about a model's runs, one file each. They go through [`subject`] and, where many changed
//! runs are asked for, through [`sweep`]; what they find is numbers and names.
//!
//! This room does not know files, text or terminals: ids come in, and `heat_map` alone makes pictures.

/// What is missing without a component.
pub mod ablation;
/// Who wrote this score: direct logit attribution.
pub mod attribution;
/// What heads would do by their weights alone.
pub mod circuits;
/// Whether the context is used: in-context learning, repeated tokens.
pub mod context_scores;
/// Two checkpoints on the same texts.
pub mod diff;
/// A rank-one edit of a stored fact.
pub mod fact_edit;
/// Models built by hand, in which what is to be found is known.
pub mod fixtures;
/// How a model adds modulo p.
pub mod fourier;
/// What every head does on random tokens.
pub mod head_scores;
/// A table of numbers as a picture.
pub mod heat_map;
/// Which tokens an answer hangs on.
pub mod input_attribution;
mod integrate;
/// How deep the model makes up its mind.
pub mod lens_depth;
/// What the stream would say at each depth.
pub mod logit_lens;
/// What is asked of scores.
pub mod metric;
/// Sites by name: exact, by glob, or as other tools call them.
pub mod names;
/// What wakes neurons, and what they promote.
pub mod neurons;
/// Activation and attribution patching.
pub mod patching;
/// A change that reaches only some of those after it.
pub mod path_patching;
/// Linear probes of labels, with control tasks.
pub mod probe;
/// Linear probes of numbers.
pub mod ridge;
/// Attention multiplied through the blocks.
pub mod rollout;
/// Texts a few at a time, and means with their error.
pub mod rows;
/// Sparse autoencoders.
pub mod sae;
mod solve;
/// A model that is looked into.
pub mod subject;
/// More features than dimensions: a toy model that needs no Transformer.
pub mod superposition;
/// Many changed runs at once.
pub mod sweep;
#[cfg(test)]
mod test_models;
#[cfg(test)]
mod tests;
/// Where a fact's answer can be brought back.
pub mod tracing;
/// The logit lens with a learnt map for each depth.
pub mod tuned_lens;
/// The exact laws of a glass box, on any model.
pub mod verify;
