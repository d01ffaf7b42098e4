//! The last projection and the loss in one: logits exist for a chunk of rows at a time and are never kept.
//!
//! With `z = x·wᵀ (+ bias)` and `lse = ln Σ e^z`, row `i` with target `y` costs
//! `loss_i = lse - (1-ε)·z_y - ε·mean(z) + ζ·lse²`: cross-entropy with label smoothing `ε` (Szegedy et al. 2016,
//! as PyTorch defines it) and the z-loss `ζ` (PaLM, 2022). The loss is the mean over rows whose target is not
//! `ignore`; with none left it is 0 and so are all gradients.
//! `dz = ((1 + 2ζ·lse)·softmax(z) - (1-ε)·onehot(y) - ε/V) · grad_scale / rows that count`.
//!
//! Input: `x (N, C)`. Parameters: `w (V, C)`, and `bias (V)`. Integers: `targets (N)`. Outputs: `loss (1)`, the
//! mean, and `losses (N)`, each row's (0 where ignored; carries no gradient). Saved: nothing (0 bytes); working
//! memory `4·chunk·V` bytes. In training one sweep computes loss and gradients (Horace He's and Liger's trick):
//! the logits of a chunk turn into their own gradient in place.

#[cfg(any(test, feature = "cases"))]
mod cases;
mod cpu;
/// The definition.
pub mod reference;

#[cfg(any(test, feature = "cases"))]
pub use cases::cases;

use crate::autograd::{Backward, Forward, Grad, Needs, Op};
use crate::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm};
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// The operation. See the module for shapes and the meaning of `smoothing` and `z_loss`.
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy {
    /// Rows (`B·T`).
    pub n: usize,
    /// Width.
    pub c: usize,
    /// Vocabulary.
    pub v: usize,
    /// Whether logits have a bias.
    pub bias: bool,
    /// Label smoothing, `0..1`.
    pub smoothing: f32,
    /// Weight of the squared log-sum-exp.
    pub z_loss: f32,
    /// The target that excludes its row.
    pub ignore: i32,
    /// Rows whose logits exist at one time.
    pub chunk: usize,
    /// Of the three matrix products.
    pub precision: Precision,
}

/// Rows whose logits take about 26 MB: few enough for the caches, many enough to reread `w` rarely.
fn chunk_rows(n: usize, v: usize) -> usize {
    let rows = (26 << 20) / (4 * v.max(1));
    (rows / 32 * 32).clamp(32, 1024).min(n.next_multiple_of(32))
}

/// The rows of one chunk and what is common to all.
struct Sweep<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    targets: &'a [i32],
}

impl LinearCrossEntropy {
    /// Plain cross-entropy in f32: no smoothing, no z-loss, no bias, `ignore = -100`.
    #[must_use]
    pub fn new(n: usize, c: usize, v: usize) -> Self {
        Self {
            n,
            c,
            v,
            bias: false,
            smoothing: 0.0,
            z_loss: 0.0,
            ignore: -100,
            chunk: chunk_rows(n, v),
            precision: Precision::F32,
        }
    }

    /// The number of rows that count.
    fn check(&self, targets: &[i32]) -> Result<usize> {
        let wrong = |t: i32| t != self.ignore && (t < 0 || t as usize >= self.v);
        if let Some(row) = targets.iter().position(|&t| wrong(t)) {
            return Err(Error::new(
                Kind::Input,
                "cross-entropy",
                format!(
                    "target {} at row {row}; targets are 0..{}, or {} to leave a row out",
                    targets[row], self.v, self.ignore
                ),
            )
            .hint("was the text tokenized with this model's vocabulary?"));
        }
        Ok(targets.iter().filter(|&&t| t != self.ignore).count())
    }

    /// Chunks of rows in which at least one row counts, and the others.
    fn chunks<'a>(&'a self, targets: &'a [i32]) -> impl Iterator<Item = (Range<usize>, bool)> + 'a {
        (0..self.n).step_by(self.chunk.max(1)).map(move |start| {
            let rows = start..(start + self.chunk.max(1)).min(self.n);
            let counts = targets[rows.clone()].iter().any(|&t| t != self.ignore);
            (rows, counts)
        })
    }

    /// Logits `(rows, V)` of one chunk.
    fn logits(&self, sweep: &Sweep<'_>, rows: &Range<usize>, z: &mut [f32]) {
        let (c, v) = (self.c, self.v);
        let dims = GemmDims { m: rows.len(), n: v, k: c };
        let x = Mat { data: &sweep.x[rows.start * c..rows.end * c], row_stride: c, col_stride: 1 };
        let w = Mat { data: sweep.w, row_stride: 1, col_stride: c };
        match sweep.bias {
            None => gemm(sweep.pool, self.precision, dims, x, w, z, v, false, None),
            Some(bias) => gemm(
                sweep.pool,
                self.precision,
                dims,
                x,
                w,
                z,
                v,
                false,
                Some(&|mut tile| {
                    for i in 0..tile.rows.len() {
                        let cols = tile.cols.clone();
                        cpu::add(tile.row_mut(i), &bias[cols]);
                    }
                }),
            ),
        }
    }

