//! A right operation with one thing spoiled: a wrong kernel to try the harness on.

use crate::autograd::{Backward, Forward, Grad, Needs, Op};
use crate::error::Result;
use std::fmt;

type OnForward = Box<dyn Fn(&mut Forward<'_>) + Send + Sync>;
type OnBackward = Box<dyn Fn(&mut Backward<'_>) + Send + Sync>;

enum Fault {
    ForwardBegins(OnForward),
    ForwardDone(OnForward),
    BackwardBegins(OnBackward),
    BackwardDone(OnBackward),
}

/// Wraps a right operation and spoils it.
pub struct Spoil {
    right: Box<dyn Op>,
    fault: Fault,
}

impl Spoil {
    /// Before the forward pass, changes what it is given.
    pub fn forward_begins(
        right: impl Op + 'static,
        f: impl Fn(&mut Forward<'_>) + Send + Sync + 'static,
    ) -> Box<dyn Op> {
        Box::new(Self { right: Box::new(right), fault: Fault::ForwardBegins(Box::new(f)) })
    }

    /// After the forward pass, changes outputs or saved values.
    pub fn forward_done(
        right: impl Op + 'static,
        f: impl Fn(&mut Forward<'_>) + Send + Sync + 'static,
    ) -> Box<dyn Op> {
        Box::new(Self { right: Box::new(right), fault: Fault::ForwardDone(Box::new(f)) })
    }

    /// Before the backward pass, changes what it is given.
    pub fn backward_begins(
        right: impl Op + 'static,
        f: impl Fn(&mut Backward<'_>) + Send + Sync + 'static,
    ) -> Box<dyn Op> {
        Box::new(Self { right: Box::new(right), fault: Fault::BackwardBegins(Box::new(f)) })
    }

    /// After the backward pass, changes the gradients.
    pub fn backward_done(
        right: impl Op + 'static,
        f: impl Fn(&mut Backward<'_>) + Send + Sync + 'static,
    ) -> Box<dyn Op> {
        Box::new(Self { right: Box::new(right), fault: Fault::BackwardDone(Box::new(f)) })
    }

    /// The first element of the first output is NaN.
    pub fn nan_output(right: impl Op + 'static) -> Box<dyn Op> {
        Self::forward_done(right, |o| o.outputs[0][0] = f32::NAN)
    }

    /// The sign of input `i`'s gradient is flipped.
    pub fn sign_of_d_input(right: impl Op + 'static, i: usize) -> Box<dyn Op> {
        Self::backward_done(right, move |o| {
            let grad = o.d_inputs[i].as_mut().expect("a gradient");
            grad.data.iter_mut().for_each(|d| *d = -*d);
        })
    }

    /// Gradients are overwritten where they should be added to.
    pub fn ignores_accumulate(right: impl Op + 'static) -> Box<dyn Op> {
        Self::backward_begins(right, |o| {
            let all = o.d_inputs.iter_mut().chain(o.d_params.iter_mut());
            all.flatten().for_each(|grad| grad.accumulate = false);
        })
    }

    /// Parameter `i`'s gradient is 0.
    pub fn drops_d_param(right: impl Op + 'static, i: usize) -> Box<dyn Op> {
        Self::backward_done(right, move |o| {
            o.d_params[i].as_mut().expect("a gradient").data.fill(0.0);
        })
    }
}

impl fmt::Debug for Spoil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spoil").field("right", &self.right).finish_non_exhaustive()
    }
}

fn again<'a>(o: &'a mut Forward<'_>) -> Forward<'a> {
    Forward {
        pool: o.pool,
        run: o.run,
        inputs: o.inputs.clone(),
        ints: o.ints.clone(),
        params: o.params.clone(),
        outputs: o.outputs.iter_mut().map(|x| &mut **x).collect(),
        saved: o.saved.iter_mut().map(|x| &mut **x).collect(),
        scratch: &mut *o.scratch,
    }
}

fn grad_again<'a>(grad: &'a mut Option<Grad<'_>>) -> Option<Grad<'a>> {
    grad.as_mut().map(|g| Grad { data: &mut *g.data, accumulate: g.accumulate })
}

fn backward_again<'a>(o: &'a mut Backward<'_>) -> Backward<'a> {
    Backward {
        pool: o.pool,
        run: o.run,
        inputs: o.inputs.clone(),
        ints: o.ints.clone(),
        params: o.params.clone(),
        outputs: o.outputs.iter_mut().map(|x| &mut **x).collect(),
        saved: o.saved.iter_mut().map(|x| &mut **x).collect(),
        d_outputs: o.d_outputs.clone(),
        d_inputs: o.d_inputs.iter_mut().map(grad_again).collect(),
        d_params: o.d_params.iter_mut().map(grad_again).collect(),
        scratch: &mut *o.scratch,
    }
}

impl Op for Spoil {
    fn name(&self) -> &'static str {
        self.right.name()
    }
    fn inputs(&self) -> Vec<usize> {
        self.right.inputs()
    }
    fn ints(&self) -> Vec<usize> {
        self.right.ints()
    }
    fn params(&self) -> Vec<usize> {
        self.right.params()
    }
    fn outputs(&self) -> Vec<usize> {
        self.right.outputs()
    }
    fn saved(&self) -> Vec<usize> {
        self.right.saved()
    }
    fn scratch(&self, threads: usize) -> usize {
        self.right.scratch(threads)
    }
    fn needs(&self) -> Needs {
        self.right.needs()
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        self.right.in_place()
    }
    fn residual(&self) -> Option<(usize, usize)> {
        self.right.residual()
    }
    fn is_loss(&self) -> bool {
        self.right.is_loss()
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        if let Fault::ForwardBegins(f) = &self.fault {
            f(&mut operands);
        }
        self.right.forward(again(&mut operands))?;
        if let Fault::ForwardDone(f) = &self.fault {
            f(&mut operands);
        }
        Ok(())
    }
    fn backward(&self, mut operands: Backward<'_>) -> Result<()> {
        if let Fault::BackwardBegins(f) = &self.fault {
            f(&mut operands);
        }
        self.right.backward(backward_again(&mut operands))?;
        if let Fault::BackwardDone(f) = &self.fault {
            f(&mut operands);
        }
        Ok(())
    }
}
