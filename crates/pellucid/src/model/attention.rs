//! Multi-head attention: project, split, attend, join.

use super::builder::{Builder, Purpose};
use super::config::Positions;
use super::residual;
use super::site::Site;
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::attention::{AttentionDims, CachedAttention, Mask, Rule, SelfAttention};
use crate::ops::rotary::{self, Rotary};

/// What position `t` reads from the positions it may see, added to the stream (B, T, C).
pub(super) fn attention(m: &mut Builder<'_>, layer: usize, stream: Value) -> Result<Value> {
    let name = format!("blocks.{layer}.attn");
    let config = m.config;
    let (h, kv, d) = (config.heads, config.kv_heads, config.head_width);
    let x = residual::read(m, &format!("{name}.norm"), stream)?;
    let qkv =
        residual::linear(m, &format!("{name}.qkv"), (x, config.width), config.qkv_width(), None)?;
    let qkv = rotate(m, qkv)?;
    m.site(Site::Qkv(layer), qkv);
    m.tape.label(name.clone());
    let mask = Mask { window: config.window, ..Mask::CAUSAL };
    let alibi = config.positions == Positions::Alibi;
    let mut rule = Rule { alibi, precision: m.precision, ..Rule::new(mask, d) };
    let heads = match m.purpose {
        Purpose::Train | Purpose::Observe => {
            if m.drops() {
                (rule.dropout, rule.stream) = (config.dropout, m.stream());
            }
            let dims = AttentionDims { b: m.b, t: m.t, s: m.t, h, kv, d };
            m.push(SelfAttention::new(dims, rule)?, &[qkv], &[], &[])?
        }
        Purpose::Extend { capacity } => {
            let dims = AttentionDims { b: m.b, t: m.t, s: capacity, h, kv, d };
            let op = CachedAttention::new(dims, rule)?;
            let cache = m.b * kv * capacity * d;
            let states = [m.tape.state(cache), m.tape.state(cache)];
            m.tape.push_inference(op, &[qkv], &[m.inputs.past, m.inputs.new], &[], &states)?[0]
        }
    };
    m.site(Site::Heads(layer), heads);
    let names = (&*format!("{name}.out"), &*format!("{name}.norm"));
    let stream = residual::write(m, names, (heads, h * d), stream)?;
    m.site(Site::AfterAttention(layer), stream);
    Ok(stream)
}

/// Turns queries and keys by their position, where the model does so.
fn rotate(m: &mut Builder<'_>, qkv: Value) -> Result<Value> {
    let Some(table) = m.rotary.clone() else {
        return Ok(qkv);
    };
    let config = m.config;
    let dims = rotary::Dims {
        b: m.b,
        t: m.t,
        row: config.qkv_width(),
        first: 0,
        heads: config.heads + config.kv_heads,
        width: config.head_width,
    };
    let op = Rotary::new(dims, rotary::Style::Half, table)?;
    m.push(op, &[qkv], &[m.inputs.past], &[])
}
