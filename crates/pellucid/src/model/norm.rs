//! LayerNorm and RMSNorm as layers.

use super::builder::Builder;
use super::config::NormKind;
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::norm::{LayerNorm, NormDims, RmsNorm};

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
