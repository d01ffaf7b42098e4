//! Token ids to vectors, and where they stand.
//!
//! `y[b,t] = scale · wte[id[b,t]] + pos[past[b] + t + offset] + seg[segment[b,t]]`; `pos` is nothing, a learned table,
//! or sines and cosines: `pos[p, 2i] = sin(p / 10000^(2i/C))`, `pos[p, 2i+1] = cos(the same)` (Vaswani et al. 2017,
//! section 3.5), or all sines first ([`Positions`]). `seg` is nothing, or BERT's vectors of token types.
//!
//! Integers: `ids (B, T)`, `past (B)`: positions that come before `t = 0`; `segment (B, T)` where there are some.
//! Parameters: `wte (V, C)`, `wpe (P, C)` when positions are learned, `seg (G, C)`. Output: `y (B, T, C)`. Saved: nothing
//! (0 bytes).

#[cfg(any(test, feature = "cases"))]
mod cases;
mod cpu;
/// The definition.
pub mod reference;
/// The same with a stored table, for inference.
pub mod stored;

#[cfg(any(test, feature = "cases"))]
pub use cases::cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};
use std::sync::OnceLock;

/// What is added to a token's vector to say where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Nothing.
    None,
    /// A learned vector for each of `0..max`.
    Learned {
        /// Positions (`P`).
        max: usize,
    },
    /// Sines and cosines by turns.
    Sinusoidal,
    /// The first half of a row is sines, the second cosines (Marian).
    SinusoidalHalved,
    /// As halved, but with frequencies `10000^(-i / (C/2 - 1))`, whose last is 1/10000 (tensor2tensor, OpenNMT).
    SinusoidalTensor2tensor,
}

impl Positions {
    fn waves(self) -> Option<cpu::Waves> {
        match self {
            Self::None | Self::Learned { .. } => None,
            Self::Sinusoidal => Some(cpu::Waves::Interleaved),
            Self::SinusoidalHalved => Some(cpu::Waves::Halved),
            Self::SinusoidalTensor2tensor => Some(cpu::Waves::Tensor2tensor),
        }
    }

    /// Rows of the learned table; 0 if there is none.
    fn rows(self) -> usize {
        if let Self::Learned { max } = self { max } else { 0 }
    }
}

/// The operation. See the module for shapes.
#[derive(Clone, Debug)]
pub struct Embedding {
    b: usize,
    t: usize,
    c: usize,
    vocab: usize,
    positions: Positions,
    scale: f32,
    /// Added to every position.
    offset: usize,
    /// Segments; 0: none.
    segments: usize,
    /// Sines and cosines of positions `0..T`, computed when first needed; later ones are computed on the spot.
    first: OnceLock<Vec<f32>>,
}

impl Embedding {
    /// `ids (B, T)` into `vocab` vectors of width `C`, multiplied by `scale` (1, or √C as in the paper).
    #[must_use]
    pub fn new(
        b: usize,
        t: usize,
        c: usize,
        vocab: usize,
        positions: Positions,
        scale: f32,
    ) -> Self {
        let (offset, segments) = (0, 0);
        Self { b, t, c, vocab, positions, scale, offset, segments, first: OnceLock::new() }
    }

