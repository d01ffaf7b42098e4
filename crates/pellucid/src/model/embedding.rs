//! Ids to vectors.

use super::builder::Builder;
use super::config::Positions;
use super::norm::norm;
use super::residual;
use super::site::Site;
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::embedding::stored::StoredEmbedding;
use crate::ops::embedding::{self, Embedding};

/// Looks up each token's vector and adds its position's: (B, T) ids to the stream (B, T, C).
pub(super) fn embed(m: &mut Builder<'_>) -> Result<Value> {
    m.tape.label("embedding");
    let config = m.config;
    // Both stacks read one table, unless the encoder has its own.
    let own = m.stack.prefix == "encoder." && config.source_vocab > 0;
    let name = if own { "encoder.embedding.token" } else { "embedding.token" };
    let vocab = if own { config.source_vocab } else { config.vocab };
    let table = m.matrix(name)?;
    let mut params = match table {
        None => vec![m.param(name)?],
        Some(_) => vec![],
    };
    let mut ints = vec![m.inputs.ids, m.inputs.past];
    let positions = match config.positions {
        Positions::Learned => {
            params.push(m.param(&m.name("embedding.position"))?);
            embedding::Positions::Learned { max: config.context + config.position_offset }
        }
        Positions::Sinusoidal => embedding::Positions::Sinusoidal,
        Positions::SinusoidalHalved => embedding::Positions::SinusoidalHalved,
        Positions::SinusoidalTensor2tensor => embedding::Positions::SinusoidalTensor2tensor,
        // Told apart inside attention, or not at all.
        Positions::Relative | Positions::Rotary | Positions::Alibi | Positions::None => {
            embedding::Positions::None
        }
    };
    if let Some(segments) = m.inputs.segments {
        ints.push(segments);
        params.push(m.param(&m.name("embedding.segment"))?);
    }
    let scale = if config.scaled_embedding { (config.width as f32).sqrt() } else { 1.0 };
    let op = Embedding::new(m.b, m.t, config.width, vocab, positions, scale)
        .with_offset(config.position_offset)
        .with_segments(config.segments);
    let mut x = match table {
        None => m.push(op, &[], &ints, &params)?,
        Some(table) => m.push_inference(StoredEmbedding::new(op, table), &[], &ints, &params)?,
    };
    if config.embedding_norm {
        let name = m.name("embedding.norm");
        x = norm(m, &name, (x, m.n()))?;
    }
    let x = residual::dropout(m, x)?;
    m.site(Site::Embedding, x);
    Ok(x)
}
