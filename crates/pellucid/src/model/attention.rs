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

/// What the heads read of whole sequences. `from` is qkv, or q and kv of another sequence.
pub(super) fn attend(
    m: &mut Builder<'_>,
    call: &Call,
    from: &[Value],
    (scores, pattern, layer): (Part, Part, usize),
) -> Result<Value> {
    let sites = (scores, pattern, layer);
    let fused = |m: &mut Builder<'_>| {
        let mut rule = call.rule;
        if m.drops() {
            (rule.dropout, rule.stream) = (m.config.dropout, m.stream());
        }
        if let [qkv] = *from {
            m.push(SelfAttention::new(call.dims, rule)?, &[qkv], &call.lengths, &call.table)
        } else {
            m.push(CrossAttention::new(call.dims, rule)?, from, &call.lengths, &[])
        }
    };
    let steps = |m: &mut Builder<'_>| Ok([in_steps(m, call, from, sites)?, from[from.len() - 1]]);
    let mix = if from.len() == 1 { Mix::packed(call.dims)? } else { Mix::apart(call.dims)? };
    fused_or_in_steps(m, sites, fused, (steps, mix))
}

/// Fused where nobody acts on scores or pattern; where somebody looks at them or acts, by way of the steps, which give
/// weights and values to be mixed.
pub(super) fn fused_or_in_steps<'c>(
    m: &mut Builder<'c>,
    (scores, pattern, layer): (Part, Part, usize),
    fused: impl FnOnce(&mut Builder<'c>) -> Result<Value>,
    (steps, mix): (impl FnOnce(&mut Builder<'c>) -> Result<[Value; 2]>, Mix),
) -> Result<Value> {
    let acts = m.acts(scores, layer) || m.acts(pattern, layer);
    let read = if acts { None } else { Some(fused(m)?) };
    if let Some(read) = read
        && !(m.wants(scores, layer) || m.wants(pattern, layer))
    {
        return Ok(read);
    }
    let [weights, values] = steps(m)?;
    if let Some(read) = read {
        return Ok(read);
    }
    let weights = residual::dropout(m, weights)?;
    m.push(mix, &[weights, values], &[], &[])
}

/// What the heads read while a text grows.
fn extend(m: &mut Builder<'_>, call: &Call, qkv: Value, layer: usize) -> Result<Value> {
    let Call { dims, rule, lengths, table } = call;
    let cache = dims.b * dims.kv * dims.s * dims.d;
    let states = [m.tape.state(cache), m.tape.state(cache)];
    let sites = (Part::Scores, Part::Pattern, layer);
    let fused = |m: &mut Builder<'_>| {
        let op = CachedAttention::new(*dims, *rule)?;
        Ok(m.tape.push_inference(op, &[qkv], lengths, table, &states)?[0])
    };
    let steps = |m: &mut Builder<'_>| {
        let op = Recall::new(*dims, *rule)?;
        let from = m.tape.push_inference(op, &[qkv], lengths, &[], &states)?;
        let op = RecalledScores::new(*dims, *rule)?;
        let x = m.tape.push_inference(op, &from, lengths, table, &[])?[0];
        Ok([probabilities(m, dims, x, sites)?, from[1]])
    };
    fused_or_in_steps(m, sites, fused, (steps, Mix::apart(*dims)?))
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