    /// Adds `offset` to every position (BART and RoBERTa: 2).
    #[must_use]
    pub fn with_offset(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// Adds the vector of each token's segment, of which there are so many; 0: none.
    #[must_use]
    pub fn with_segments(self, segments: usize) -> Self {
        Self { segments, ..self }
    }

    fn dims(&self) -> cpu::Dims {
        cpu::Dims { b: self.b, t: self.t, c: self.c }
    }

    /// What is added to a token's vector; `table` is the learned one.
    fn added<'a>(&'a self, table: &'a [f32]) -> cpu::Pos<'a> {
        match (self.positions, self.positions.waves()) {
            (Positions::Learned { .. }, _) => cpu::Pos::Table(table),
            (_, None) => cpu::Pos::None,
            (_, Some(waves)) => {
                let rows = || waves.rows(self.t + self.offset, self.c);
                cpu::Pos::Sinusoidal(waves, self.first.get_or_init(rows))
            }
        }
    }

    /// Ids and table of the segments, the last of the operands.
    fn segments<'a>(
        &self,
        ints: &[&'a [i32]],
        params: &[&'a [f32]],
    ) -> Result<Option<(&'a [i32], &'a [f32])>> {
        if self.segments == 0 {
            return Ok(None);
        }
        let (ids, table) = (ints[2], params[params.len() - 1]);
        match ids.iter().find(|&&id| id < 0 || id as usize >= self.segments) {
            None => Ok(Some((ids, table))),
            Some(id) => {
                let message = format!("segment {id}; segments are 0..{}", self.segments);
                Err(Error::new(Kind::Input, "embedding", message))
            }
        }
    }

    fn check(&self, ids: &[i32], past: &[i32]) -> Result<()> {
        if let Some(i) = ids.iter().position(|&id| id < 0 || id as usize >= self.vocab) {
            return Err(Error::new(
                Kind::Input,
                "embedding",
                format!(
                    "token id {} at row {}, position {}; ids are 0..{}",
                    ids[i],
                    i / self.t,
                    i % self.t,
                    self.vocab
                ),
            )
            .hint("was the text tokenized with this model's vocabulary?"));
        }
        let max = match self.positions {
            Positions::Learned { max } => max.saturating_sub(self.offset),
            _ => usize::MAX - self.offset,
        };
        for (row, &past) in past.iter().enumerate() {
            if past < 0 || past as usize + self.t > max {
                let end = i64::from(past) + self.t as i64;
                let rule = if past < 0 { 0 } else { max };
                return Err(Error::new(
                    Kind::Input,
                    "embedding",
                    format!(
                        "positions {past}..{end} of row {row}; learned positions are 0..{rule}"
                    ),
                )
                .hint("shorten the text; this model has no vectors for later positions"));
            }
        }
        Ok(())
    }
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![]
    }
    fn ints(&self) -> Vec<usize> {
        let n = self.b * self.t;
        if self.segments > 0 { vec![n, self.b, n] } else { vec![n, self.b] }
    }
    fn params(&self) -> Vec<usize> {
        let rows = [self.vocab, self.positions.rows(), self.segments];
        rows.into_iter().filter(|&rows| rows > 0).map(|rows| rows * self.c).collect()
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.b * self.t * self.c]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn flops(&self) -> (u64, u64) {
        let one = 2 * (self.b * self.t * self.c) as u64;
        (one, one)
    }
    fn looks_up(&self) -> Option<u64> {
        // One row for each token, one for each position, all of the segments.
        let positions = if self.positions.rows() > 0 { self.t } else { 0 };
        Some(((self.b * self.t + positions + self.segments) * self.c) as u64)
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        let (ids, past) = (operands.ints[0], operands.ints[1]);
        self.check(ids, past)?;
        let (c, wte) = (self.c, operands.params[0]);
        let positions = self.added(operands.params.get(1).copied().unwrap_or_default());
        let segments = self.segments(&operands.ints, &operands.params)?;
        let token = |id: usize, y: &mut [f32]| {
            for (y, w) in y.iter_mut().zip(&wte[id * c..][..c]) {
                *y = self.scale * w;
            }
        };
        let y = &mut *operands.outputs[0];
        let past = (past, self.offset);
        cpu::forward(operands.pool, self.dims(), ids, past, &token, positions, segments, y);
        Ok(())
    }
    fn backward(&self, operands: Backward<'_>) -> Result<()> {
        let (ids, past) = (operands.ints[0], operands.ints[1]);
        self.check(ids, past)?;
        let (pool, dims, dy) = (operands.pool, self.dims(), operands.d_outputs[0]);
        let mut d_params = operands.d_params.into_iter();
        if let Some(Some(grad)) = d_params.next() {
            let row = |i: usize| ids[i] as usize;
            cpu::scatter(pool, dims, &row, self.scale, dy, grad.data, grad.accumulate);
        }
        if self.positions.rows() > 0
            && let Some(Some(grad)) = d_params.next()
        {
            let row = |i: usize| past[i / dims.t] as usize + i % dims.t + self.offset;
            cpu::scatter(pool, dims, &row, 1.0, dy, grad.data, grad.accumulate);
        }
        if let Some((segments, _)) = self.segments(&operands.ints, &operands.params)?
            && let Some(Some(grad)) = d_params.next()
        {
            let row = |i: usize| segments[i] as usize;
            cpu::scatter(pool, dims, &row, 1.0, dy, grad.data, grad.accumulate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

// This room does not know tokenizers, models, or that the output head may share `wte`.
