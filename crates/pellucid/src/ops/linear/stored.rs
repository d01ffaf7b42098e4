//! [`Linear`](super::Linear) for inference, its matrix in fewer bits: `y = act(x·wᵀ + bias) + residual`.
//!
//! Inputs: `x (N, I)`, and `residual (N, O)`. Parameters: `bias (O)`, if any. Output: `y (N, O)`. The matrix is not a
//! parameter of the tape: the operation holds it, and other tapes may hold the same one.

use super::cpu;
use crate::autograd::{Inference, InferenceOp};
use crate::backend::cpu::gemm::Tile;
use crate::backend::cpu::stored::StoredMatrix;
use crate::error::Result;
use crate::ops::activation::Activation;
use std::sync::Arc;

/// The operation. See the module for shapes.
#[derive(Clone, Debug)]
pub struct StoredLinear {
    /// Rows (`B·T`).
    pub n: usize,
    /// w (O, I).
    pub matrix: Arc<StoredMatrix>,
    /// Whether a bias is added.
    pub bias: bool,
    /// What follows the sum.
    pub activation: Option<Activation>,
    /// Whether a residual is added at last.
    pub residual: bool,
}

impl StoredLinear {
    /// The bare product `x (N, I) · wᵀ`.
    #[must_use]
    pub fn new(n: usize, matrix: Arc<StoredMatrix>) -> Self {
        Self { n, matrix, bias: false, activation: None, residual: false }
    }
}

impl InferenceOp for StoredLinear {
    fn name(&self) -> &'static str {
        "stored linear"
    }
    fn inputs(&self) -> Vec<usize> {
        let (o, i) = self.matrix.shape();
        if self.residual { vec![self.n * i, self.n * o] } else { vec![self.n * i] }
    }
    fn params(&self) -> Vec<usize> {
        if self.bias { vec![self.matrix.shape().0] } else { vec![] }
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n * self.matrix.shape().0]
    }
    fn flops(&self) -> u64 {
        let (o, i) = self.matrix.shape();
        2 * (self.n * i * o) as u64
    }
    fn forward(&self, operands: Inference<'_>) -> Result<()> {
        let dims = cpu::Dims { n: self.n, o: self.matrix.shape().0, activation: self.activation };
        let bias = operands.params.first().copied();
        let residual = operands.inputs.get(1).copied();
        let finish = cpu::Finish::new(dims, bias, &mut [], residual);
        let finish = |tile: Tile<'_>| finish.tile(tile);
        let bare = !self.bias && self.activation.is_none() && !self.residual;
        let finish: Option<&(dyn Fn(Tile<'_>) + Sync)> = if bare { None } else { Some(&finish) };
        let y = operands.outputs.into_iter().next().unwrap_or_default();
        self.matrix.product(operands.pool, self.n, operands.inputs[0], y, finish);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Plan, RunInfo, Session, Tape};
    use crate::backend::cpu::pool::Pool;
    use crate::backend::cpu::stored::{Format, reference};
    use crate::ops::embedding::stored::StoredEmbedding;
    use crate::ops::embedding::{Embedding, Positions};
    use crate::tensor::random::Random;

    /// Looks ids up in one stored matrix and multiplies with another, beside plain f64.
    fn both(
        format: Format,
        rows: usize,
        spoil: &dyn Fn(&mut StoredLinear),
    ) -> (Vec<f32>, Vec<f64>) {
        let (pool, mut random) = (Pool::new(2), Random::new(3, 1));
        let (v, c) = (19, 70);
        let mut normal = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<_>>();
        let table = StoredMatrix::quantise(&pool, format, (v, c), &normal(v * c)).unwrap();
        let square = StoredMatrix::quantise(&pool, format, (c, c), &normal(c * c)).unwrap();
        let params = normal(rows * c + c);
        let (table, square) = (Arc::new(table), Arc::new(square));
        let mut tape = Tape::new();
        let (ids, past) = (tape.ints(rows), tape.ints(1));
        let positions = tape.param("positions", 0..rows * c, true);
        let bias = tape.param("bias", rows * c..rows * c + c, true);
        let plain = Embedding::new(1, rows, c, v, Positions::Learned { max: rows }, 2.0);
        let look = StoredEmbedding::new(plain, Arc::clone(&table));
        let x = tape.push_inference(look, &[], &[ids, past], &[positions], &[]).unwrap()[0];
        let mut op = StoredLinear::new(rows, Arc::clone(&square));
        (op.bias, op.residual, op.activation) = (true, true, Some(Activation::Relu));
        spoil(&mut op);
        let inputs = if op.residual { vec![x, x] } else { vec![x] };
        let biases = if op.bias { vec![bias] } else { vec![] };
        let y = tape.push_inference(op, &inputs, &[], &biases, &[]).unwrap()[0];
        tape.keep(y);
        let mut session = Session::new(Plan::infer(tape, 2).unwrap());
        let chosen: Vec<i32> = (0..rows).map(|i| (i * 7 % v) as i32).collect();
        session.ints_mut(ids).copy_from_slice(&chosen);
        session.run(&pool, &params, None, RunInfo::default()).unwrap();

        let (table, w) = (reference::weights(&table), reference::weights(&square));
        let x: Vec<f32> = (0..rows * c)
            .map(|i| 2.0 * table[chosen[i / c] as usize * c + i % c] + params[i])
            .collect();
        let product = reference::product((rows, c, c), &x, &w);
        let bias = &params[rows * c..];
        let expected = (0..rows * c)
            .map(|i| (product[i] + f64::from(bias[i % c])).max(0.0) + f64::from(x[i]))
            .collect();
        (session.value(y).unwrap().to_vec(), expected)
    }

    fn far((got, expected): (Vec<f32>, Vec<f64>)) -> f64 {
        got.iter().zip(&expected).fold(0.0, |m, (a, b)| {
            let d = (f64::from(*a) - b).abs();
            if d.is_nan() || d > m { d } else { m }
        })
    }

    #[test]
    fn embedding_and_linear_agree_with_plain_arithmetic() {
        for format in [Format::Bf16, Format::Int8, Format::Int4] {
            for rows in [1, 3, 8, 9, 33] {
                // bf16 tiles round x; sums are of 70 terms of size 1 to 3.
                let most = if rows > 8 { 0.3 } else { 3e-3 };
                let error = far(both(format, rows, &|_| {}));
                assert!(error <= most, "{format:?} {rows}: {error}");
                // Deliberately wrong operations.
                type Spoil = (&'static str, fn(&mut StoredLinear));
                let wrong: [Spoil; 3] = [
                    ("no bias", |op| op.bias = false),
                    ("no residual", |op| op.residual = false),
                    ("no activation", |op| op.activation = None),
                ];
                for (name, spoil) in wrong {
                    assert!(far(both(format, rows, &spoil)) > most, "{name} was not caught");
                }
            }
        }
    }
}
