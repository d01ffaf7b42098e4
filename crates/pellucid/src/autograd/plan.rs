//! From a tape to a schedule: what runs when, what is kept, what is computed again, where everything lies.

use super::planner::Planner;
use super::tape::{Operation, Param, Tape, Value};
use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// How much is thrown away in the forward pass and computed again in the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Keep everything the backward pass reads.
    #[default]
    Nothing,
    /// Compute norms and activations again: little time, about a third less memory.
    Cheap,
    /// Keep only what flows between blocks; about a third more time, far less memory.
    Blocks,
}

/// How a tape is to be trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Training {
    /// What is computed again.
    pub recompute: Recompute,
    /// Whether gradients of several runs are added up. If not, activations share the gradients' memory.
    pub accumulates: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Forward,
    Recompute,
    Backward,
    /// Copies reads[0] to writes[0].
    Copy,
    /// Adds reads[0] to writes[0].
    Add,
    /// Zeroes writes[0].
    Zero,
}

/// One step of the schedule. Memory is named by storage while planning and by range once placed.
#[derive(Clone, Debug)]
pub(super) struct Step<M> {
    pub(super) node: usize,
    pub(super) action: Action,
    pub(super) inputs: Vec<M>,
    pub(super) outputs: Vec<M>,
    pub(super) saved: Vec<M>,
    pub(super) d_outputs: Vec<M>,
    pub(super) d_inputs: Vec<Option<(M, bool)>>,
    /// Where each parameter's gradient goes, and whether it is added to what an earlier step wrote.
    pub(super) d_params: Vec<Option<(M, bool)>>,
    pub(super) scratch: M,
}

/// No memory: an empty slice.
pub(super) const NOTHING: usize = usize::MAX;

impl Step<usize> {
    pub(super) fn new(node: usize, action: Action) -> Self {
        Self {
            node,
            action,
            inputs: vec![],
            outputs: vec![],
            saved: vec![],
            d_outputs: vec![],
            d_inputs: vec![],
            d_params: vec![],
            scratch: NOTHING,
        }
    }

    pub(super) fn placed(self, places: &[Range<usize>]) -> Step<Range<usize>> {
        let at = |s: usize| if s == NOTHING { 0..0 } else { places[s].clone() };
        let list = |l: Vec<usize>| l.into_iter().map(at).collect();
        Step {
            node: self.node,
            action: self.action,
            inputs: list(self.inputs),
            outputs: list(self.outputs),
            saved: list(self.saved),
            d_outputs: list(self.d_outputs),
            d_inputs: self.d_inputs.into_iter().map(|d| d.map(|(s, a)| (at(s), a))).collect(),
            d_params: self.d_params.into_iter().map(|d| d.map(|(s, a)| (at(s), a))).collect(),
            scratch: at(self.scratch),
        }
    }
}

/// A schedule with every piece of memory in its place.
#[derive(Debug)]
pub struct Plan {
    pub(super) tape: Tape,
    pub(super) steps: Vec<Step<Range<usize>>>,
    pub(super) arena: usize,
    /// Elements of the gradients' memory, which comes before the arena.
    pub(super) gradients: usize,
    pub(super) accumulates: bool,
    pub(super) kept: Vec<(Value, Range<usize>)>,
}

impl Plan {
    /// Plans the forward pass alone. Operations without a backward pass are welcome.
    pub fn infer(tape: Tape, threads: usize) -> Result<Self> {
        let mut planner = Planner::new(&tape, threads, None);
        for node in 0..tape.nodes.len() {
            planner.forward(node);
        }
        let (steps, arena, kept) = planner.finish();
        Ok(Self { tape, steps, arena, gradients: 0, accumulates: false, kept })
    }

    /// Plans forward and backward from `loss`. Refuses operations without a backward pass, and names every
    /// trainable parameter that would get no gradient.
    pub fn train(tape: Tape, loss: Value, training: Training, threads: usize) -> Result<Self> {
        for node in &tape.nodes {
            if let Operation::InferenceOnly(op) = &node.operation {
                return Err(Error::new(
                    Kind::Gradient,
                    op.name(),
                    format!("has no backward pass, but {} is to be trained", node.label),
                )
                .hint("build the tape with the differentiable operation of the same idea"));
            }
        }
        let last = tape.values[loss.0].producer;
        if !tape.nodes[last].op().is_loss() {
            return Err(Error::new(
                Kind::Gradient,
                tape.nodes[last].operation.name(),
                "is not a loss, but training starts from it",
            ));
        }
        let mut planner = Planner::new(&tape, threads, Some(training));
        for node in 0..last {
            planner.forward(node);
        }
        planner.forget_dropped();
        for node in (0..=last).rev() {
            planner.backward(node, node == last)?;
        }
        planner.check_gradients()?;
        let gradients = planner.edge();
        let (steps, arena, kept) = planner.finish();
        Ok(Self { tape, steps, arena, gradients, accumulates: training.accumulates, kept })
    }

