//! Embedding, blocks, norm: the file to read first.

use super::block::block;
use super::builder::{Builder, Memory};
use super::config::{Core, NormPlacement};
use super::embedding::embed;
use super::norm::norm;
use super::recurrent;
use super::site::Site;
use crate::autograd::Value;
use crate::error::Result;

/// Records one stack: token ids (B, T) to vectors (B, T, C).
pub(super) fn stack(m: &mut Builder<'_>) -> Result<Value> {
    let mut stream = embed(m)?;
    if m.config.core == Core::Lstm {
        stream = recurrent::layers(m, stream)?;
        m.site(Site::Final, stream);
        return Ok(stream);
    }
    for layer in 0..m.stack.layers {
        stream = block(m, layer, stream)?;
    }
    if m.config.norm_placement == NormPlacement::Pre {
        let name = m.name("norm");
        stream = norm(m, &name, (stream, m.n()))?;
    }
    m.site(Site::Final, stream);
    Ok(stream)
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
