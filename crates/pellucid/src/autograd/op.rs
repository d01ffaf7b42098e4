//! What an operation must offer before the tape will record it.

use crate::backend::cpu::pool::Pool;
use crate::error::Result;
use arrayvec::ArrayVec;
use std::fmt::Debug;

/// The most operands of one sort that an operation may have.
pub const MAX_OPERANDS: usize = 4;

/// A short list of operands.
pub type Operands<T> = ArrayVec<T, MAX_OPERANDS>;

/// Facts about this run that are the same for every operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunInfo {
    /// Whether dropout is on.
    pub training: bool,
    /// Seed of this run's counter-based random numbers.
    pub seed: u64,
    /// Counter that differs for every micro-batch; with `seed` it fixes every dropout mask.
    pub step: u64,
    /// What the loss's gradient is multiplied by (1 / accumulation steps).
    pub grad_scale: f32,
}

/// A gradient to be written.
#[derive(Debug)]
pub struct Grad<'a> {
    /// Where it goes; same shape as what it is the gradient of.
    pub data: &'a mut [f32],
    /// `true`: add to what stands there. `false`: what stands there is rubbish; overwrite all of it.
    pub accumulate: bool,
}

/// Operands of a forward pass. All slices are disjoint.
#[derive(Debug)]
pub struct Forward<'a> {
    /// Threads.
    pub pool: &'a Pool,
    /// Facts about this run.
    pub run: RunInfo,
    /// Inputs, in the order given to `Tape::push`. Empty for the one that [`Op::in_place`] names.
    pub inputs: Operands<&'a [f32]>,
    /// Integer inputs: token ids, targets, positions.
    pub ints: Operands<&'a [i32]>,
    /// Parameters.
    pub params: Operands<&'a [f32]>,
    /// Outputs. The one that [`Op::in_place`] names arrives holding its input.
    pub outputs: Operands<&'a mut [f32]>,
    /// What is kept for the backward pass; rubbish before the forward pass wrote it.
    pub saved: Operands<&'a mut [f32]>,
    /// Working memory of `Op::scratch` elements, rubbish on entry.
    pub scratch: &'a mut [f32],
}

/// Operands of a backward pass. All slices are disjoint.
#[derive(Debug)]
pub struct Backward<'a> {
    /// Threads.
    pub pool: &'a Pool,
    /// Facts about this run, the same as in the forward pass.
    pub run: RunInfo,
    /// Inputs named in [`Needs::inputs`]; the others are empty.
    pub inputs: Operands<&'a [f32]>,
    /// Integer inputs.
    pub ints: Operands<&'a [i32]>,
    /// Parameters.
    pub params: Operands<&'a [f32]>,
    /// Outputs named in [`Needs::outputs`]; the others are empty. Written only by a loss.
    pub outputs: Operands<&'a mut [f32]>,
    /// What the forward pass kept.
    pub saved: Operands<&'a mut [f32]>,
    /// Gradients of the outputs. Empty where [`Op::in_place`] or a loss says so.
    pub d_outputs: Operands<&'a [f32]>,
    /// Gradients of the inputs; `None` where nobody needs one or the tape hands it on ([`Op::residual`]).
    /// For [`Op::in_place`] it arrives holding the output's gradient.
    pub d_inputs: Operands<Option<Grad<'a>>>,
    /// Gradients of the parameters; `None` for a frozen one.
    pub d_params: Operands<Option<Grad<'a>>>,
    /// Working memory of `Op::scratch` elements, rubbish on entry.
    pub scratch: &'a mut [f32],
}

/// Which operands the backward pass reads, as bit sets: bit `i` is operand `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Inputs read by the backward pass.
    pub inputs: u8,
    /// Outputs read by the backward pass.
    pub outputs: u8,
}

