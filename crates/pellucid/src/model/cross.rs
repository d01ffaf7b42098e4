//! Cross-attention: what a decoder's position reads of the source (Vaswani et al. 2017, section 3.2.3).

use super::attention::{Call, attend, fused_or_in_steps, in_steps, rule};
use super::builder::{Builder, Memory};
use super::residual::{self, CROSS};
use super::site::Part;
use crate::autograd::{State, Value};
use crate::error::Result;
use crate::ops::attention::{AttentionDims, Mask, RememberedAttention, Rule};
use crate::ops::attention_steps::{Mix, RecallSource};

/// What position `t` reads from the encoder's positions, added to the stream (B, T, C).
pub(super) fn cross_attention(
    m: &mut Builder<'_>,
    layer: usize,
    memory: Memory,
    stream: Value,
) -> Result<Value> {
    let name = m.name(&format!("blocks.{layer}.cross"));
    let config = m.config;
    let (h, kv, d) = (config.heads, config.kv_heads, config.head_width);
    let x = residual::read(m, &format!("{name}.norm"), (stream, layer), &CROSS)?;
    let q = residual::linear(m, &format!("{name}.q"), (x, m.n(), config.width), h * d, None)?;
    let q = m.tap(Part::CrossQ, layer, q)?;
    // Distances between two texts mean nothing.
    let rule = Rule { mask: Mask::PADDING, alibi: false, bias: None, ..rule(m, layer) };
    let heads = match memory {
        Memory::Encoded { x, s, lengths } => {
            let kv_values = keys_and_values(m, layer, (x, m.b * s))?;
            let kv_values = m.tap(Part::CrossK, layer, kv_values)?;
            m.tape.label(name.clone());
            let dims = AttentionDims { b: m.b, t: m.t, s, h, kv, d };
            let call = Call { dims, rule, lengths: vec![lengths], table: vec![] };
            let sites = (Part::CrossScores, Part::CrossPattern, layer);
            attend(m, &call, &[q, kv_values], sites)?
        }
        Memory::Remembered { rows, s, lengths } => {
            m.tape.label(name.clone());
            // Rows that read the same text are more queries of one row.
            let dims = AttentionDims { b: rows, t: m.b / rows * m.t, s, h, kv, d };
            let state = m.tape.state(rows * s * 2 * kv * d);
            let call = Call { dims, rule, lengths: vec![lengths], table: vec![] };
            remembered(m, &call, (q, state), layer)?
        }
    };
    let heads = m.tap(Part::CrossZ, layer, heads)?;
    let names = (&*format!("{name}.out"), &*format!("{name}.norm"));
    residual::write(m, names, (heads, h * d), (stream, layer), &CROSS)
}

/// Keys and values of `rows` vectors that the encoder made, for block `layer` of the decoder: (rows, 2 K D).
pub(super) fn keys_and_values(
    m: &mut Builder<'_>,
    layer: usize,
    (x, rows): (Value, usize),
) -> Result<Value> {
    let columns = 2 * m.config.kv_heads * m.config.head_width;
    let name = format!("decoder.blocks.{layer}.cross.kv");
    residual::linear(m, &name, (x, rows, m.config.width), columns, None)
}

/// What the heads read of keys and values that were made before.
fn remembered(
    m: &mut Builder<'_>,
    call: &Call,
    (q, state): (Value, State),
    layer: usize,
) -> Result<Value> {
    let sites = (Part::CrossScores, Part::CrossPattern, layer);
    let fused = |m: &mut Builder<'_>| {
        let op = RememberedAttention::new(call.dims, call.rule)?;
        Ok(m.tape.push_inference(op, &[q], &call.lengths, &[], &[state])?[0])
    };
    // Patterns of several rows about one text would lie as those of one row: they do not fire.
    if call.dims.b != m.b {
        return fused(m);
    }
    let steps = |m: &mut Builder<'_>| {
        let op = RecallSource::new(call.dims)?;
        let kv = m.tape.push_inference(op, &[], &[], &[], &[state])?[0];
        Ok([in_steps(m, call, &[q, kv], sites)?, kv])
    };
    fused_or_in_steps(m, sites, fused, (steps, Mix::apart(call.dims)?))
}
