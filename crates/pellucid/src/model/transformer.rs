//! Embedding, blocks, norm: the file to read first.

use super::block::block;
use super::builder::Builder;
use super::config::NormPlacement;
use super::embedding::embed;
use super::norm::norm;
use super::site::Site;
use crate::autograd::Value;
use crate::error::Result;

/// Records the whole stack: token ids (B, T) to what the head reads, (B, T, C).
pub(super) fn transformer(m: &mut Builder<'_>) -> Result<Value> {
    let mut stream = embed(m)?;
    for layer in 0..m.config.layers {
        stream = block(m, layer, stream)?;
    }
    if m.config.norm_placement == NormPlacement::Pre {
        stream = norm(m, "norm", stream)?;
    }
    m.site(Site::Final, stream);
    Ok(stream)
}
