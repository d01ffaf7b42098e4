//! The stream: what is read from it, what is added to it.

use super::builder::Builder;
use super::config::NormPlacement;
use super::norm::norm;
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::activation::Activation;
use crate::ops::dropout::Dropout;
use crate::ops::linear::Linear;
use crate::ops::linear::stored::StoredLinear;
use crate::ops::residual::Residual;

/// What a sublayer reads: the normalised stream (pre-norm) or the stream itself (post-norm).
pub(super) fn read(m: &mut Builder<'_>, name: &str, stream: Value) -> Result<Value> {
    match m.config.norm_placement {
        NormPlacement::Pre => norm(m, name, stream),
        NormPlacement::Post => Ok(stream),
    }
}

/// Adds `x · Wᵀ (+ bias)` to the stream; post-norm then normalises the sum with the weights called `name`.
pub(super) fn write(
    m: &mut Builder<'_>,
    (projection, name): (&str, &str),
    (x, columns): (Value, usize),
    stream: Value,
) -> Result<Value> {
    m.tape.label(projection);
    let sum = if m.drops() {
        let y = linear(m, projection, (x, columns), m.config.width, None)?;
        let y = dropout(m, y)?;
        let op = Residual::new(m.n() * m.config.width)?;
        m.push(op, &[stream, y], &[], &[])?
    } else if let Some(matrix) = m.matrix(&format!("{projection}.weight"))? {
        let params = m.bias(projection);
        let op = StoredLinear {
            bias: !params.is_empty(),
            residual: true,
            ..StoredLinear::new(m.n(), matrix)
        };
        m.push_inference(op, &[x, stream], &[], &params)?
    } else {
        let params = m.weight_and_bias(projection)?;
        let bias = params.len() == 2;
        let op = Linear {
            bias,
            residual: true,
            precision: m.precision,
            ..Linear::new(m.n(), columns, m.config.width)
        };
        m.push(op, &[x, stream], &[], &params)?
    };
    match m.config.norm_placement {
        NormPlacement::Pre => Ok(sum),
        NormPlacement::Post => norm(m, name, sum),
    }
}

/// `act(x · Wᵀ + bias)`: rows of `columns` to rows of `out`.
pub(super) fn linear(
    m: &mut Builder<'_>,
    name: &str,
    (x, columns): (Value, usize),
    out: usize,
    activation: Option<Activation>,
) -> Result<Value> {
    m.tape.label(name);
    if let Some(matrix) = m.matrix(&format!("{name}.weight"))? {
        let params = m.bias(name);
        let bias = !params.is_empty();
        let op = StoredLinear { bias, activation, ..StoredLinear::new(m.n(), matrix) };
        return m.push_inference(op, &[x], &[], &params);
    }
    let params = m.weight_and_bias(name)?;
    let op = Linear {
        bias: params.len() == 2,
        activation,
        precision: m.precision,
        ..Linear::new(m.n(), columns, out)
    };
    m.push(op, &[x], &[], &params)
}

/// Drops elements when training with dropout; nothing otherwise.
pub(super) fn dropout(m: &mut Builder<'_>, x: Value) -> Result<Value> {
    if !m.drops() {
        return Ok(x);
    }
    let op = Dropout::new(m.tape.len(x), m.config.dropout, m.stream())?;
    m.push(op, &[x], &[], &[])
}
