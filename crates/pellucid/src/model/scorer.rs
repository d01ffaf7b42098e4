//! How well stored weights predict text: the stack as inference runs it, then the head a few rows at a time, so that
//! logits (B·T, V) never exist.

use super::builder::{Builder, Purpose, Shape};
use super::config::Config;
use super::head;
use super::stored_weights::StoredWeights;
use super::train_graph::IGNORE;
use super::transformer::transformer;
use crate::autograd::{Ints, Plan, RunInfo, Session, Value};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::backend::cpu::stored::StoredMatrix;
use crate::error::{Error, Kind, Result};
use crate::ops::objective::log_sum_exp;
use std::sync::Arc;

/// Rows of logits at a time.
const ROWS: usize = 64;

/// Losses of batches of one shape.
#[derive(Debug)]
pub struct Scorer {
    session: Session,
    ids: Ints,
    last: Value,
    head: Arc<StoredMatrix>,
    logits: Vec<f32>,
}

impl Scorer {
    /// For `b` rows of `t` tokens.
    ///
    /// # Errors
    /// An invalid config, a batch longer than the context, weights of another config.
    pub fn new(
        config: &Config,
        weights: &StoredWeights,
        (b, t): (usize, usize),
        threads: usize,
    ) -> Result<Self> {
        if config.head_bias || config.head_transform || config.scaled_head || config.has_source() {
            let message = "only a plain head on a decoder is read in few rows";
            return Err(Error::new(Kind::Config, "score", message)
                .hint("evaluate the model with its own weights, not stored ones"));
        }
        let shape = Shape { b, t, s: 0 };
        let purpose = Purpose::Observe;
        let mut m = Builder::new(config, shape, purpose, Precision::F32, Some(weights))?;
        let last = transformer(&mut m, t)?;
        m.tape.keep(last);
        let ids = m.inputs.ids;
        let head = weights.matrix(head::name(config))?;
        let session = Session::new(Plan::infer(m.tape, threads)?);
        Ok(Self { session, ids, last, head, logits: vec![] })
    }

    /// Cross-entropy of each position in nats, 0 where the target is [`IGNORE`]. `ids` and `targets` are (B, T);
    /// `weights` are those it was built for.
    ///
    /// # Errors
    /// Operands of another size, ids or targets outside the vocabulary.
    pub fn losses(
        &mut self,
        pool: &Pool,
        weights: &StoredWeights,
        ids: &[i32],
        targets: &[i32],
    ) -> Result<Vec<f64>> {
        let to = self.session.ints_mut(self.ids);
        if ids.len() != to.len() || targets.len() != to.len() {
            let message =
                format!("{} ids, {} targets, but B·T = {}", ids.len(), targets.len(), to.len());
            return Err(Error::new(Kind::Shape, "score", message));
        }
        to.copy_from_slice(ids);
        self.session.run(pool, weights.rest().data(), None, RunInfo::default())?;
        let x = self.session.value(self.last)?;
        let (v, c) = self.head.shape();
        self.logits.resize(ROWS * v, 0.0);
        let mut losses = Vec::with_capacity(targets.len());
        for (x, targets) in x.chunks(ROWS * c).zip(targets.chunks(ROWS)) {
            if targets.iter().all(|&t| t == IGNORE) {
                losses.resize(losses.len() + targets.len(), 0.0);
                continue;
            }
            self.head.product(pool, targets.len(), x, &mut self.logits, None);
            for (logits, &target) in self.logits.chunks_exact(v).zip(targets) {
                losses.push(loss(logits, target)?);
            }
        }
        Ok(losses)
    }
}

/// `ln Σ exp(logits) - logits[target]`.
fn loss(logits: &[f32], target: i32) -> Result<f64> {
    if target == IGNORE {
        return Ok(0.0);
    }
    let Some(&right) = usize::try_from(target).ok().and_then(|t| logits.get(t)) else {
        let message = format!("target {target}, but ids are 0..{}", logits.len());
        return Err(Error::new(Kind::Input, "score", message));
    };
    Ok(log_sum_exp(logits) - f64::from(right))
}
