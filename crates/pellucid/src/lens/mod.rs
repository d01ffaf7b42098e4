//! Looking inside: what a run computed, made visible.
//!
//! This room does not know how the numbers were recorded: it gets plain slices and labels.

/// Who looks at whom: a head's pattern as text or SVG.
pub mod attention_map;
/// What the stream would say at each depth.
pub mod logit_lens;
/// Named, shaped values of one run.
pub mod record;
/// More features than dimensions: a toy model that needs no Transformer.
pub mod superposition;
#[cfg(test)]
mod tests;
