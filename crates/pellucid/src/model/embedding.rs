//! Ids to vectors.

use super::builder::Builder;
use super::config::Positions;
use super::norm::norm;
use super::residual;
use super::site::Part;
use crate::autograd::{Ints, Param, Value};
use crate::backend::cpu::stored::StoredMatrix;
use crate::error::Result;
use crate::ops::embedding::stored::StoredEmbedding;
use crate::ops::embedding::{self, Embedding};
use crate::ops::residual::Residual;
use std::sync::Arc;

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
    let whole = Sum { vocab, positions, scale, segments: config.segments };
    let mut x = if m.wants(Part::Embed, 0) || m.wants(Part::PosEmbed, 0) {
        in_parts(m, &whole, &table, &ints, &params)?
    } else {
        look_up(m, &whole, &table, &ints, &params)?
    };
    if config.embedding_norm {
        let name = m.name("embedding.norm");
        x = norm(m, &name, (x, m.n()))?;
    }
    residual::dropout(m, x)
}

/// What is added up for each token.
#[derive(Clone, Copy)]
struct Sum {
    vocab: usize,
    positions: embedding::Positions,
    scale: f32,
    segments: usize,
}

/// The sum in one pass. `table` holds the tokens' vectors where they are stored; parameters are those of the tokens
/// where they are not, of positions and of segments.
fn look_up(
    m: &mut Builder<'_>,
    sum: &Sum,
    table: &Option<Arc<StoredMatrix>>,
    ints: &[Ints],
    params: &[Param],
) -> Result<Value> {
    let Sum { vocab, positions, scale, segments } = *sum;
    let op = Embedding::new(m.b, m.t, m.config.width, vocab, positions, scale)
        .with_offset(m.config.position_offset)
        .with_segments(segments);
    match table {
        None => m.push(op, &[], ints, params),
        Some(table) => {
            let op = StoredEmbedding::new(op, Arc::clone(table));
            m.push_inference(op, &[], ints, params)
        }
    }
}

/// The sum term by term, to the same bits: a term is the sum with the tokens' vectors times 0.
fn in_parts(
    m: &mut Builder<'_>,
    whole: &Sum,
    table: &Option<Arc<StoredMatrix>>,
    ints: &[Ints],
    params: &[Param],
) -> Result<Value> {
    let none = Sum { positions: embedding::Positions::None, segments: 0, ..*whole };
    let own = params.len().min(usize::from(table.is_none()));
    let (token, rest) = params.split_at(own);
    let x = look_up(m, &none, table, &ints[..2], token)?;
    let mut x = m.tap(Part::Embed, 0, x)?;
    let n = m.tape.len(x);
    let learned = usize::from(matches!(whole.positions, embedding::Positions::Learned { .. }));
    if whole.positions != embedding::Positions::None {
        let sum = Sum { positions: whole.positions, scale: 0.0, ..none };
        let these = [token, &rest[..learned]].concat();
        let p = look_up(m, &sum, table, &ints[..2], &these)?;
        let p = m.tap(Part::PosEmbed, 0, p)?;
        x = m.push(Residual::new(n)?, &[x, p], &[], &[])?;
    }
    if whole.segments > 0 {
        let sum = Sum { segments: whole.segments, scale: 0.0, ..none };
        let these = [token, &rest[learned..]].concat();
        let s = look_up(m, &sum, table, ints, &these)?;
        x = m.push(Residual::new(n)?, &[x, s], &[], &[])?;
    }
    Ok(x)
}
