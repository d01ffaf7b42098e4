//! Ids to vectors.

use super::builder::Builder;
use super::config::Positions;
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
    let table = m.matrix("embedding.token")?;
    let mut params = match table {
        None => vec![m.param("embedding.token")?],
        Some(_) => vec![],
    };
    let positions = match config.positions {
        Positions::Learned => {
            params.push(m.param("embedding.position")?);
            embedding::Positions::Learned { max: config.context }
        }
        Positions::Sinusoidal => embedding::Positions::Sinusoidal,
        // Told apart inside attention, or not at all.
        Positions::SinusoidalHalved
        | Positions::SinusoidalTensor2tensor
        | Positions::Relative
        | Positions::Rotary
        | Positions::Alibi
        | Positions::None => embedding::Positions::None,
    };
    let scale = if config.scaled_embedding { (config.width as f32).sqrt() } else { 1.0 };
    let op = Embedding::new(m.b, m.t, config.width, config.vocab, positions, scale);
    let ints = [m.inputs.ids, m.inputs.past];
    let x = match table {
        None => m.push(op, &[], &ints, &params)?,
        Some(table) => m.push_inference(StoredEmbedding::new(op, table), &[], &ints, &params)?,
    };
    let x = residual::dropout(m, x)?;
    m.site(Site::Embedding, x);
    Ok(x)
}
