//! A right operation made wrong on purpose: hooks that spoil what goes in or comes out.

use crate::autograd::{Backward, Forward, Grad, Needs, Op};
use crate::error::Result;
use std::fmt;

type OnForward = Box<dyn Fn(&mut Forward<'_>) + Send + Sync>;
type OnBackward = Box<dyn Fn(&mut Backward<'_>) + Send + Sync>;

/// An operation with hooks around its two passes.
pub struct Wrong {
    op: Box<dyn Op>,
    before_forward: OnForward,
    after_forward: OnForward,
    before_backward: OnBackward,
    after_backward: OnBackward,
}

impl fmt::Debug for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wrong({:?})", self.op)
    }
}

impl Wrong {
    /// Still right: no hook spoils anything.
    pub fn new(op: impl Op + 'static) -> Self {
        Self {
            op: Box::new(op),
            before_forward: Box::new(|_| ()),
            after_forward: Box::new(|_| ()),
            before_backward: Box::new(|_| ()),
            after_backward: Box::new(|_| ()),
        }
    }

    /// Spoils the operands of the forward pass.
    #[must_use]
    pub fn before_forward(
        mut self,
        hook: impl Fn(&mut Forward<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.before_forward = Box::new(hook);
        self
    }

    /// Spoils the results of the forward pass.
    #[must_use]
    pub fn after_forward(
        mut self,
        hook: impl Fn(&mut Forward<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.after_forward = Box::new(hook);
        self
    }

    /// Spoils the operands of the backward pass.
    #[must_use]
    pub fn before_backward(
        mut self,
        hook: impl Fn(&mut Backward<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.before_backward = Box::new(hook);
        self
    }

    /// Spoils the results of the backward pass.
    #[must_use]
    pub fn after_backward(
        mut self,
        hook: impl Fn(&mut Backward<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.after_backward = Box::new(hook);
        self
    }

    /// Boxed, as [`super::harness::Case::wrong`] wants it.
    #[must_use]
    pub fn boxed(self) -> Box<dyn Op> {
        Box::new(self)
    }

    /// Overwrites gradients that it should have added to.
    #[must_use]
    pub fn ignores_accumulate(self) -> Self {
        self.before_backward(|b| {
            for grad in b.d_inputs.iter_mut().chain(&mut b.d_params).flatten() {
                grad.accumulate = false;
            }
        })
    }
}

fn reborrow<'a>(f: &'a mut Forward<'_>) -> Forward<'a> {
    Forward {
        pool: f.pool,
        run: f.run,
        inputs: f.inputs.clone(),
        ints: f.ints.clone(),
        params: f.params.clone(),
        outputs: f.outputs.iter_mut().map(|x| &mut **x).collect(),
        saved: f.saved.iter_mut().map(|x| &mut **x).collect(),
        scratch: &mut *f.scratch,
    }
}

fn again_grad<'a>(grad: &'a mut Option<Grad<'_>>) -> Option<Grad<'a>> {
    grad.as_mut().map(|g| Grad { data: &mut *g.data, accumulate: g.accumulate })
}

impl Op for Wrong {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn inputs(&self) -> Vec<usize> {
        self.op.inputs()
    }
    fn ints(&self) -> Vec<usize> {
        self.op.ints()
    }
    fn params(&self) -> Vec<usize> {
        self.op.params()
    }
    fn outputs(&self) -> Vec<usize> {
        self.op.outputs()
    }
    fn saved(&self) -> Vec<usize> {
        self.op.saved()
    }
    fn scratch(&self, threads: usize) -> usize {
        self.op.scratch(threads)
    }
    fn needs(&self) -> Needs {
        self.op.needs()
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        self.op.in_place()
    }
    fn residual(&self) -> Option<(usize, usize)> {
        self.op.residual()
    }
    fn is_loss(&self) -> bool {
        self.op.is_loss()
    }
    fn cheap(&self) -> bool {
        self.op.cheap()
    }
    fn recompute_inputs(&self) -> u8 {
        self.op.recompute_inputs()
    }
    fn forward(&self, mut f: Forward<'_>) -> Result<()> {
        (self.before_forward)(&mut f);
        self.op.forward(reborrow(&mut f))?;
        (self.after_forward)(&mut f);
        Ok(())
    }
    fn backward(&self, mut b: Backward<'_>) -> Result<()> {
        (self.before_backward)(&mut b);
        self.op.backward(Backward {
            pool: b.pool,
            run: b.run,
            inputs: b.inputs.clone(),
            ints: b.ints.clone(),
            params: b.params.clone(),
            outputs: b.outputs.iter_mut().map(|x| &mut **x).collect(),
            saved: b.saved.iter_mut().map(|x| &mut **x).collect(),
            d_outputs: b.d_outputs.clone(),
            d_inputs: b.d_inputs.iter_mut().map(again_grad).collect(),
            d_params: b.d_params.iter_mut().map(again_grad).collect(),
            scratch: &mut *b.scratch,
        })?;
        (self.after_backward)(&mut b);
        Ok(())
    }
}
