//! Weights from data: the loop, and everything a run writes down.
//!
//! Read in this order: [`step`] (one update), [`pretrain`] (the loop), [`resume`] (why a killed run loses nothing),
//! [`run`] (every setting).
//!
//! The loop meets the rest through four traits: [`step::Graph`] computes losses, [`evaluate::Batches`] gives tokens,
//! [`resume::Store`] writes model files, [`pretrain::Observer`] listens. [`launch`] puts the real ones in.
//!
//! This room does not know operations, terminals, signals or how a model generates.

/// The mean of checkpoints.
pub mod average;
/// Memory known before step 1.
pub mod budget;
/// Global gradient norm.
pub mod clip;
/// Whether a checkpoint continues a run.
mod compatible;
/// Numbered file operations.
pub mod disk;
/// Held-out loss.
pub mod evaluate;
/// TOML and flags to a run's settings.
pub mod keys;
/// What keys choose among.
mod kinds;
/// From settings to a trained model.
pub mod launch;
/// What a run writes down, line by line.
pub mod log;
/// Nats to perplexity and bits.
pub mod loss;
/// The optimizer's moments to a file and back.
mod moments;
/// AdamW over parameter groups.
pub mod optimizer;
/// Loss curves, as SVG and in the terminal.
pub mod plot;
/// The loop over a corpus.
pub mod pretrain;
/// Stop at any moment, continue bit for bit.
pub mod resume;
/// The rules a run's settings must keep.
pub mod rules;
/// Every setting of a run.
pub mod run;
/// Warm-up and decay of the learning rate.
pub mod schedule;
/// One update.
pub mod step;
/// What a run learns.
pub mod tasks;
/// Scalars for TensorBoard.
pub mod tensorboard;

#[cfg(test)]
mod tests;