    /// Losses of one chunk; with `scale`, logits become their gradient times `scale`.
    fn losses(
        &self,
        sweep: &Sweep<'_>,
        rows: &Range<usize>,
        z: &mut [f32],
        losses: &mut [f32],
        scale: Option<f32>,
    ) {
        let loss = cpu::Loss {
            v: self.v,
            smoothing: self.smoothing,
            z_loss: self.z_loss,
            ignore: self.ignore,
            scale,
        };
        loss.rows(sweep.pool, &sweep.targets[rows.clone()], z, &mut losses[rows.clone()]);
    }

    /// What one chunk's `dz (rows, V)` gives to each gradient that is wanted.
    fn gradients(
        &self,
        sweep: &Sweep<'_>,
        rows: &Range<usize>,
        dz: &[f32],
        dx: &mut Option<Grad<'_>>,
        dw: &mut Option<Grad<'_>>,
        db: &mut Option<Grad<'_>>,
    ) {
        let (m, c, v) = (rows.len(), self.c, self.v);
        let at = rows.start * c..rows.end * c;
        if let Some(Grad { data, accumulate }) = dx {
            let dz = Mat { data: dz, row_stride: v, col_stride: 1 };
            let w = Mat { data: sweep.w, row_stride: c, col_stride: 1 };
            let dims = GemmDims { m, n: c, k: v };
            let dx = &mut data[at.clone()];
            gemm(sweep.pool, self.precision, dims, dz, w, dx, c, *accumulate, None);
        }
        if let Some(Grad { data, accumulate }) = dw {
            let dz = Mat { data: dz, row_stride: 1, col_stride: v };
            let x = Mat { data: &sweep.x[at], row_stride: c, col_stride: 1 };
            let dims = GemmDims { m: v, n: c, k: m };
            gemm(sweep.pool, self.precision, dims, dz, x, data, c, *accumulate, None);
            *accumulate = true;
        }
        if let Some(Grad { data, accumulate }) = db {
            cpu::column_sums(sweep.pool, dz, data, *accumulate);
            *accumulate = true;
        }
    }
}

/// Mean over `count` rows, added up in f64 in their order.
fn mean(losses: &[f32], count: usize) -> f32 {
    let sum: f64 = losses.iter().map(|&l| f64::from(l)).sum();
    (sum / count.max(1) as f64) as f32
}

impl Op for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n * self.c]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn params(&self) -> Vec<usize> {
        if self.bias { vec![self.v * self.c, self.v] } else { vec![self.v * self.c] }
    }
    fn outputs(&self) -> Vec<usize> {
        vec![1, self.n]
    }
    fn scratch(&self, _threads: usize) -> usize {
        self.chunk.min(self.n) * self.v
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn is_loss(&self) -> bool {
        true
    }
    fn flops(&self) -> (u64, u64) {
        // Logits; then dx and dw. The few operations of each logit are not counted.
        let one = 2 * (self.n * self.c * self.v) as u64;
        (one, 2 * one)
    }

    fn forward(&self, operands: Forward<'_>) -> Result<()> {
        let targets = operands.ints[0];
        let count = self.check(targets)?;
        let sweep = Sweep {
            pool: operands.pool,
            x: operands.inputs[0],
            w: operands.params[0],
            bias: operands.params.get(1).copied(),
            targets,
        };
        let mut outputs = operands.outputs.into_iter();
        let (Some(loss), Some(losses)) = (outputs.next(), outputs.next()) else {
            unreachable!("the tape gives both outputs")
        };
        for (rows, counts) in self.chunks(targets) {
            if counts {
                let z = &mut operands.scratch[..rows.len() * self.v];
                self.logits(&sweep, &rows, z);
                self.losses(&sweep, &rows, z, losses, None);
            } else {
                losses[rows].fill(0.0);
            }
        }
        loss[0] = mean(losses, count);
        Ok(())
    }

    fn backward(&self, operands: Backward<'_>) -> Result<()> {
        let (targets, c, v) = (operands.ints[0], self.c, self.v);
        let count = self.check(targets)?;
        let sweep = Sweep {
            pool: operands.pool,
            x: operands.inputs[0],
            w: operands.params[0],
            bias: operands.params.get(1).copied(),
            targets,
        };
        let mut outputs = operands.outputs.into_iter();
        let (Some(loss), Some(losses)) = (outputs.next(), outputs.next()) else {
            unreachable!("the tape gives both outputs")
        };
        let mut dx = operands.d_inputs.into_iter().next().flatten();
        let mut d_params = operands.d_params.into_iter();
        let (mut dw, mut db) = (d_params.next().flatten(), d_params.next().flatten());
        let scale = operands.run.grad_scale / count.max(1) as f32;
        for (rows, counts) in self.chunks(targets) {
            if !counts {
                losses[rows.clone()].fill(0.0);
                if let Some(Grad { data, accumulate: false }) = &mut dx {
                    data[rows.start * c..rows.end * c].fill(0.0);
                }
                continue;
            }
            let z = &mut operands.scratch[..rows.len() * v];
            self.logits(&sweep, &rows, z);
            self.losses(&sweep, &rows, z, losses, Some(scale));
            self.gradients(&sweep, &rows, z, &mut dx, &mut dw, &mut db);
        }
        // Nothing counted: what stands in a fresh gradient is still rubbish.
        for grad in [dw, db].into_iter().flatten().filter(|g| !g.accumulate) {
            grad.data.fill(0.0);
        }
        loss[0] = mean(losses, count);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

// This room does not know batches, text, or that `w` may be the embedding's table.
