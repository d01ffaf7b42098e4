//! Vectors to what stands on the stack: tokens' or labels' scores, and the loss. The head may share the token
//! embedding's weights.

use super::builder::Builder;
use super::config::{Config, Output, Pooling};
use super::norm::norm;
use super::residual;
use super::site::Part;
use super::train_graph::IGNORE;
use crate::autograd::{Ints, Operands, Param, Value};
use crate::error::{Error, Kind, Result};
use crate::ops::activation::Activation;
use crate::ops::cross_entropy::LinearCrossEntropy;
use crate::ops::last_position::LastPosition;
use crate::ops::pool::{self, Pool};
use crate::ops::scale::Scale;
use crate::ops::squared_error::SquaredError;

/// The name of the head's matrix, (V, C) or (labels, C).
pub(super) fn name(config: &Config) -> &'static str {
    if config.tied_head && config.output == Output::Tokens {
        "embedding.token"
    } else {
        "head.weight"
    }
}

/// The head's matrix, and its bias where it has one.
fn params(m: &Builder<'_>) -> Result<Vec<Param>> {
    Ok([m.param(name(m.config))?].into_iter().chain(m.bias("head")).collect())
}

/// Scores of `n` vectors: (n, C) to (n, V) or (n, labels).
fn project(m: &mut Builder<'_>, n: usize, x: Value) -> Result<Value> {
    m.tape.label("head");
    let (config, bias) = (m.config, m.bias("head"));
    residual::product(m, (name(config), &bias, None), (x, n, config.width), config.outputs())
}

/// What stands between the stack and the head: `n` vectors to as many.
fn transform(m: &mut Builder<'_>, n: usize, mut x: Value) -> Result<Value> {
    let config = m.config;
    if config.scaled_head {
        m.tape.label("head");
        let factor = 1.0 / (config.width as f32).sqrt();
        x = m.push(Scale::new(n * config.width, factor)?, &[x], &[], &[])?;
    }
    if config.head_transform {
        let activation = Some(config.activation.into());
        x = residual::linear(m, "head.dense", (x, n, config.width), config.width, activation)?;
        x = norm(m, "head.norm", (x, n))?;
    }
    Ok(x)
}

/// One of the vectors of each text, or their mean, (B, C).
pub(super) fn pool(m: &mut Builder<'_>, x: Value, pooling: Pooling) -> Result<Value> {
    m.tape.label("pooler");
    let kind = match pooling {
        Pooling::First => pool::Kind::First,
        Pooling::Mean => pool::Kind::Mean,
        Pooling::Last => pool::Kind::Last,
    };
    let op = Pool::new(m.b, m.t, m.config.width, kind)?;
    m.push(op, &[x], &[m.inputs.new], &[])
}

/// The vector that stands for each text, (B, C).
pub(super) fn pooled(m: &mut Builder<'_>, x: Value) -> Result<Value> {
    let config = m.config;
    let x = pool(m, x, config.pooling)?;
    if !config.pooler {
        return Ok(x);
    }
    let c = config.width;
    residual::linear(m, "pooler", (x, m.b, c), c, Some(Activation::Tanh))
}

/// Scores at every position, (B, T, V) or (B, T, labels); of the whole text, (B, labels), where the model gives such.
pub(super) fn logits(m: &mut Builder<'_>, x: Value) -> Result<Value> {
    let (n, x) = features(m, x)?;
    let logits = project(m, n, x)?;
    m.tap(Part::UnembedOut, 0, logits)
}

/// What the head's matrix reads: as many vectors as it gives rows of scores.
fn features(m: &mut Builder<'_>, x: Value) -> Result<(usize, Value)> {
    match m.config.output {
        Output::Tokens => Ok((m.n(), transform(m, m.n(), x)?)),
        Output::Positions => Ok((m.n(), residual::dropout(m, x)?)),
        Output::Sequence => {
            let x = pooled(m, x)?;
            Ok((m.b, residual::dropout(m, x)?))
        }
        Output::Vectors => Err(Error::new(
            Kind::Config,
            "head",
            "the model gives vectors: it has no head, so no scores and no loss",
        )
        .hint("give it one: output = tokens, sequence or positions")),
    }
}

/// Each row's last real position, (B, C), where there are others: from here on T is 1.
pub(super) fn last_position(m: &mut Builder<'_>, x: Value) -> Result<Value> {
    if m.t == 1 {
        return Ok(x);
    }
    let op = LastPosition::new(m.b, m.t, m.config.width);
    m.t = 1;
    Ok(m.tape.push_inference(op, &[x], &[m.inputs.new], &[], &[])?[0])
}

/// Logits after each row's last real token, (B, V).
pub(super) fn last_logits(m: &mut Builder<'_>, x: Value) -> Result<Value> {
    m.tape.label("head");
    let last = last_position(m, x)?;
    let last = transform(m, m.b, last)?;
    project(m, m.b, last)
}

/// The loss against targets, (B, T), or (B) where the whole text has one, and each row's own. Logits of tokens are
/// never kept.
pub(super) fn loss(
    m: &mut Builder<'_>,
    x: Value,
    targets: Ints,
    smoothing: f32,
) -> Result<Operands<Value>> {
    let (n, x) = features(m, x)?;
    if m.config.is_regression() {
        let predicted = project(m, n, x)?;
        return m.tape.push(SquaredError::new(n, 1)?, &[predicted], &[targets], &[]);
    }
    m.tape.label("head");
    let params = params(m)?;
    let op = LinearCrossEntropy {
        precision: m.precision,
        ignore: IGNORE,
        smoothing,
        bias: params.len() == 2,
        ..LinearCrossEntropy::new(n, m.config.width, m.config.outputs())
    };
    m.tape.push(op, &[x], &[targets], &params)
}

/// How many targets a batch of (B, T) has.
pub(super) fn targets(config: &Config, b: usize, t: usize) -> usize {
    if config.output == Output::Sequence { b } else { b * t }
}
