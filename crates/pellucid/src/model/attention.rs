//! Multi-head attention: project, split, attend, join.

use super::builder::{Builder, Purpose};
use super::config::Positions;
use super::residual::{self, ATTENTION};
use super::site::Part;
use crate::autograd::{Ints, Param, Value};
use crate::error::Result;
use crate::ops::attention::{
    AttentionDims, CachedAttention, CrossAttention, Mask, RelativeBias, Rule, SelfAttention,
};
use crate::ops::attention_steps::{Mix, Recall, RecalledScores, Scores, Softmax};
use crate::ops::head_norm::{HeadNorm, HeadNormDims};
use crate::ops::rotary::{self, Rotary};

/// What position `t` reads from the positions it may see, added to the stream (B, T, C).
pub(super) fn attention(m: &mut Builder<'_>, layer: usize, stream: Value) -> Result<Value> {
    let name = m.name(&format!("blocks.{layer}.attn"));
    let config = m.config;
    let (h, kv, d) = (config.heads, config.kv_heads, config.head_width);
    let x = residual::read(m, &format!("{name}.norm"), (stream, layer), &ATTENTION)?;
    let (projection, columns) = (format!("{name}.qkv"), config.qkv_width());
    let qkv = residual::linear(m, &projection, (x, m.n(), config.width), columns, None)?;
    let qkv = m.tap(Part::Q, layer, qkv)?;
    let qkv = normalise(m, &name, qkv)?;
    let qkv = rotate(m, qkv)?;
    let qkv = if m.rotary.is_some() { m.tap(Part::RotQ, layer, qkv)? } else { qkv };
    m.tape.label(name.clone());
    let rule = rule(m, layer);
    let table = match rule.bias {
        Some(_) => vec![m.param(&m.name("relative"))?],
        None => vec![],
    };
    let heads = match m.purpose {
        Purpose::Train | Purpose::Observe => {
            let dims = AttentionDims { b: m.b, t: m.t, s: m.t, h, kv, d };
            let lengths = if rule.mask.padding { vec![m.inputs.new] } else { vec![] };
            let call = Call { dims, rule, lengths, table };
            let sites = (Part::Scores, Part::Pattern, layer);
            attend(m, &call, &[qkv], sites)?
        }
        Purpose::Extend { capacity } => {
            let dims = AttentionDims { b: m.b, t: m.t, s: capacity, h, kv, d };
            let call = Call { dims, rule, lengths: vec![m.inputs.past, m.inputs.new], table };
            extend(m, &call, qkv, layer)?
        }
    };
    let heads = m.tap(Part::Z, layer, heads)?;
    let names = (&*format!("{name}.out"), &*format!("{name}.norm"));
    residual::write(m, names, (heads, h * d), (stream, layer), &ATTENTION)
}

/// One attention over whole sequences.
pub(super) struct Call {
    pub(super) dims: AttentionDims,
    /// Without dropout.
    pub(super) rule: Rule,
    pub(super) lengths: Vec<Ints>,
    pub(super) table: Vec<Param>,
}

/// What the heads read: fused; in steps where somebody acts on scores or pattern; both where somebody only looks.
/// `from` is qkv, or q and kv of another sequence.
pub(super) fn attend(
    m: &mut Builder<'_>,
    call: &Call,
    from: &[Value],
    (scores, pattern, layer): (Part, Part, usize),
) -> Result<Value> {
    let acts = m.acts(scores, layer) || m.acts(pattern, layer);
    if !acts {
        if m.wants(scores, layer) || m.wants(pattern, layer) {
            in_steps(m, call, from, (scores, pattern, layer))?;
        }
        let mut rule = call.rule;
        if m.drops() {
            (rule.dropout, rule.stream) = (m.config.dropout, m.stream());
        }
        return if let [qkv] = *from {
            m.push(SelfAttention::new(call.dims, rule)?, &[qkv], &call.lengths, &call.table)
        } else {
            m.push(CrossAttention::new(call.dims, rule)?, from, &call.lengths, &[])
        };
    }
    let weights = in_steps(m, call, from, (scores, pattern, layer))?;
    let weights = residual::dropout(m, weights)?;
    let op = if from.len() == 1 { Mix::packed(call.dims)? } else { Mix::apart(call.dims)? };
    m.push(op, &[weights, from[from.len() - 1]], &[], &[])
}

