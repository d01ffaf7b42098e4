//! Each position of a decoder asks (q), every position of a source answers (k), and a small network scores how well
//! the two fit; what comes back is the weighted mean of what the source's positions say.
//!
//! For batch row `b`, query `t`, source position `s` below the row's length:
//!
//! ```text
//! score[t, s] = Σ_i v[i] tanh(q[t, i] + k[s, i])
//! P[t, s]     = exp(score[t, s]) / Σ_s' exp(score[t, s'])      0 from the length on
//! out[t, j]   = Σ_s P[t, s] values[s, j]
//! ```
//!
//! Bahdanau, Cho & Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015. There
//! the state *before* a step asks, and what comes back goes into that step. Here the state *of* the step asks, and
//! what comes back goes into its prediction (Luong, Pham & Manning, "Effective Approaches to Attention-based Neural
//! Machine Translation", 2015), so that all positions of a sequence are computed at once in training.
//!
//! | op | inputs | ints | parameter | output |
//! |---|---|---|---|---|
//! | [`AdditiveAttention`] | q `(B, T, C)`; k `(B, S, C)`; values `(B, S, E)` | lengths `(B)` | v `(C)` | `(B, T, E)` |
//! | [`RememberedAdditive`] (inference) | q; states k, values | lengths `(B)` | v `(C)` | `(B, T, E)` |
//!
//! q and k are projections (`W s + b` and `U h` of the paper), made by ordinary linear layers; values are commonly
//! what the encoder made, as it is.
//!
//! Saved for the backward pass: `P (B, T, S)`, `4 B T S` bytes. The tanh are computed again: there are `B T S C`.
//!
//! A source of length 0 gives 0 and takes no gradient.
//!
//! This room does not know layers, recurrence, or who asks for the result.

mod cpu;
/// The definition, in plain loops.
#[cfg(any(test, feature = "cases"))]
pub mod reference;
mod remembered;

/// Shapes, seeds and deliberately wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;
#[cfg(any(test, feature = "cases"))]
mod faults;
#[cfg(test)]
mod tests;

pub use remembered::RememberedAdditive;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};
use cpu::Call;

/// Sizes of one additive attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdditiveDims {
    /// Batch rows, `B`.
    pub b: usize,
    /// Query positions, `T`.
    pub t: usize,
    /// Source positions, `S`.
    pub s: usize,
    /// Width of the scoring network, `C`.
    pub c: usize,
    /// Width of the values, `E`.
    pub e: usize,
}

impl AdditiveDims {
    fn check(&self) -> Result<()> {
        let Self { b, t, s, c, e } = *self;
        if [b, t, s, c, e].contains(&0) {
            let message = "a size is 0; every size must be at least 1";
            return Err(Error::new(Kind::Shape, "additive attention", message)
                .fact(format!("(B={b}, T={t}, S={s}, C={c}, E={e})")));
        }
        Ok(())
    }

    /// Lengths of q, k and values.
    fn operands(&self) -> [usize; 3] {
        let Self { b, t, s, c, e } = *self;
        [b * t * c, b * s * c, b * s * e]
    }

    /// Operations of the forward pass.
    fn flops(&self) -> u64 {
        let Self { b, t, s, c, e } = *self;
        // Sum, tanh, multiply-add; multiply-add.
        (b * t * s * (4 * c + 2 * e)) as u64
    }

    /// Lengths must be in `0..=s`.
    fn check_lengths(&self, lengths: &[i32]) -> Result<()> {
        let wrong = |&l: &i32| usize::try_from(l).map_or(true, |l| l > self.s);
        match lengths.iter().position(wrong) {
            None => Ok(()),
            Some(b) => Err(Error::new(
                Kind::Input,
                "additive attention",
                format!("length of source {b} is {}, but it must be in 0..={}", lengths[b], self.s),
            )),
        }
    }
}

/// Attention of whole sequences. See the module for shapes.
#[derive(Clone, Copy, Debug)]
pub struct AdditiveAttention {
    dims: AdditiveDims,
}

impl AdditiveAttention {
    /// Any `T` and `S`.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(dims: AdditiveDims) -> Result<Self> {
        dims.check()?;
        Ok(Self { dims })
    }

    /// The probabilities `(B, T, S)`, for looking inside; operands as the forward pass is given them.
    ///
    /// # Errors
    /// Operands or lengths that do not fit.
    pub fn pattern(
        &self,
        pool: &crate::backend::cpu::pool::Pool,
        (q, k, v): (&[f32], &[f32], &[f32]),
        lengths: &[i32],
    ) -> Result<Vec<f32>> {
        let AdditiveDims { b, t, s, c, .. } = self.dims;
        let ([q_len, k_len, _], lens) =
            (self.dims.operands(), [q.len(), k.len(), v.len(), lengths.len()]);
        if lens != [q_len, k_len, c, b] {
            let message = format!(
                "q, k, v and lengths have {lens:?} elements, but {:?} fit",
                [q_len, k_len, c, b]
            );
            return Err(Error::new(Kind::Shape, "additive attention", message));
        }
        self.dims.check_lengths(lengths)?;
        let mut p = vec![0.0; b * t * s];
        cpu::probabilities(pool, Call { dims: self.dims, lengths, q, k, values: &[], v }, &mut p);
        Ok(p)
    }
}

impl Op for AdditiveAttention {
    fn name(&self) -> &'static str {
        "additive attention"
    }
    fn inputs(&self) -> Vec<usize> {
        self.dims.operands().to_vec()
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.dims.b]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.dims.c]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.dims.b * self.dims.t * self.dims.e]
    }
    fn saved(&self) -> Vec<usize> {
        vec![self.dims.b * self.dims.t * self.dims.s]
    }
    fn scratch(&self, _threads: usize) -> usize {
        cpu::backward_scratch(&self.dims)
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 0b111, outputs: 0 }
    }
    fn flops(&self) -> (u64, u64) {
        let AdditiveDims { b, t, s, c, e } = self.dims;
        // Sum, tanh, slope (3), du (1), its three sums (1 + 1 + 2); two multiply-adds for P and values.
        (self.dims.flops(), (b * t * s * (10 * c + 4 * e)) as u64)
    }

    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        self.dims.check_lengths(x.ints[0])?;
        let [q, k, values] = [x.inputs[0], x.inputs[1], x.inputs[2]];
        let call = Call { dims: self.dims, lengths: x.ints[0], q, k, values, v: x.params[0] };
        cpu::forward(x.pool, call, x.outputs[0], &mut *x.saved[0]);
        Ok(())
    }

    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        self.dims.check_lengths(x.ints[0])?;
        let [q, k, values] = [x.inputs[0], x.inputs[1], x.inputs[2]];
        let call = Call { dims: self.dims, lengths: x.ints[0], q, k, values, v: x.params[0] };
        let mut d = x.d_inputs.into_iter();
        let [d_q, d_k, d_values] = std::array::from_fn(|_| d.next().flatten());
        let d_v = x.d_params[0].take();
        let gradients = cpu::Gradients { q: d_q, k: d_k, values: d_values, v: d_v };
        cpu::backward(x.pool, call, (x.saved[0], x.d_outputs[0]), gradients, x.scratch);
        Ok(())
    }
}
