//! [`Embedding`] for inference, its table in fewer bits: a row becomes f32 when it is looked up.
//!
//! Integers and parameters as there, but for the first of these. Output: `y (B, T, C)`.
//! The table is not a parameter of the tape: the operation holds it, and the head may hold the same one.

use super::{Embedding, cpu};
use crate::autograd::{Inference, InferenceOp, Op};
use crate::backend::cpu::stored::StoredMatrix;
use crate::error::{Error, Kind, Result};
use std::sync::Arc;

/// The operation. See the module for shapes.
#[derive(Clone, Debug)]
pub struct StoredEmbedding {
    plain: Embedding,
    table: Arc<StoredMatrix>,
}

impl StoredEmbedding {
    /// What `plain` does, with another table (V, C).
    #[must_use]
    pub fn new(plain: Embedding, table: Arc<StoredMatrix>) -> Self {
        Self { plain, table }
    }
}

impl InferenceOp for StoredEmbedding {
    fn name(&self) -> &'static str {
        "stored embedding"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![]
    }
    fn ints(&self) -> Vec<usize> {
        self.plain.ints()
    }
    fn params(&self) -> Vec<usize> {
        self.plain.params().split_off(1)
    }
    fn outputs(&self) -> Vec<usize> {
        self.plain.outputs()
    }
    fn forward(&self, mut operands: Inference<'_>) -> Result<()> {
        let (ids, past) = (operands.ints[0], operands.ints[1]);
        let plain = &self.plain;
        if self.table.shape() != (plain.vocab, plain.c) {
            let message = format!(
                "the table is {:?}, not ({}, {})",
                self.table.shape(),
                plain.vocab,
                plain.c
            );
            return Err(Error::new(Kind::Shape, "embedding", message));
        }
        plain.check(ids, past)?;
        let token = |id: usize, y: &mut [f32]| {
            self.table.dequantise(id, y);
            if plain.scale != 1.0 {
                y.iter_mut().for_each(|y| *y *= plain.scale);
            }
        };
        let positions = plain.added(operands.params.first().copied().unwrap_or_default());
        let y = &mut *operands.outputs[0];
        let segments = plain.segments(&operands.ints, &operands.params)?;
        let past = (past, plain.offset);
        cpu::forward(operands.pool, plain.dims(), ids, past, &token, positions, segments, y);
        Ok(())
    }
}