/// What the heads read while a text grows: fused, or in steps, as [`attend`].
fn extend(m: &mut Builder<'_>, call: &Call, qkv: Value, layer: usize) -> Result<Value> {
    let Call { dims, rule, lengths, table } = call;
    let cache = dims.b * dims.kv * dims.s * dims.d;
    let states = [m.tape.state(cache), m.tape.state(cache)];
    let (scores, pattern) = (Part::Scores, Part::Pattern);
    let acts = m.acts(scores, layer) || m.acts(pattern, layer);
    let mut heads = None;
    if !acts {
        let op = CachedAttention::new(*dims, *rule)?;
        let read = m.tape.push_inference(op, &[qkv], lengths, table, &states)?[0];
        if !(m.wants(scores, layer) || m.wants(pattern, layer)) {
            return Ok(read);
        }
        heads = Some(read);
    }
    let op = Recall::new(*dims, *rule)?;
    let from = m.tape.push_inference(op, &[qkv], lengths, &[], &states)?;
    let op = RecalledScores::new(*dims, *rule)?;
    let x = m.tape.push_inference(op, &from, lengths, table, &[])?[0];
    let weights = probabilities(m, dims, x, (scores, pattern, layer))?;
    match heads {
        Some(heads) => Ok(heads),
        None => m.push(Mix::apart(*dims)?, &[weights, from[1]], &[], &[]),
    }
}

/// The pattern, (B, H, T, S), by way of the scores.
pub(super) fn in_steps(
    m: &mut Builder<'_>,
    call: &Call,
    from: &[Value],
    (scores, pattern, layer): (Part, Part, usize),
) -> Result<Value> {
    let op = match from.len() {
        1 => Scores::packed(call.dims, call.rule)?,
        _ => Scores::apart(call.dims, call.rule)?,
    };
    let x = m.push(op, from, &call.lengths, &call.table)?;
    probabilities(m, &call.dims, x, (scores, pattern, layer))
}

/// From scores to the pattern, past both sites.
fn probabilities(
    m: &mut Builder<'_>,
    dims: &AttentionDims,
    scores: Value,
    (at_scores, at_pattern, layer): (Part, Part, usize),
) -> Result<Value> {
    let AttentionDims { b, t, s, h, .. } = *dims;
    let x = m.tap(at_scores, layer, scores)?;
    let p = m.push(Softmax::new(b * h * t, s)?, &[x], &[], &[])?;
    m.tap(at_pattern, layer, p)
}

/// How this block's scores become probabilities, in training without dropout.
pub(super) fn rule(m: &Builder<'_>, layer: usize) -> Rule {
    let config = m.config;
    let window = config.window.filter(|_| layer >= config.window_from);
    let mask = Mask { causal: m.causal(), window, padding: !m.causal() };
    let bias = (config.positions == Positions::Relative).then_some(RelativeBias {
        buckets: config.relative_buckets,
        max_distance: config.relative_distance,
        bidirectional: !m.causal(),
    });
    let new = Rule::new(mask, config.head_width);
    let scale = config.attention_scale.unwrap_or(new.scale);
    let alibi = config.positions == Positions::Alibi;
    Rule { alibi, bias, scale, precision: m.precision, ..new }
}

/// Normalises each head's query and key, where the model does so.
fn normalise(m: &mut Builder<'_>, name: &str, qkv: Value) -> Result<Value> {
    let config = m.config;
    if !config.qk_norm {
        return Ok(qkv);
    }
    m.tape.label(format!("{name}.q_norm"));
    let dims =
        HeadNormDims { n: m.n(), h: config.heads, kv: config.kv_heads, d: config.head_width };
    let weights = ["q_norm", "k_norm"].map(|w| m.param(&format!("{name}.{w}.weight")));
    let [q, k] = weights;
    m.push(HeadNorm::new(dims, config.norm_epsilon)?, &[qkv], &[], &[q?, k?])
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
