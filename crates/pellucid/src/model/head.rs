//! Vectors to logits, and to the loss; the head may share the token embedding's weights.

use super::builder::Builder;
use super::config::Config;
use super::site::Site;
use super::train_graph::IGNORE;
use crate::autograd::{Ints, Operands, Param, Value};
use crate::error::Result;
use crate::ops::cross_entropy::LinearCrossEntropy;
use crate::ops::last_position::LastPosition;
use crate::ops::linear::Linear;
use crate::ops::linear::stored::StoredLinear;

/// The name of the head's matrix (V, C).
pub(super) fn name(config: &Config) -> &'static str {
    if config.tied_head { "embedding.token" } else { "head.weight" }
}

fn weight(m: &Builder<'_>) -> Result<Param> {
    m.param(name(m.config))
}

/// Logits of `n` vectors: (n, C) to (n, V).
fn project(m: &mut Builder<'_>, n: usize, x: Value) -> Result<Value> {
    m.tape.label("head");
    if let Some(matrix) = m.matrix(name(m.config))? {
        return m.push_inference(StoredLinear::new(n, matrix), &[x], &[], &[]);
    }
    let op = Linear { precision: m.precision, ..Linear::new(n, m.config.width, m.config.vocab) };
    let params = [weight(m)?];
    m.push(op, &[x], &[], &params)
}

/// Logits at every position, (B, T, V).
pub(super) fn logits(m: &mut Builder<'_>, x: Value) -> Result<Value> {
    let logits = project(m, m.n(), x)?;
    m.site(Site::Logits, logits);
    Ok(logits)
}

/// Logits after each row's last real token, (B, V).
pub(super) fn last_logits(m: &mut Builder<'_>, x: Value) -> Result<Value> {
    m.tape.label("head");
    let op = LastPosition::new(m.b, m.t, m.config.width);
    let last = m.tape.push_inference(op, &[x], &[m.inputs.new], &[], &[])?[0];
    project(m, m.b, last)
}

/// Mean cross-entropy against `targets` (B, T), and each position's own. Logits are never kept.
pub(super) fn loss(m: &mut Builder<'_>, x: Value, targets: Ints) -> Result<Operands<Value>> {
    m.tape.label("head");
    let op = LinearCrossEntropy {
        precision: m.precision,
        ignore: IGNORE,
        ..LinearCrossEntropy::new(m.n(), m.config.width, m.config.vocab)
    };
    let params = [weight(m)?];
    m.tape.push(op, &[x], &[targets], &params)
}
