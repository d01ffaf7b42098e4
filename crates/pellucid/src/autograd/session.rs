//! Runs a plan: cuts each step's operands out of the arena and calls the operation.

use super::op::{Backward, Forward, Grad, Inference, Op, Operands, RunInfo};
use super::plan::{Action, Plan, Step};
use super::tape::{Ints, Node, Operation, Value};
use crate::backend::buffer::{Buffer, cut};
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Every sort of operand of one operation together.
const MOST: usize = 5 * super::op::MAX_OPERANDS;

/// Where the gradients of the parameters go.
#[derive(Debug)]
pub struct ParamGrads<'a> {
    /// Flat, like the weights.
    pub data: &'a mut [f32],
    /// `true`: overwrite what stands there; `false`: add to it (accumulation).
    pub first: bool,
}

/// Time one step of the schedule took.
#[derive(Clone, Debug)]
pub struct Timing {
    /// `blocks.3.attn`.
    pub label: String,
    /// `linear`.
    pub op: &'static str,
    /// `forward`, `backward`, `recompute` or a memory move.
    pub action: &'static str,
    /// Wall time.
    pub time: Duration,
    /// Floating-point operations.
    pub flops: u64,
}

/// A plan with memory of its own.
#[derive(Debug)]
pub struct Session {
    plan: Plan,
    arena: Buffer,
    ints: Vec<Vec<i32>>,
    states: Vec<Buffer>,
    timings: Option<Vec<Timing>>,
}

impl Session {
    /// Allocates what the plan needs.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let arena = Buffer::zeros(plan.arena);
        let ints = plan.tape.ints.iter().map(|&len| vec![0; len]).collect();
        let states = plan.tape.states.iter().map(|&len| Buffer::zeros(len)).collect();
        Self { plan, arena, ints, states, timings: None }
    }

    /// Works in `lender`'s memory during `work` where that is large enough, else in its own.
    pub fn in_memory_of<T>(&mut self, lender: &mut Self, work: impl FnOnce(&mut Self) -> T) -> T {
        if lender.arena.len() < self.plan.arena {
            if self.arena.len() < self.plan.arena {
                self.arena = Buffer::zeros(self.plan.arena);
            }
            return work(self);
        }
        self.arena = Buffer::zeros(0);
        std::mem::swap(&mut self.arena, &mut lender.arena);
        let result = work(self);
        std::mem::swap(&mut self.arena, &mut lender.arena);
        result
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of working memory and states.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let states: usize = self.states.iter().map(|s| s.len()).sum();
        self.plan.arena_bytes() + states * size_of::<f32>()
    }

    /// An integer input, to be filled before a run.
    pub fn ints_mut(&mut self, ints: Ints) -> &mut [i32] {
        &mut self.ints[ints.0]
    }

    /// Exchanges the memory that outlives runs; the lengths must be the plan's.
    pub fn swap_states(&mut self, states: &mut Vec<Buffer>) {
        std::mem::swap(&mut self.states, states);
    }

    /// A value marked with `Tape::keep`, after a run.
    pub fn value(&self, value: Value) -> Result<&[f32]> {
        let kept = self.plan.kept.iter().find(|(v, _)| *v == value);
        let (_, range) = kept.ok_or_else(|| {
            Error::new(Kind::Shape, "autograd", "the value was not kept")
                .hint("call Tape::keep before planning")
        })?;
        Ok(&self.arena[range.clone()])
    }

    /// Switches the measuring of each step on or off.
    pub fn measure(&mut self, on: bool) {
        self.timings = on.then(Vec::new);
    }

    /// What the last run's steps took, if measured.
    #[must_use]
    pub fn timings(&self) -> &[Timing] {
        self.timings.as_deref().unwrap_or(&[])
    }

    /// Runs the whole schedule. `grads` is needed by a plan that trains.
    pub fn run(
        &mut self,
        pool: &Pool,
        weights: &[f32],
        mut grads: Option<ParamGrads<'_>>,
        run: RunInfo,
    ) -> Result<()> {
        let Self { plan, arena, ints, states, timings } = self;
        if let Some(t) = timings {
            t.clear();
        }
        for step in &plan.steps {
            let node = &plan.tape.nodes[step.node];
            let start = timings.is_some().then(Instant::now);
            let grads = grads.as_mut().map(|g| (&mut *g.data, g.first));
            Scene { plan, node, step, pool, run, weights, ints }
                .play(arena, states, grads)
                .map_err(|e| {
                    if node.label.is_empty() { e } else { e.fact(format!("in {}", node.label)) }
                })?;
            if let (Some(t), Some(start)) = (timings.as_mut(), start) {
                t.push(Timing {
                    label: node.label.clone(),
                    op: node.operation.name(),
                    action: step.action.name(),
                    time: start.elapsed(),
                    flops: plan.step_flops(step),
                });
            }
        }
        Ok(())
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Recompute => "recompute",
            Self::Backward => "backward",
            Self::Copy => "copy",
            Self::Add => "add",
            Self::Zero => "zero",
        }
    }
}

/// One step and all it may look at.
struct Scene<'a> {
    plan: &'a Plan,
    node: &'a Node,
    step: &'a Step<Range<usize>>,
    pool: &'a Pool,
    run: RunInfo,
    weights: &'a [f32],
    ints: &'a [Vec<i32>],
}

