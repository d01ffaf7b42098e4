//! Held-out loss: the same windows in the same order every time, no dropout, sums in f64.

use super::loss;
use super::step::{Graph, IGNORE};
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::model::batch::Batch;
use crate::model::weights::Weights;
use std::fmt::Debug;

/// Where batches `(B, T)` come from. A batch is a function of its number, so the number is all the state there is.
pub trait Batches: Sync + Debug {
    /// Makes micro-batch `number` of the training data, in the memory of another.
    fn train(&self, number: u64, batch: &mut Batch) -> Result<()>;
    /// Number of validation batches; 0 when nothing is held out.
    fn validation_batches(&self) -> usize;
    /// Makes validation batch `number`; positions beyond the end have target [`IGNORE`].
    fn validation(&self, number: usize, batch: &mut Batch) -> Result<()>;
    /// Bytes of text that a validation token stands for on average, if known.
    fn bytes_per_token(&self) -> Option<f64>;
    /// Differs when the tokens differ.
    fn fingerprint(&self) -> String;
}

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy in nats per token.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Comparable across tokenizers.
    pub bits_per_byte: Option<f64>,
    /// Share of the targets whose label had the highest score, where labels are scored.
    pub accuracy: Option<f64>,
    /// Targets that counted.
    pub tokens: u64,
}

/// Mean loss over the validation batches, which are made in the memory of `batch`.
///
/// # Errors
/// Nothing held out; NaN or infinity, naming the batch.
pub fn evaluate(
    graph: &mut dyn Graph,
    pool: &Pool,
    weights: &Weights,
    data: &dyn Batches,
    batch: &mut Batch,
) -> Result<Evaluation> {
    let (mut sum, mut tokens, mut right) = (0.0f64, 0u64, None);
    for number in 0..data.validation_batches() {
        data.validation(number, batch)?;
        let (_, losses) = graph.evaluate(pool, weights, batch)?;
        let counted = losses.iter().zip(&batch.targets).filter(|(_, t)| **t != IGNORE);
        let batch: f64 = counted.clone().map(|(l, _)| f64::from(*l)).sum();
        if !batch.is_finite() {
            let message = format!("the loss of validation batch {number} is {batch}");
            return Err(Error::new(Kind::Numeric, "evaluate", message)
                .hint("the weights have left the numbers; continue from an earlier checkpoint with a lower optimizer.lr"));
        }
        sum += batch;
        if let Some(more) = graph.right() {
            right = Some(right.unwrap_or(0) + more);
        }
        tokens += counted.count() as u64;
    }
    if tokens == 0 {
        return Err(Error::new(Kind::Input, "evaluate", "no validation tokens are held out")
            .hint("give data.validation or a larger data.validation_fraction"));
    }
    let mean = sum / tokens as f64;
    Ok(Evaluation {
        loss: mean,
        perplexity: loss::perplexity(mean),
        bits_per_byte: data.bytes_per_token().map(|b| loss::bits_per_byte(mean, b)),
        accuracy: right.map(|right| right as f64 / tokens as f64),
        tokens,
    })
}
