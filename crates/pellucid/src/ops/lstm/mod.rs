//! Reads a sequence one position after another and keeps what matters in a cell, whose gates decide what is
//! written, kept and shown.
//!
//! For batch row `b`, with `h` and `c` of the position read before:
//!
//! ```text
//! (i, f, g, o) = (σ, σ, tanh, σ)(x[t] + W h)       x[t] (4C): the input's share, projected outside
//! c'           = f · c + i · g
//! h'           = o · tanh(c')                      the output at t
//! ```
//!
//! Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997 · forget gates: Gers, Schmidhuber & Cummins,
//! "Learning to Forget", 2000. The order of gates is PyTorch's, whose `weight_hh` is `W`.
//!
//! | op | inputs | ints | parameter | outputs |
//! |---|---|---|---|---|
//! | [`Lstm`] | x `(B, T, 4C)`; h and c `(B, C)` with `initial` | lengths `(B)` with `lengths` | W `(4C, C)` | h `(B, T, C)`; last h and last c `(B, C)` |
//! | [`CachedLstm`] (inference) | x `(B, T, 4C)`; states h and c `(B, C)` | past `(B)`, new `(B)` | W `(4C, C)` | h `(B, T, C)` |
//!
//! `x = input · W_ihᵀ + bias` is an ordinary linear layer over all positions at once; only the product with `h`
//! must wait for the position before. A reversed LSTM starts at each row's last real position. Padding stands at
//! the right: the state passes it unchanged, and the output there is 0.
//!
//! Saved for the backward pass: the four gates, `(B, T, 4C)`, and the cells, `(B, T, C)`: `20 B T C` bytes. It turns
//! them in place into the gates' gradients and the `h` that each position read, so that W's gradient is one product
//! over all positions.
//!
//! Without initial states a row begins with zeros.
//!
//! This room does not know layers, directions joined to one encoder, or where x comes from.

mod cached;
mod cpu;
/// The definition, in plain loops.
#[cfg(any(test, feature = "cases"))]
pub mod reference;

/// Shapes, seeds and deliberately wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;
#[cfg(any(test, feature = "cases"))]
mod faults;
#[cfg(test)]
mod tests;

pub use cached::CachedLstm;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::backend::cpu::gemm::Precision;
use crate::error::{Error, Kind, Result};
use cpu::{Call, Gates, Gradients, Saved, State};

/// Sizes of one layer in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LstmDims {
    /// Batch rows, `B`.
    pub b: usize,
    /// Positions, `T`.
    pub t: usize,
    /// Cells, `C`.
    pub c: usize,
}

impl LstmDims {
    fn check(&self) -> Result<()> {
        let Self { b, t, c } = *self;
        if [b, t, c].contains(&0) {
            let message = "a size is 0; every size must be at least 1";
            return Err(
                Error::new(Kind::Shape, "lstm", message).fact(format!("(B={b}, T={t}, C={c})"))
            );
        }
        Ok(())
    }
}

/// One layer in one direction over whole sequences. See the module for shapes.
#[derive(Clone, Copy, Debug)]
pub struct Lstm {
    /// Sizes.
    pub dims: LstmDims,
    /// Whether rows begin with the states of inputs 1 (h) and 2 (c) instead of zeros.
    pub initial: bool,
    /// Whether integer input 0 says how many positions of each row are real, `0..=T`.
    pub lengths: bool,
    /// From each row's last real position to its first.
    pub reverse: bool,
    /// Of the products with W.
    pub precision: Precision,
}

impl Lstm {
    /// From left to right, from zeros, all positions real, in f32.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(dims: LstmDims) -> Result<Self> {
        dims.check()?;
        let precision = Precision::F32;
        Ok(Self { dims, initial: false, lengths: false, reverse: false, precision })
    }

    fn call<'a>(&self, lengths: &'a [i32]) -> Call<'a> {
        Call { dims: self.dims, lengths, reverse: self.reverse, precision: self.precision }
    }
}

impl Op for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }
    fn inputs(&self) -> Vec<usize> {
        let LstmDims { b, t, c } = self.dims;
        let x = b * t * 4 * c;
        if self.initial { vec![x, b * c, b * c] } else { vec![x] }
    }
    fn ints(&self) -> Vec<usize> {
        if self.lengths { vec![self.dims.b] } else { vec![] }
    }
    fn params(&self) -> Vec<usize> {
        vec![4 * self.dims.c * self.dims.c]
    }
    fn outputs(&self) -> Vec<usize> {
        let LstmDims { b, t, c } = self.dims;
        vec![b * t * c, b * c, b * c]
    }
    fn saved(&self) -> Vec<usize> {
        let LstmDims { b, t, c } = self.dims;
        vec![b * t * 4 * c, b * t * c]
    }
    fn scratch(&self, _threads: usize) -> usize {
        cpu::backward_scratch(self.dims)
    }
    fn needs(&self) -> Needs {
        Needs { inputs: if self.initial { 0b110 } else { 0 }, outputs: 1 }
    }
    fn flops(&self) -> (u64, u64) {
        let LstmDims { b, t, c } = self.dims;
        let (cells, product) = ((b * t * c) as u64, 8 * c as u64);
        // Four sums, five functions, c' and h'; their derivatives.
        (cells * (product + 13), cells * (2 * product + 24))
    }

    fn forward(&self, x: Forward<'_>) -> Result<()> {
        let lengths = x.ints.first().copied().unwrap_or(&[]);
        check_lengths(lengths, self.dims.t)?;
        let mut outputs = x.outputs.into_iter();
        let [y, h, c] = std::array::from_fn(|_| outputs.next().unwrap_or_default());
        if self.initial {
            h.copy_from_slice(x.inputs[1]);
            c.copy_from_slice(x.inputs[2]);
        } else {
            h.fill(0.0);
            c.fill(0.0);
        }
        let mut saved = x.saved.into_iter();
        let [gates, cells] = std::array::from_fn(|_| saved.next().unwrap_or_default());
        let gates = Gates::Kept { gates, cells };
        let call = self.call(lengths);
        let operands = (x.inputs[0], x.params[0]);
        cpu::forward(x.pool, call, operands, State { h, c }, y, gates, x.scratch);
        Ok(())
    }

    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let lengths = x.ints.first().copied().unwrap_or(&[]);
        check_lengths(lengths, self.dims.t)?;
        let mut saved = x.saved.into_iter();
        let [gates, cells] = std::array::from_fn(|_| saved.next().unwrap_or_default());
        let begin = self.initial.then(|| (x.inputs[1], x.inputs[2]));
        let mut grads = x.d_inputs.into_iter();
        let [d_x, d_h, d_c] = std::array::from_fn(|_| grads.next().flatten());
        let d_w = x.d_params[0].take();
        let d_outputs = [x.d_outputs[0], x.d_outputs[1], x.d_outputs[2]];
        let saved = Saved { gates, cells, y: x.outputs[0], begin };
        let gradients = Gradients { x: d_x, h: d_h, c: d_c, w: d_w };
        cpu::backward(
            x.pool,
            self.call(lengths),
            x.params[0],
            saved,
            d_outputs,
            gradients,
            x.scratch,
        );
        Ok(())
    }
}

/// Lengths must be in `0..=t`.
fn check_lengths(lengths: &[i32], t: usize) -> Result<()> {
    match lengths.iter().position(|&l| usize::try_from(l).map_or(true, |l| l > t)) {
        None => Ok(()),
        Some(b) => Err(Error::new(
            Kind::Input,
            "lstm",
            format!("length of batch row {b} is {}, but it must be in 0..={t}", lengths[b]),
        )),
    }
}
