//! The baseline: a stack of LSTM layers in place of blocks, and in a decoder one look at the source after them.
//!
//! Sutskever et al. 2014; with attention Bahdanau et al. 2015, placed as Luong et al. 2015 have it. The encoder's
//! layers read by turns from the left and from the right (Zhou et al. 2016), so that its output knows both sides; the
//! decoder's layers start with the encoder's last states.

use super::builder::{Builder, Memory, Purpose};
use super::residual;
use super::site::Part;
use crate::autograd::Value;
use crate::backend::cpu::gemm::Precision;
use crate::error::Result;
use crate::ops::additive::{AdditiveAttention, AdditiveDims, RememberedAdditive};
use crate::ops::lstm::{CachedLstm, Lstm, LstmDims};

/// Layers over the embedded stream (B, T, C), to as many vectors.
pub(super) fn layers(m: &mut Builder<'_>, mut stream: Value) -> Result<Value> {
    for layer in 0..m.stack.layers {
        m.tape.begin_segment();
        stream = lstm(m, layer, stream)?;
        stream = residual::dropout(m, stream)?;
        m.tape.end_segment();
        stream = m.tap(Part::ResidPost, layer, stream)?;
    }
    match m.memory {
        None => Ok(stream),
        Some(memory) => attend(m, memory, stream),
    }
}

/// One layer: the input's share of the gates for all positions at once, then position by position.
fn lstm(m: &mut Builder<'_>, layer: usize, x: Value) -> Result<Value> {
    let name = m.name(&format!("blocks.{layer}.lstm"));
    let c = m.config.width;
    let gates = residual::linear(m, &format!("{name}.input"), (x, m.n(), c), 4 * c, None)?;
    let weight = m.param(&format!("{name}.hidden.weight"))?;
    m.tape.label(name);
    let dims = LstmDims { b: m.b, t: m.t, c };
    if let Purpose::Extend { .. } = m.purpose {
        // Rounded states would drift with every token, and the product is small.
        let op = CachedLstm::new(dims, m.memory.is_some(), Precision::F32)?;
        let states = [m.tape.state(m.b * c), m.tape.state(m.b * c)];
        let ints = [m.inputs.past, m.inputs.new];
        return Ok(m.tape.push_inference(op, &[gates], &ints, &[weight], &states)?[0]);
    }
    let encoder = m.config.has_source() && m.memory.is_none();
    let start = if m.memory.is_some() { Some(m.last_states[layer]) } else { None };
    let op = Lstm {
        initial: start.is_some(),
        lengths: encoder,
        reverse: encoder && layer % 2 == 1,
        precision: m.precision,
        ..Lstm::new(dims)?
    };
    let inputs: Vec<Value> = std::iter::once(gates).chain(start.into_iter().flatten()).collect();
    let lengths = if encoder { vec![m.inputs.new] } else { vec![] };
    let outputs = m.tape.push(op, &inputs, &lengths, &[weight])?;
    if encoder {
        m.last_states.push([outputs[1], outputs[2]]);
    }
    Ok(outputs[0])
}

/// What the source's positions are found by: `rows` vectors of the encoder, projected.
pub(super) fn keys(m: &mut Builder<'_>, (x, rows): (Value, usize)) -> Result<Value> {
    let c = m.config.width;
    residual::linear(m, "decoder.attn.k", (x, rows, c), c, None)
}

/// What each position reads of the source, added to what it has.
fn attend(m: &mut Builder<'_>, memory: Memory, stream: Value) -> Result<Value> {
    let c = m.config.width;
    let q = residual::linear(m, "decoder.attn.q", (stream, m.n(), c), c, None)?;
    let v = m.param("decoder.attn.v")?;
    let context = match memory {
        Memory::Encoded { x, s, lengths } => {
            let k = keys(m, (x, m.b * s))?;
            m.tape.label("decoder.attn");
            let dims = AdditiveDims { b: m.b, t: m.t, s, c, e: c };
            m.push(AdditiveAttention::new(dims)?, &[q, k, x], &[lengths], &[v])?
        }
        Memory::Remembered { rows, s, lengths } => {
            m.tape.label("decoder.attn");
            // Rows that read the same text are more queries of one row.
            let dims = AdditiveDims { b: rows, t: m.b / rows * m.t, s, c, e: c };
            let states = [m.tape.state(rows * s * c), m.tape.state(rows * s * c)];
            let op = RememberedAdditive::new(dims)?;
            m.tape.push_inference(op, &[q], &[lengths], &[v], &states)?[0]
        }
    };
    residual::add(m, "decoder.attn.out", (context, c), stream)
}
