//! Runs a plan: cuts each step's operands out of the arena and calls the operation.

use super::op::{Backward, Forward, Grad, Inference, Op, Operands, RunInfo};
use super::plan::{Action, Plan, Step};
use super::tape::{Ints, Node, Operation, Value};
use crate::backend::buffer::{Buffer, cut};
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use arrayvec::ArrayVec;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A NaN that no arithmetic makes. In a session's first run, gradients hold it until they are written: where it is
/// left, an operation forgot an element.
pub const UNWRITTEN: u32 = 0x7fc5_eed5;

/// Every sort of operand of one operation together.
const MOST: usize = 5 * super::op::MAX_OPERANDS;

/// Where the gradients of the parameters go. What lies there before and between them is overwritten.
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
    /// Bytes that must cross the memory bus if nothing is in a cache: each operand once, twice where it is added to.
    pub bytes: u64,
}

/// A plan with memory of its own.
#[derive(Debug)]
pub struct Session {
    plan: Plan,
    arena: Buffer,
    ints: Vec<Vec<i32>>,
    states: Vec<Buffer>,
    timings: Option<Vec<Timing>>,
    /// Until a run has succeeded: gradients are marked before they are written.
    mark: bool,
}

impl Session {
    /// Allocates what outlives runs; working memory when it first runs, unless that is lent.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let arena = Buffer::zeros(0);
        let ints = plan.tape.ints.iter().map(|&len| vec![0; len]).collect();
        let states = plan.tape.states.iter().map(|&len| Buffer::zeros(len)).collect();
        Self { plan, arena, ints, states, timings: None, mark: true }
    }

    /// Works in `memory`, which grows to what the plan needs, during `work`.
    pub fn in_memory<T>(&mut self, memory: &mut Buffer, work: impl FnOnce(&mut Self) -> T) -> T {
        if memory.len() < self.plan.arena {
            *memory = Buffer::zeros(self.plan.arena);
        }
        std::mem::swap(&mut self.arena, memory);
        let result = work(self);
        std::mem::swap(&mut self.arena, memory);
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
        let edge = self.plan.gradients;
        Ok(&self.arena[range.start - edge..range.end - edge])
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
        let first = self.check_gradients(grads.as_ref())?;
        if self.arena.len() < self.plan.arena {
            self.arena = Buffer::zeros(self.plan.arena);
        }
        let Self { plan, arena, ints, states, timings, mark } = self;
        if let Some(t) = timings {
            t.clear();
        }
        for step in &plan.steps {
            let node = &plan.tape.nodes[step.node];
            let start = timings.is_some().then(Instant::now);
            let low = grads.as_mut().map_or(&mut [][..], |g| &mut g.data[..plan.gradients]);
            Scene { plan, node, step, pool, run, weights, ints, first, mark: *mark }
                .play((low, arena), states)
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
                    bytes: plan.step_bytes(step, !first),
                });
            }
        }
        *mark = false;
        Ok(())
    }

    /// Whether gradients are overwritten; an error unless the plan can do what is asked.
    fn check_gradients(&self, grads: Option<&ParamGrads<'_>>) -> Result<bool> {
        let need = self.plan.gradients;
        let error = |message: String| Err(Error::new(Kind::Gradient, "autograd", message));
        match grads {
            None if need > 0 => error("a plan that trains was run without gradients".into()),
            Some(g) if g.data.len() < need => {
                error(format!("{} gradients, but the parameters need {need}", g.data.len()))
            }
            Some(g) if !g.first && !self.plan.accumulates => {
                error("gradients are to be added up, but activations lay where they were".into())
                    .map_err(|e| e.hint("plan with Training { accumulates: true, .. }"))
            }
            _ => Ok(grads.is_none_or(|g| g.first)),
        }
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
    first: bool,
    mark: bool,
}

impl Scene<'_> {
    fn params(&self) -> Operands<&[f32]> {
        let range = |p: &super::tape::Param| self.plan.tape.params[p.0].range.clone();
        self.node.params.iter().map(|p| &self.weights[range(p)]).collect()
    }

    fn ints(&self) -> Operands<&[i32]> {
        self.node.ints.iter().map(|i| self.ints[i.0].as_slice()).collect()
    }

    fn play(&self, memory: (&mut [f32], &mut [f32]), states: &mut [Buffer]) -> Result<()> {
        let (step, node) = (self.step, self.node);
        match (step.action, &node.operation) {
            (Action::Copy | Action::Add | Action::Zero, _) => {
                self.move_memory(memory);
                Ok(())
            }
            (Action::Backward, Operation::Differentiable(op)) => self.backward(op.as_ref(), memory),
            (_, Operation::Differentiable(op)) => self.forward(op.as_ref(), memory),
            (_, Operation::InferenceOnly(op)) => {
                let mut writes = step.outputs.clone();
                writes.push(step.scratch.clone());
                let (inputs, mut writes) = cut::<MOST>(memory, &step.inputs, &writes);
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

    fn move_memory(&self, memory: (&mut [f32], &mut [f32])) {
        let (reads, mut writes) = cut::<MOST>(memory, &self.step.inputs, &self.step.outputs);
        let to = &mut *writes[0];
        match self.step.action {
            Action::Zero => to.fill(0.0),
            Action::Copy => to.copy_from_slice(reads[0]),
            _ => to.iter_mut().zip(reads[0]).for_each(|(t, f)| *t += f),
        }
    }

    fn forward(&self, op: &dyn Op, memory: (&mut [f32], &mut [f32])) -> Result<()> {
        let step = self.step;
        let mut writes = step.outputs.clone();
        writes.extend(step.saved.iter().cloned());
        writes.push(step.scratch.clone());
        let (inputs, mut writes) = cut::<MOST>(memory, &step.inputs, &writes);
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

    fn backward(&self, op: &dyn Op, memory: (&mut [f32], &mut [f32])) -> Result<()> {
        let step = self.step;
        let mut reads = step.inputs.clone();
        reads.extend(step.d_outputs.iter().cloned());
        let mut writes = step.outputs.clone();
        writes.extend(step.saved.iter().cloned());
        let grads = step.d_inputs.iter().chain(&step.d_params).flatten();
        writes.extend(grads.map(|(r, _)| r.clone()));
        writes.push(step.scratch.clone());
        let (mut reads, mut writes) = cut::<MOST>(memory, &reads, &writes);
        let scratch = writes.pop().expect("scratch is last");
        let mut data = writes
            .drain(step.outputs.len() + step.saved.len()..)
            .collect::<ArrayVec<_, MOST>>()
            .into_iter();
        let mut grad = |d: &Option<(Range<usize>, bool)>, added: bool| {
            d.as_ref().map(|(_, touched)| {
                let data = data.next().expect("one piece each");
                Grad { data, accumulate: *touched || added }
            })
        };
        let d_inputs = step.d_inputs.iter().map(|d| grad(d, false)).collect();
        let mut d_params: Operands<_> =
            step.d_params.iter().map(|d| grad(d, !self.first)).collect();
        for d in d_params.iter_mut().flatten().filter(|d| self.mark && !d.accumulate) {
            d.data.fill(f32::from_bits(UNWRITTEN));
        }
        let saved = writes.drain(step.outputs.len()..).collect();
        let d_outputs = reads.drain(step.inputs.len()..).collect();
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
}
