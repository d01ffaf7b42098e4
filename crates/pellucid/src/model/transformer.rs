//! Embedding, blocks, norm: the file to read first.

use super::block::block;
use super::builder::{Builder, Memory};
use super::config::{Core, NormPlacement};
use super::embedding::embed;
use super::norm::watched;
use super::recurrent;
use super::site::Part;
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::given::Given;

/// Records one stack: token ids (B, T) to vectors (B, T, C).
pub(super) fn stack(m: &mut Builder<'_>) -> Result<Value> {
    let mut stream = match m.start {
        None => embed(m)?,
        // What the blocks before made of the text.
        Some(_) => given(m, m.n() * m.config.width)?,
    };
    if m.config.core == Core::Lstm {
        stream = recurrent::layers(m, stream)?;
        return m.tap(Part::UnembedIn, 0, stream);
    }
    for layer in m.start.unwrap_or(0)..m.stack.layers {
        stream = block(m, layer, stream)?;
    }
    if m.config.norm_placement == NormPlacement::Pre {
        let name = m.name("norm");
        let sites = (Part::LnFinalScale, Part::LnFinalNormalized, 0);
        stream = watched(m, &name, (stream, m.n()), sites)?;
    }
    m.tap(Part::UnembedIn, 0, stream)
}

/// `n` elements that are put in from outside.
pub(super) fn given(m: &mut Builder<'_>, n: usize) -> Result<Value> {
    m.tape.label("given");
    let state = m.tape.state(n);
    Ok(m.tape.push_inference(Given(n), &[], &[], &[], &[state])?[0])
}

/// Records the whole model, encoder and decoder where there are two stacks: ids (B, T), and (B, S) of the source, to
/// what the head reads, (B, T, C).
pub(super) fn transformer(m: &mut Builder<'_>, t: usize) -> Result<Value> {
    let x = stack(m)?;
    if !m.config.has_source() {
        return Ok(x);
    }
    let memory = Memory::Encoded { x, s: m.t, lengths: m.inputs.new };
    m.enter_decoder(m.b, t, memory)?;
    stack(m)
}
