//! A number made of scores: what a run's insides are asked about.
//!
//! ```text
//! y = Σ_i weight_i · f_i        f = x[row, id]                       a score (logit)
//!                               f = x[row, id] - ln Σ_j exp x[row, j]   its log-probability
//! ```
//!
//! x (N, V); output y (1). Terms are listed in a [`Slot`] that the tape and whoever asks share; a logit difference is
//! two terms. Backward, with `g` the scale of the run: `dx[row, id] += g · weight`, and for a log-probability
//! `dx[row, j] -= g · weight · softmax(x[row])[j]`. Saved: nothing. It ends a graph, as a loss does.
//!
//! This room does not know what the scores mean.

pub(crate) use cpu::log_sum_exp;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

/// What is taken of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The score itself.
    Score,
    /// Its log-probability among the row's.
    LogProbability,
}

/// A term of the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// Row of the scores.
    pub row: usize,
    /// Which score of the row.
    pub id: usize,
    /// What is taken of it.
    pub of: Of,
    /// What it is multiplied by.
    pub weight: f32,
}

/// The terms, and each one's value (without its weight) in the last run.
#[derive(Debug, Default)]
pub struct Slot {
    /// What is added up.
    pub terms: Vec<Term>,
    /// Of each term.
    pub values: Vec<f64>,
}

/// A slot that a tape and whoever asks share.
pub type Shared = super::slot::Shared<Slot>;

/// The operation; see the module.
#[derive(Clone, Debug)]
pub struct Objective {
    n: usize,
    v: usize,
    slot: Shared,
}

impl Objective {
    /// Of scores (`n`, `v`).
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(n: usize, v: usize, slot: Shared) -> Result<Self> {
        if n == 0 || v == 0 {
            let message = format!("N = {n}, V = {v}; both must be at least 1");
            return Err(Error::new(Kind::Shape, "objective", message));
        }
        Ok(Self { n, v, slot })
    }

    /// Fills in the values; the sum.
    fn value(&self, x: &[f32]) -> Result<f32> {
        let mut slot = self.slot.lock();
        let Slot { terms, values } = &mut *slot;
        values.clear();
        let mut sum = 0.0;
        for term in &*terms {
            if term.row >= self.n || term.id >= self.v {
                let message = format!("score {} of row {}", term.id, term.row);
                return Err(Error::new(Kind::Input, "objective", message)
                    .fact(format!("there are N = {} rows of V = {}", self.n, self.v)));
            }
            let row = &x[term.row * self.v..][..self.v];
            let value = f64::from(row[term.id])
                - match term.of {
                    Of::Score => 0.0,
                    Of::LogProbability => log_sum_exp(row),
                };
            values.push(value);
            sum += f64::from(term.weight) * value;
        }
        Ok(sum as f32)
    }
}

impl Op for Objective {
    fn name(&self) -> &'static str {
        "objective"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n * self.v]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![1]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn is_loss(&self) -> bool {
        true
    }
    fn forward(&self, mut o: Forward<'_>) -> Result<()> {
        o.outputs[0][0] = self.value(o.inputs[0])?;
        Ok(())
    }
    fn backward(&self, mut o: Backward<'_>) -> Result<()> {
        let x = o.inputs[0];
        o.outputs[0][0] = self.value(x)?;
        let Some(dx) = &mut o.d_inputs[0] else { return Ok(()) };
        if !dx.accumulate {
            dx.data.fill(0.0);
        }
        for term in &self.slot.lock().terms {
            let (weight, at) = (o.run.grad_scale * term.weight, term.row * self.v);
            cpu::gradient(term, weight, &x[at..][..self.v], &mut dx.data[at..][..self.v]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_hold() {
        cases::cases().iter().for_each(|case| case.check().unwrap());
    }

    #[test]
    fn scores_that_do_not_exist_are_refused() {
        let slot = Shared::default();
        slot.lock().terms = vec![Term { row: 0, id: 3, of: Of::Score, weight: 1.0 }];
        let error = Objective::new(1, 3, slot).unwrap().value(&[0.0; 3]).unwrap_err().to_string();
        assert!(error.contains("score 3 of row 0"), "{error}");
        assert!(Objective::new(0, 3, Shared::default()).is_err());
    }
}