/// A differentiable operation: it cannot be written without its backward pass.
///
/// The tape knows no operation by name; everything it must know is asked here.
pub trait Op: Debug + Send + Sync {
    /// The field's standard name.
    fn name(&self) -> &'static str;
    /// Lengths of the inputs, checked when the operation is recorded.
    fn inputs(&self) -> Vec<usize>;
    /// Lengths of the integer inputs.
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    /// Lengths of the parameters.
    fn params(&self) -> Vec<usize> {
        vec![]
    }
    /// Lengths of the outputs.
    fn outputs(&self) -> Vec<usize>;
    /// Lengths of what is saved for the backward pass.
    fn saved(&self) -> Vec<usize> {
        vec![]
    }
    /// Elements of working memory with `threads` threads.
    fn scratch(&self, threads: usize) -> usize {
        let _ = threads;
        0
    }
    /// What the backward pass reads.
    fn needs(&self) -> Needs;
    /// `(input, output)`: the output takes over the input's memory, and the input's gradient the output's.
    /// The backward pass may then read neither of the two values.
    fn in_place(&self) -> Option<(usize, usize)> {
        None
    }
    /// `(input, output)`: the input is added to the output unchanged, so the gradient passes unchanged;
    /// the tape hands it on without a copy.
    fn residual(&self) -> Option<(usize, usize)> {
        None
    }
    /// A loss: it ends the graph (output 0 has one element), is given no `d_outputs`, and when training its
    /// forward pass is skipped: the backward pass computes output *and* gradients in one sweep.
    fn is_loss(&self) -> bool {
        false
    }
    /// Whether recomputing the outputs from inputs and saved values is cheap beside storing them.
    fn cheap(&self) -> bool {
        false
    }
    /// Inputs that [`Op::recompute`] reads, as a bit set.
    fn recompute_inputs(&self) -> u8 {
        u8::MAX
    }
    /// Writes the outputs again from inputs and saved values, to the same bits as the forward pass.
    fn recompute(&self, operands: Forward<'_>) -> Result<()> {
        self.forward(operands)
    }
    /// Operations of the definition, `(forward, backward)`: a multiply-add is two, a function such as exp one;
    /// attention counts its products alone. All gradients are taken to be wanted.
    fn flops(&self) -> (u64, u64) {
        (0, 0)
    }
    /// Operations of [`Op::recompute`].
    fn recompute_flops(&self) -> u64 {
        self.flops().0
    }
    /// A lookup: elements of its parameters that one pass touches, fewer than all. Its backward pass reads none.
    fn looks_up(&self) -> Option<u64> {
        None
    }
    /// Outputs from inputs.
    fn forward(&self, operands: Forward<'_>) -> Result<()>;
    /// Gradients of inputs and parameters from gradients of outputs.
    fn backward(&self, operands: Backward<'_>) -> Result<()>;
}

/// Operands of an operation that exists only for inference.
#[derive(Debug)]
pub struct Inference<'a> {
    /// Threads.
    pub pool: &'a Pool,
    /// Inputs.
    pub inputs: Operands<&'a [f32]>,
    /// Integer inputs.
    pub ints: Operands<&'a [i32]>,
    /// Parameters.
    pub params: Operands<&'a [f32]>,
    /// Outputs.
    pub outputs: Operands<&'a mut [f32]>,
    /// Memory that outlives the run, such as a KV cache.
    pub states: Operands<&'a mut [f32]>,
    /// Working memory of `scratch` elements, rubbish on entry.
    pub scratch: &'a mut [f32],
}

/// An operation without a backward pass. A tape that trains refuses it.
pub trait InferenceOp: Debug + Send + Sync {
    /// The field's standard name.
    fn name(&self) -> &'static str;
    /// Lengths of the inputs.
    fn inputs(&self) -> Vec<usize>;
    /// Lengths of the integer inputs.
    fn ints(&self) -> Vec<usize> {
        vec![]
    }
    /// Lengths of the parameters.
    fn params(&self) -> Vec<usize> {
        vec![]
    }
    /// Lengths of the outputs.
    fn outputs(&self) -> Vec<usize>;
    /// Lengths of the states.
    fn states(&self) -> Vec<usize> {
        vec![]
    }
    /// Elements of working memory with `threads` threads.
    fn scratch(&self, threads: usize) -> usize {
        let _ = threads;
        0
    }
    /// Multiply-adds count as two.
    fn flops(&self) -> u64 {
        0
    }
    /// Outputs from inputs and states.
    fn forward(&self, operands: Inference<'_>) -> Result<()>;
}
