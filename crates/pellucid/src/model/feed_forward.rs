//! The position-wise feed-forward network, plain or gated.

use super::builder::Builder;
use super::config::ActivationKind;
use super::residual::{self, FEED_FORWARD};
use super::site::Part;
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::activation::{Activate, Activation, Gated, GatedDims};

/// What each position makes of what it has, added to the stream (B, T, C).
pub(super) fn feed_forward(m: &mut Builder<'_>, layer: usize, stream: Value) -> Result<Value> {
    let name = m.name(&format!("blocks.{layer}.mlp"));
    let config = m.config;
    if !config.has_feed_forward() {
        return m.tap(Part::ResidPost, layer, stream);
    }
    let activation = config.activation.into();
    let x = residual::read(m, &format!("{name}.norm"), (stream, layer), &FEED_FORWARD)?;
    let (input, rows) = (format!("{name}.in"), (x, m.n(), config.width));
    let hidden = if config.gated {
        let both = residual::linear(m, &input, rows, 2 * config.hidden, None)?;
        let both = m.tap(Part::MlpPre, layer, both)?;
        let op = Gated::new(GatedDims { n: m.n(), f: config.hidden }, activation)?;
        m.push(op, &[both], &[], &[])?
    } else if m.wants(Part::MlpPre, layer) {
        let pre = residual::linear(m, &input, rows, config.hidden, None)?;
        let pre = m.tap(Part::MlpPre, layer, pre)?;
        let op = Activate::new(m.n() * config.hidden, activation)?;
        m.push(op, &[pre], &[], &[])?
    } else {
        residual::linear(m, &input, rows, config.hidden, Some(activation))?
    };
    let hidden = m.tap(Part::MlpPost, layer, hidden)?;
    let names = (&*format!("{name}.out"), &*format!("{name}.norm"));
    residual::write(m, names, (hidden, config.hidden), (stream, layer), &FEED_FORWARD)
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