    /// Bytes of working memory.
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        self.arena * size_of::<f32>()
    }

    /// Floating-point operations of one run; recomputation is not counted.
    #[must_use]
    pub fn flops(&self) -> u64 {
        let mut ran = vec![false; self.tape.nodes.len()];
        let first = |step: &&Step<Range<usize>>| match step.action {
            Action::Forward => !std::mem::replace(&mut ran[step.node], true),
            action => action != Action::Recompute,
        };
        self.steps.iter().filter(first).map(|s| self.step_flops(s)).sum()
    }

    pub(super) fn step_flops(&self, step: &Step<Range<usize>>) -> u64 {
        match (&self.tape.nodes[step.node].operation, step.action) {
            (Operation::Differentiable(op), Action::Forward) => op.flops().0,
            (Operation::Differentiable(op), Action::Backward) if op.is_loss() => {
                op.flops().0 + op.flops().1
            }
            (Operation::Differentiable(op), Action::Backward) => op.flops().1,
            (Operation::Differentiable(op), Action::Recompute) => op.recompute_flops(),
            (Operation::InferenceOnly(op), Action::Forward) => op.flops(),
            (_, Action::Add) => step.outputs[0].len() as u64,
            _ => 0,
        }
    }

    /// From the operands of the schedule, so that no operation can forget one.
    /// `adding`: the gradients of parameters are added to those of an earlier run.
    pub(super) fn step_bytes(&self, step: &Step<Range<usize>>, adding: bool) -> u64 {
        let node = &self.tape.nodes[step.node];
        let sum = |ranges: &[Range<usize>]| ranges.iter().map(|r| r.len() as u64).sum::<u64>();
        // Written; and read where it is added to.
        let grads = |grads: &[Option<(Range<usize>, bool)>], all_added: bool, at_most: u64| {
            let one = |(r, added): &(Range<usize>, bool)| {
                if *added || all_added { 2 * at_most.min(r.len() as u64) } else { r.len() as u64 }
            };
            grads.iter().flatten().map(one).sum::<u64>()
        };
        let params = node.params.iter().map(|p| self.tape.params[p.0].range.len() as u64).sum();
        let (in_place, looks_up) = match &node.operation {
            Operation::Differentiable(op) => (op.in_place(), op.looks_up()),
            Operation::InferenceOnly(_) => (None, None),
        };
        let moved = sum(&step.inputs) + sum(&step.outputs) + sum(&step.saved);
        let ints: u64 = node.ints.iter().map(|i| self.tape.ints[i.0] as u64).sum();
        let states: u64 = node.states.iter().map(|s| self.tape.states[s.0] as u64).sum();
        let elements = match step.action {
            Action::Add => moved + sum(&step.outputs),
            Action::Copy | Action::Zero => moved,
            Action::Forward | Action::Recompute => {
                let twice = in_place.map_or(0, |(_, o)| step.outputs[o].len() as u64);
                moved + twice + looks_up.unwrap_or(params) + ints + states
            }
            Action::Backward => {
                let overwritten = in_place.and_then(|(i, _)| step.d_inputs[i].as_ref());
                let twice = overwritten.map_or(0, |(r, _)| r.len() as u64);
                let read = if looks_up.is_some() { 0 } else { params };
                let d_inputs = grads(&step.d_inputs, false, u64::MAX) + twice;
                let d_params = grads(&step.d_params, adding, looks_up.unwrap_or(u64::MAX));
                moved + sum(&step.d_outputs) + d_inputs + d_params + read + ints
            }
        };
        elements * size_of::<f32>() as u64
    }
}

impl Plan {
    /// Name of a parameter on the tape.
    #[must_use]
    pub fn param_name(&self, param: Param) -> &str {
        &self.tape.params[param.0].name
    }
}
