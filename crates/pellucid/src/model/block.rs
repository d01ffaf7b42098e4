//! One block: attention, then feed-forward, each added to the stream.

use super::attention::attention;
use super::builder::Builder;
use super::feed_forward::feed_forward;
use super::site::Site;
use crate::autograd::Value;
use crate::error::Result;

/// The stream (B, T, C) after block `layer`.
pub(super) fn block(m: &mut Builder<'_>, layer: usize, stream: Value) -> Result<Value> {
    m.tape.begin_segment();
    let stream = attention(m, layer, stream)?;
    let stream = feed_forward(m, layer, stream)?;
    m.tape.end_segment();
    m.site(Site::Block(layer), stream);
    Ok(stream)
}
