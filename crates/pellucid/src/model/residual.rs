//! The stream: what is read from it, what is added to it.

use super::adapter;
use super::builder::Builder;
use super::config::NormPlacement;
use super::norm::norm;
use crate::autograd::{Param, Value};
use crate::error::Result;
use crate::ops::activation::{Activate, Activation};
use crate::ops::dropout::Dropout;
use crate::ops::linear::Linear;
use crate::ops::linear::stored::StoredLinear;
use crate::ops::residual::Residual;

/// What a sublayer reads: the normalised stream (pre-norm) or the stream itself (post-norm).
pub(super) fn read(m: &mut Builder<'_>, name: &str, stream: Value) -> Result<Value> {
    match m.config.norm_placement {
        NormPlacement::Pre => norm(m, name, (stream, m.n())),
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
    let sum = add(m, projection, (x, columns), stream)?;
    match m.config.norm_placement {
        NormPlacement::Pre => Ok(sum),
        NormPlacement::Post => norm(m, name, (sum, m.n())),
    }
}

/// Adds `x · Wᵀ (+ bias)` to the stream.
pub(super) fn add(
    m: &mut Builder<'_>,
    projection: &str,
    (x, columns): (Value, usize),
    stream: Value,
) -> Result<Value> {
    m.tape.label(projection);
    if m.drops() {
        let y = linear(m, projection, (x, m.n(), columns), m.config.width, None)?;
        let y = dropout(m, y)?;
        let op = Residual::new(m.n() * m.config.width)?;
        m.push(op, &[stream, y], &[], &[])
    } else if let Some(matrix) = m.matrix(&format!("{projection}.weight"))? {
        let params = m.bias(projection);
        let op = StoredLinear {
            bias: !params.is_empty(),
            residual: true,
            ..StoredLinear::new(m.n(), matrix)
        };
        m.push_inference(op, &[x, stream], &[], &params)
    } else {
        let params = m.weight_and_bias(projection)?;
        let bias = params.len() == 2;
        let op = Linear {
            bias,
            residual: true,
            precision: m.precision,
            ..Linear::new(m.n(), columns, m.config.width)
        };
        let sum = m.push(op, &[x, stream], &[], &params)?;
        let matrix = format!("{projection}.weight");
        adapter::add(m, &matrix, (x, m.n(), columns), (sum, m.config.width))
    }
}

/// `act(x · Wᵀ + bias)`: `rows` of `columns` to rows of `out`.
pub(super) fn linear(
    m: &mut Builder<'_>,
    name: &str,
    (x, rows, columns): (Value, usize, usize),
    out: usize,
    activation: Option<Activation>,
) -> Result<Value> {
    m.tape.label(name);
    let bias = m.bias(name);
    product(m, (&format!("{name}.weight"), &bias, activation), (x, rows, columns), out)
}

/// As [`linear`] with the matrix and the bias named apart, as the head may have another's matrix.
pub(super) fn product(
    m: &mut Builder<'_>,
    (weight, bias, activation): (&str, &[Param], Option<Activation>),
    (x, rows, columns): (Value, usize, usize),
    out: usize,
) -> Result<Value> {
    let has_bias = !bias.is_empty();
    if let Some(matrix) = m.matrix(weight)? {
        let op = StoredLinear { bias: has_bias, activation, ..StoredLinear::new(rows, matrix) };
        return m.push_inference(op, &[x], &[], bias);
    }
    let params: Vec<Param> = [m.param(weight)?].iter().chain(bias).copied().collect();
    let precision = m.precision;
    let op = Linear { bias: has_bias, precision, ..Linear::new(rows, columns, out) };
    if m.config.adapter.is_none() {
        return m.push(Linear { activation, ..op }, &[x], &[], &params);
    }
    let y = m.push(op, &[x], &[], &params)?;
    let y = adapter::add(m, weight, (x, rows, columns), (y, out))?;
    match activation {
        None => Ok(y),
        Some(activation) => m.push(Activate::new(rows * out, activation)?, &[y], &[], &[]),
    }
}

/// Drops elements when training with dropout; nothing otherwise.
pub(super) fn dropout(m: &mut Builder<'_>, x: Value) -> Result<Value> {
    if !m.drops() {
        return Ok(x);
    }
    let op = Dropout::new(m.tape.len(x), m.config.dropout, m.stream())?;
    m.push(op, &[x], &[], &[])
}
