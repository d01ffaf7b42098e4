//! LayerNorm and RMSNorm as layers.

use super::builder::Builder;
use super::config::NormKind;
use super::site::Part;
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::norm::{LayerNorm, NormDims, RmsNorm};
use crate::ops::norm_steps::{Affine, NormScale, Normalise};

/// Normalises each of `n` vectors, (n, C), with the weights called `name`.
pub(super) fn norm(m: &mut Builder<'_>, name: &str, (x, n): (Value, usize)) -> Result<Value> {
    m.tape.label(name);
    let params = match m.config.norm {
        NormKind::None => return Ok(x),
        NormKind::LayerNorm | NormKind::RmsNorm => m.weight_and_bias(name)?,
    };
    let dims = NormDims { n, c: m.config.width };
    let eps = m.config.norm_epsilon;
    match m.config.norm {
        NormKind::LayerNorm => {
            let op = LayerNorm::new(dims, eps, params.len() == 2)?;
            m.push(op, &[x], &[], &params)
        }
        NormKind::RmsNorm => m.push(RmsNorm::new(dims, eps)?, &[x], &[], &params),
        NormKind::None => Ok(x),
    }
}

/// As [`norm`] at the sites (what it divides by, what that leaves, block).
pub(super) fn watched(
    m: &mut Builder<'_>,
    name: &str,
    (x, n): (Value, usize),
    (scale, normalized, layer): (Part, Part, usize),
) -> Result<Value> {
    let (divisor, quotient) = (m.want(scale, layer), m.want(normalized, layer));
    if !divisor.any() && !quotient.any() {
        return norm(m, name, (x, n));
    }
    m.tape.label(name);
    let (dims, eps) = (NormDims { n, c: m.config.width }, m.config.norm_epsilon);
    let centred = m.config.norm == NormKind::LayerNorm;
    let s = m.push(NormScale::new(dims, eps, centred)?, &[x], &[], &[])?;
    if divisor.active() || quotient.active() {
        let s = m.tap(scale, layer, s)?;
        let y = m.push(Normalise::new(dims, centred)?, &[x, s], &[], &[])?;
        let y = m.tap(normalized, layer, y)?;
        let params = m.weight_and_bias(name)?;
        return m.push(Affine::new(dims, params.len() == 2)?, &[y], &[], &params);
    }
    if divisor.capture {
        m.show(scale, layer, s);
    }
    if quotient.capture {
        let y = m.push(Normalise::new(dims, centred)?, &[x, s], &[], &[])?;
        m.show(normalized, layer, y);
    }
    norm(m, name, (x, n))
}
