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
//! memory `4·(rows·(columns + 6) + ¾·N·(2·C + 2))` bytes. In training one sweep computes loss and gradients (Horace He's and Liger's
//! trick): logits turn into their own gradient in place. With a large vocabulary even a few rows of logits are
//! large, and each chunk of rows would read `w` and its gradient anew. Logits then exist for some columns at a time:
//! a first sweep finds each row's log-sum-exp (added up as FlashAttention does), a second one computes the logits
//! again and their gradient with them. A fourth product more, and `w` is read twice and its gradient written once.
//! Where at most three rows in four count, those are moved side by side first, and nothing is computed of the others.

#[cfg(any(test, feature = "cases"))]
mod cases;
mod cpu;
mod gather;
/// The definition.
pub mod reference;
mod sweep;

#[cfg(any(test, feature = "cases"))]
pub use cases::cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use sweep::{Gradients, Sweep};

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
    pub rows: usize,
    /// Columns (tokens of the vocabulary) whose logits exist at one time.
    pub columns: usize,
    /// Of the three matrix products.
    pub precision: Precision,
}

/// Rows whose logits exist at one time, and columns: all of them up to 26 MB, else 8 MB, which stay in cache.
fn chunk(n: usize, v: usize) -> (usize, usize) {
    let rows = n.next_multiple_of(32).clamp(32, 1024);
    if 4 * rows * v <= 26 << 20 { (rows, v) } else { (rows, (8 << 20) / (4 * rows)) }
}

impl LinearCrossEntropy {
    /// Plain cross-entropy in f32: no smoothing, no z-loss, no bias, `ignore = -100`.
    #[must_use]
    pub fn new(n: usize, c: usize, v: usize) -> Self {
        let (rows, columns) = chunk(n, v);
        Self {
            n,
            c,
            v,
            bias: false,
            smoothing: 0.0,
            z_loss: 0.0,
            ignore: -100,
            rows,
            columns,
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
}

type Read<'a> = (&'a [f32], &'a [&'a [f32]], &'a [i32]);

impl LinearCrossEntropy {
    /// Losses of all rows, of which `count` count, and with `scale` gradients times it.
    fn sweep(
        &self,
        pool: &Pool,
        (x, params, targets): Read<'_>,
        count: usize,
        (losses, scratch): (&mut [f32], &mut [f32]),
        scale: Option<f32>,
        gradients: Gradients<'_>,
    ) {
        if gather::worth(self.n, count) {
            let read = (x, params, targets);
            return gather::run(self, pool, read, count, (losses, scratch), scale, gradients);
        }
        let sweep = Sweep::new(self, pool, x, params, targets);
        sweep.run(losses, scratch, scale, gradients);
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
        let chunk = self.rows.min(self.n) * (self.columns.min(self.v) + cpu::STATE);
        chunk + gather::scratch(self)
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn is_loss(&self) -> bool {
        true
    }
    fn flops(&self) -> (u64, u64) {
        // Logits; then dx and dw. Neither logits that are computed again count, nor what is done to each.
        let one = 2 * (self.n * self.c * self.v) as u64;
        (one, 2 * one)
    }

    fn forward(&self, operands: Forward<'_>) -> Result<()> {
        let count = self.check(operands.ints[0])?;
        let mut outputs = operands.outputs.into_iter();
        let (Some(loss), Some(losses)) = (outputs.next(), outputs.next()) else {
            unreachable!("the tape gives both outputs")
        };
        let (x, params) = (operands.inputs[0], &operands.params);
        let read = (x, &**params, operands.ints[0]);
        let write = (&mut *losses, operands.scratch);
        self.sweep(operands.pool, read, count, write, None, Gradients::default());
        loss[0] = mean(losses, count);
        Ok(())
    }

    fn backward(&self, operands: Backward<'_>) -> Result<()> {
        let count = self.check(operands.ints[0])?;
        let mut outputs = operands.outputs.into_iter();
        let (Some(loss), Some(losses)) = (outputs.next(), outputs.next()) else {
            unreachable!("the tape gives both outputs")
        };
        let mut d_params = operands.d_params.into_iter();
        let gradients = Gradients {
            dx: operands.d_inputs.into_iter().next().flatten(),
            dw: d_params.next().flatten(),
            db: d_params.next().flatten(),
        };
        let scale = operands.run.grad_scale / count.max(1) as f32;
        let (x, params) = (operands.inputs[0], &operands.params);
        let read = (x, &**params, operands.ints[0]);
        let write = (&mut *losses, operands.scratch);
        self.sweep(operands.pool, read, count, write, Some(scale), gradients);
        loss[0] = mean(losses, count);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

// This room does not know batches, text, or that `w` may be the embedding's table.
