//! One block: attention, what it reads of another stack, then feed-forward, each added to the stream.

use super::attention::attention;
use super::builder::Builder;
use super::cross::cross_attention;
use super::feed_forward::feed_forward;
use super::head::last_position;
use super::site::Part;
use crate::autograd::Value;
use crate::error::Result;

/// The stream (B, T, C) after block `layer`.
pub(super) fn block(m: &mut Builder<'_>, layer: usize, stream: Value) -> Result<Value> {
    m.tape.begin_segment();
    let stream = m.tap(Part::ResidPre, layer, stream)?;
    let mut stream = attention(m, layer, stream)?;
    if let Some(memory) = m.memory {
        stream = cross_attention(m, layer, memory, stream)?;
    }
    if m.ends_early && layer + 1 == m.stack.layers && !acts_later(m, layer) {
        stream = last_position(m, stream)?;
    }
    let stream = feed_forward(m, layer, stream)?;
    m.tape.end_segment();
    Ok(stream)
}

/// Whether somebody looks at or changes what comes after the last attention, position by position.
fn acts_later(m: &Builder<'_>, layer: usize) -> bool {
    let later = Part::ALL.iter().skip_while(|part| **part != Part::Ln2Scale);
    later.into_iter().any(|&part| m.wants(part, if part.in_block() { layer } else { 0 }))
}
