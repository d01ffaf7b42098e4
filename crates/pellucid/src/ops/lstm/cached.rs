//! An LSTM that goes on from where it was: prefill and single steps of generation.

use super::LstmDims;
use super::cpu::{self, Call, Gates, State};
use crate::autograd::{Inference, InferenceOp};
use crate::backend::cpu::gemm::Precision;
use crate::error::{Error, Kind, Result};

/// Reads the new positions of every row, from the states and into them.
///
/// Inputs: x `(B, T, 4C)`. Ints: past `(B)`, positions that each row has read; new `(B)`, how many of the `T`
/// positions are real (the rest is padding on the right: not read, output 0). States: h and c `(B, C)`. Parameter:
/// W `(4C, C)`. Output: h `(B, T, C)`.
///
/// A row whose past is 0 begins with zeros, or with what the states hold if somebody wrote there before
/// (`starts_from_state`). The states are those after the last position read and no other: unlike a cache of keys,
/// they cannot be set back by a smaller past.
///
/// A row's bits do not depend on the other rows or, for `B` up to 8, on how its positions are cut into calls.
#[derive(Clone, Copy, Debug)]
pub struct CachedLstm {
    dims: LstmDims,
    starts_from_state: bool,
    precision: Precision,
}

impl CachedLstm {
    /// `dims.t` positions at a time.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(dims: LstmDims, starts_from_state: bool, precision: Precision) -> Result<Self> {
        dims.check()?;
        Ok(Self { dims, starts_from_state, precision })
    }

    fn check(&self, past: &[i32], new: &[i32]) -> Result<()> {
        let t = self.dims.t;
        let wrong = |(past, new): (&i32, &i32)| *past < 0 || *new < 0 || *new as usize > t;
        match past.iter().zip(new).position(wrong) {
            None => Ok(()),
            Some(b) => {
                let message = "past must not be negative, and new must be in 0..=T";
                let fact = format!("batch row {b}: past {}, new {}, T {t}", past[b], new[b]);
                Err(Error::new(Kind::Input, "lstm", message).fact(fact))
            }
        }
    }
}

impl InferenceOp for CachedLstm {
    fn name(&self) -> &'static str {
        "cached lstm"
    }
    fn inputs(&self) -> Vec<usize> {
        let LstmDims { b, t, c } = self.dims;
        vec![b * t * 4 * c]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.dims.b; 2]
    }
    fn params(&self) -> Vec<usize> {
        vec![4 * self.dims.c * self.dims.c]
    }
    fn outputs(&self) -> Vec<usize> {
        let LstmDims { b, t, c } = self.dims;
        vec![b * t * c]
    }
    fn states(&self) -> Vec<usize> {
        vec![self.dims.b * self.dims.c; 2]
    }
    fn scratch(&self, _threads: usize) -> usize {
        self.dims.b * 4 * self.dims.c + cpu::turned(self.dims)
    }
    fn flops(&self) -> u64 {
        let LstmDims { b, t, c } = self.dims;
        (b * t * c * (8 * c + 13)) as u64
    }

    fn forward(&self, mut x: Inference<'_>) -> Result<()> {
        let (past, new) = (x.ints[0], x.ints[1]);
        self.check(past, new)?;
        let c = self.dims.c;
        if !self.starts_from_state {
            // An idle row keeps its state, whatever it says about its past.
            for row in (0..self.dims.b).filter(|&row| past[row] == 0 && new[row] > 0) {
                x.states.iter_mut().for_each(|state| state[row * c..(row + 1) * c].fill(0.0));
            }
        }
        let call =
            Call { dims: self.dims, lengths: new, reverse: false, precision: self.precision };
        let mut states = x.states.into_iter();
        let [h, c] = std::array::from_fn(|_| states.next().unwrap_or_default());
        let (gates, scratch) = x.scratch.split_at_mut(self.dims.b * 4 * self.dims.c);
        let gates = Gates::Passing(gates);
        let operands = (x.inputs[0], x.params[0]);
        cpu::forward(x.pool, call, operands, State { h, c }, x.outputs[0], gates, scratch);
        Ok(())
    }
}
