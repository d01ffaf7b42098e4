//! The stream: what is read from it, what is added to it.

use super::adapter;
use super::builder::Builder;
use super::config::NormPlacement;
use super::norm::watched;
use super::site::Part;
use crate::autograd::{Param, Value};
use crate::error::{Error, Kind, Result};
use crate::ops::activation::{Activate, Activation};
use crate::ops::dropout::Dropout;
use crate::ops::head_results::{HeadResults, SumHeads};
use crate::ops::linear::Linear;
use crate::ops::linear::stored::StoredLinear;
use crate::ops::residual::Residual;

/// The sites of a sublayer.
#[derive(Debug)]
pub(super) struct Sites {
    scale: Part,
    normalized: Part,
    /// What each head writes.
    result: Option<Part>,
    /// What the sublayer writes.
    out: Part,
    /// The stream after it.
    after: Part,
    /// That, normalised: post-norm.
    normed: Option<Part>,
}

/// Of attention.
pub(super) const ATTENTION: Sites = Sites {
    scale: Part::Ln1Scale,
    normalized: Part::Ln1Normalized,
    result: Some(Part::Result),
    out: Part::AttnOut,
    after: Part::ResidMid,
    normed: None,
};
/// Of the look at another stack.
pub(super) const CROSS: Sites = Sites {
    scale: Part::CrossLnScale,
    normalized: Part::CrossLnNormalized,
    result: Some(Part::CrossResult),
    out: Part::CrossOut,
    after: Part::ResidMidCross,
    normed: None,
};
/// Of the feed-forward.
pub(super) const FEED_FORWARD: Sites = Sites {
    scale: Part::Ln2Scale,
    normalized: Part::Ln2Normalized,
    result: None,
    out: Part::MlpOut,
    after: Part::ResidPost,
    normed: Some(Part::NormalizedResidPost),
};

/// What a sublayer of block `layer` reads: the normalised stream (pre-norm) or the stream itself (post-norm).
pub(super) fn read(
    m: &mut Builder<'_>,
    name: &str,
    (stream, layer): (Value, usize),
    sites: &Sites,
) -> Result<Value> {
    match m.config.norm_placement {
        NormPlacement::Pre => {
            watched(m, name, (stream, m.n()), (sites.scale, sites.normalized, layer))
        }
        NormPlacement::Post => Ok(stream),
    }
}

/// Adds `x · Wᵀ (+ bias)` to the stream of block `layer`; post-norm then normalises the sum with the weights called
/// `name`.
pub(super) fn write(
    m: &mut Builder<'_>,
    (projection, name): (&str, &str),
    (x, columns): (Value, usize),
    (stream, layer): (Value, usize),
    sites: &Sites,
) -> Result<Value> {
    let x = match sites.result {
        Some(part) if m.wants(part, layer) => results(m, projection, x, (part, layer))?,
        _ => Written::Row(x),
    };
    let sum = match x {
        Written::Row(x) if m.drops() || m.wants(sites.out, layer) => {
            m.tape.label(projection);
            let y = linear(m, projection, (x, m.n(), columns), m.config.width, None)?;
            apart(m, y, (stream, layer), sites)?
        }
        Written::Row(x) => add(m, projection, (x, columns), stream)?,
        Written::Sum(y) => apart(m, y, (stream, layer), sites)?,
    };
    let sum = m.tap(sites.after, layer, sum)?;
    match m.config.norm_placement {
        NormPlacement::Pre => Ok(sum),
        NormPlacement::Post => {
            let y = watched(m, name, (sum, m.n()), (sites.scale, sites.normalized, layer))?;
            sites.normed.map_or(Ok(y), |part| m.tap(part, layer, y))
        }
    }
}

/// What a sublayer has to write: vectors still to be projected, or what they wrote.
enum Written {
    Row(Value),
    Sum(Value),
}

/// Adds what a sublayer wrote, as a value of its own, to the stream.
fn apart(
    m: &mut Builder<'_>,
    y: Value,
    (stream, layer): (Value, usize),
    sites: &Sites,
) -> Result<Value> {
    let y = m.tap(sites.out, layer, y)?;
    let y = dropout(m, y)?;
    m.push(Residual::new(m.n() * m.config.width)?, &[stream, y], &[], &[])
}

/// What each head writes: beside the run, or in its place where somebody acts on it.
fn results(
    m: &mut Builder<'_>,
    projection: &str,
    z: Value,
    (part, layer): (Part, usize),
) -> Result<Written> {
    if m.matrix(&format!("{projection}.weight"))?.is_some() || m.config.adapter.is_some() {
        let message = "what each head writes needs plain matrices";
        return Err(Error::new(Kind::Input, "observe", message)
            .hint("load the model in f32, and merge its adapter"));
    }
    m.tape.label(projection);
    let (n, h, d, c) = (m.n(), m.config.heads, m.config.head_width, m.config.width);
    let weight = m.param(&format!("{projection}.weight"))?;
    let result = m.push(HeadResults::new(n, h, d, c)?, &[z], &[], &[weight])?;
    if !m.acts(part, layer) {
        m.show(part, layer, result);
        return Ok(Written::Row(z));
    }
    let result = m.tap(part, layer, result)?;
    let bias = m.bias(projection);
    let op = SumHeads::new(n, h, c, !bias.is_empty())?;
    Ok(Written::Sum(m.push(op, &[result], &[], &bias)?))
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