impl Scene<'_> {
    fn params(&self) -> Operands<&[f32]> {
        let range = |p: &super::tape::Param| self.plan.tape.params[p.0].range.clone();
        self.node.params.iter().map(|p| &self.weights[range(p)]).collect()
    }

    fn ints(&self) -> Operands<&[i32]> {
        self.node.ints.iter().map(|i| self.ints[i.0].as_slice()).collect()
    }

    fn play(
        &self,
        arena: &mut [f32],
        states: &mut [Buffer],
        grads: Option<(&mut [f32], bool)>,
    ) -> Result<()> {
        let (step, node) = (self.step, self.node);
        match (step.action, &node.operation) {
            (Action::Copy | Action::Add | Action::Zero, _) => {
                self.move_memory(arena);
                Ok(())
            }
            (Action::Backward, Operation::Differentiable(op)) => {
                self.backward(op.as_ref(), arena, grads)
            }
            (_, Operation::Differentiable(op)) => self.forward(op.as_ref(), arena),
            (_, Operation::InferenceOnly(op)) => {
                let mut writes = step.outputs.clone();
                writes.push(step.scratch.clone());
                let (inputs, mut writes) = cut::<MOST>(arena, &step.inputs, &writes);
                let scratch = writes.pop().expect("scratch is last");
                let mut held: Operands<&mut [f32]> = Operands::new();
                for (i, state) in states.iter_mut().enumerate() {
                    if node.states.iter().any(|s| s.0 == i) {
                        held.push(state);
                    }
                }
                op.forward(Inference {
                    pool: self.pool,
                    inputs: inputs.into_iter().collect(),
                    ints: self.ints(),
                    params: self.params(),
                    outputs: writes.into_iter().collect(),
                    states: held,
                    scratch,
                })
            }
        }
    }

    fn move_memory(&self, arena: &mut [f32]) {
        let (reads, mut writes) = cut::<MOST>(arena, &self.step.inputs, &self.step.outputs);
        let to = &mut *writes[0];
        match self.step.action {
            Action::Zero => to.fill(0.0),
            Action::Copy => to.copy_from_slice(reads[0]),
            _ => to.iter_mut().zip(reads[0]).for_each(|(t, f)| *t += f),
        }
    }

    fn forward(&self, op: &dyn Op, arena: &mut [f32]) -> Result<()> {
        let step = self.step;
        let mut writes = step.outputs.clone();
        writes.extend(step.saved.iter().cloned());
        writes.push(step.scratch.clone());
        let (inputs, mut writes) = cut::<MOST>(arena, &step.inputs, &writes);
        let scratch = writes.pop().expect("scratch is last");
        let saved = writes.drain(step.outputs.len()..).collect();
        let operands = Forward {
            pool: self.pool,
            run: self.run,
            inputs: inputs.into_iter().collect(),
            ints: self.ints(),
            params: self.params(),
            outputs: writes.into_iter().collect(),
            saved,
            scratch,
        };
        if step.action == Action::Recompute { op.recompute(operands) } else { op.forward(operands) }
    }

    fn backward(
        &self,
        op: &dyn Op,
        arena: &mut [f32],
        grads: Option<(&mut [f32], bool)>,
    ) -> Result<()> {
        let step = self.step;
        let (grads, first) = grads.ok_or_else(|| {
            Error::new(Kind::Gradient, "autograd", "a plan that trains was run without gradients")
        })?;
        let mut reads = step.inputs.clone();
        reads.extend(step.d_outputs.iter().cloned());
        let mut writes = step.outputs.clone();
        writes.extend(step.saved.iter().cloned());
        writes.extend(step.d_inputs.iter().flatten().map(|(r, _)| r.clone()));
        writes.push(step.scratch.clone());
        let (mut reads, mut writes) = cut::<MOST>(arena, &reads, &writes);
        let scratch = writes.pop().expect("scratch is last");
        let mut d_data = writes
            .drain(step.outputs.len() + step.saved.len()..)
            .collect::<Operands<_>>()
            .into_iter();
        let d_inputs = step
            .d_inputs
            .iter()
            .map(|d| {
                d.as_ref().map(|(_, accumulate)| Grad {
                    data: d_data.next().expect("one piece each"),
                    accumulate: *accumulate,
                })
            })
            .collect();
        let saved = writes.drain(step.outputs.len()..).collect();
        let d_outputs = reads.drain(step.inputs.len()..).collect();
        let d_params = self.param_grads(grads, first);
        op.backward(Backward {
            pool: self.pool,
            run: self.run,
            inputs: reads.into_iter().collect(),
            ints: self.ints(),
            params: self.params(),
            outputs: writes.into_iter().collect(),
            saved,
            d_outputs,
            d_inputs,
            d_params,
            scratch,
        })
    }

    /// The pieces of `grads` that this step writes.
    fn param_grads<'g>(&self, grads: &'g mut [f32], first: bool) -> Operands<Option<Grad<'g>>> {
        let wanted = |(p, d): (&super::tape::Param, &Option<bool>)| {
            d.map(|_| self.plan.tape.params[p.0].range.clone())
        };
        let ranges: Operands<_> =
            self.node.params.iter().zip(&self.step.d_params).filter_map(wanted).collect();
        let mut pieces = cut::<MOST>(grads, &[], &ranges).1.into_iter();
        let mut grad = |d: &Option<bool>| {
            d.map(|touched| Grad {
                data: pieces.next().expect("one piece each"),
                accumulate: touched || !first,
            })
        };
        self.step.d_params.iter().map(&mut grad).collect()
    }
}
