//! The position-wise feed-forward network, plain or gated.

use super::builder::Builder;
use super::config::ActivationKind;
use super::residual;
use super::site::Site;
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::activation::{Activation, Gated, GatedDims};

/// What each position makes of what it has, added to the stream (B, T, C).
pub(super) fn feed_forward(m: &mut Builder<'_>, layer: usize, stream: Value) -> Result<Value> {
    let name = m.name(&format!("blocks.{layer}.mlp"));
    let config = m.config;
    if !config.has_feed_forward() {
        return Ok(stream);
    }
    let activation = config.activation.into();
    let x = residual::read(m, &format!("{name}.norm"), stream)?;
    let input = format!("{name}.in");
    let hidden = if config.gated {
        let both = residual::linear(m, &input, (x, m.n(), config.width), 2 * config.hidden, None)?;
        let op = Gated::new(GatedDims { n: m.n(), f: config.hidden }, activation)?;
        m.push(op, &[both], &[], &[])?
    } else {
        residual::linear(m, &input, (x, m.n(), config.width), config.hidden, Some(activation))?
    };
    m.site(Site::Hidden(layer), hidden);
    let names = (&*format!("{name}.out"), &*format!("{name}.norm"));
    residual::write(m, names, (hidden, config.hidden), stream)
}

impl From<ActivationKind> for Activation {
    fn from(kind: ActivationKind) -> Self {
        match kind {
            ActivationKind::Gelu => Self::Gelu,
            ActivationKind::GeluTanh => Self::GeluTanh,
            ActivationKind::Relu => Self::Relu,
            ActivationKind::ReluSquared => Self::ReluSquared,
            ActivationKind::Silu => Self::Silu,
        }
    }
}
