//! Walks a tape forward and back and writes down the schedule.

use super::arena::{Place, Storage, place};
use super::op::Op;
use super::plan::{Action, NOTHING, Recompute, Step, Training};
use super::tape::{Node, Operation, Tape, Value};
use crate::error::{Error, Kind, Result};
use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    All,
    Saved,
    Nothing,
}

pub(super) struct Planner<'t> {
    tape: &'t Tape,
    threads: usize,
    training: bool,
    keep: Vec<Keep>,
    consumers: Vec<Vec<usize>>,
    storages: Vec<Storage>,
    steps: Vec<Step<usize>>,
    /// Where each value lies now, if it does.
    value: Vec<Option<usize>>,
    /// Where what each node saved lies now, if it does.
    saved: Vec<Option<Vec<usize>>>,
    grad: Vec<Option<usize>>,
    /// Where each parameter's gradient lies, once a step wrote it.
    param_grad: Vec<Option<usize>>,
    /// Whether gradients must survive from one run to the next.
    accumulates: bool,
    requires_grad: Vec<bool>,
}

impl Node {
    pub(super) fn op(&self) -> &dyn Op {
        match &self.operation {
            Operation::Differentiable(op) => op.as_ref(),
            Operation::InferenceOnly(_) => unreachable!("refused before planning"),
        }
    }
}

impl<'t> Planner<'t> {
    pub(super) fn new(tape: &'t Tape, threads: usize, training: Option<Training>) -> Self {
        let recompute = training.map_or(Recompute::Nothing, |t| t.recompute);
        let accumulates = training.is_some_and(|t| t.accumulates);
        let training = training.is_some();
        let mut consumers = vec![vec![]; tape.values.len()];
        for (i, node) in tape.nodes.iter().enumerate() {
            for v in &node.inputs {
                consumers[v.0].push(i);
            }
        }
        let requires_grad = tape.need_gradients();
        let keep = tape
            .nodes
            .iter()
            .map(|node| match (&node.operation, recompute) {
                (Operation::Differentiable(op), Recompute::Cheap) if op.cheap() => Keep::Saved,
                (Operation::Differentiable(_), Recompute::Blocks) if node.segment.is_some() => {
                    Keep::Nothing
                }
                _ => Keep::All,
            })
            .collect();
        Self {
            tape,
            threads,
            training,
            keep,
            consumers,
            storages: vec![],
            steps: vec![],
            value: vec![None; tape.values.len()],
            saved: vec![None; tape.nodes.len()],
            grad: vec![None; tape.values.len()],
            param_grad: vec![None; tape.params.len()],
            accumulates,
            requires_grad,
        }
    }

    fn storage(&mut self, len: usize) -> usize {
        let now = self.steps.len();
        self.storages.push(Storage { len, first: now, last: now, place: Place::Free });
        self.storages.len() - 1
    }

    fn emit(&mut self, step: Step<usize>) {
        let now = self.steps.len();
        let all = step.inputs.iter().chain(&step.outputs).chain(&step.saved).chain(&step.d_outputs);
        let grads = step.d_inputs.iter().flatten().map(|(s, _)| s);
        for &s in all.chain(grads).chain([&step.scratch]) {
            if s != NOTHING {
                self.storages[s].last = now;
            }
        }
        self.steps.push(step);
    }

    /// Whether `node` may write its output over `value`: nobody else reads it afterwards.
    fn may_overwrite(&self, node: usize, value: Value) -> bool {
        let info = &self.tape.values[value.0];
        let others = self.consumers[value.0].iter().any(|&c| c != node);
        let read_back = self.training && {
            let producer = &self.tape.nodes[info.producer];
            let at = producer.outputs.iter().position(|v| *v == value).expect("an output");
            producer.op().needs().outputs >> at & 1 == 1
        };
        !(others || info.kept || read_back)
    }

    pub(super) fn forward(&mut self, index: usize) {
        let tape = self.tape;
        let node = &tape.nodes[index];
        let (in_place, saved, scratch) = match &node.operation {
            Operation::Differentiable(op) => (op.in_place(), op.saved(), op.scratch(self.threads)),
            Operation::InferenceOnly(op) => (None, vec![], op.scratch(self.threads)),
        };
        let mut step = Step::new(index, Action::Forward);
        step.inputs = node.inputs.iter().map(|v| self.value[v.0].expect("live")).collect();
        let mut taken_over = None;
        if let Some((i, o)) = in_place {
            let from = step.inputs[i];
            step.inputs[i] = NOTHING;
            if self.may_overwrite(index, node.inputs[i]) {
                self.value[node.inputs[i].0] = None;
                taken_over = Some((o, from));
            } else {
                let mut copy = Step::new(index, Action::Copy);
                let to = self.storage(self.tape.len(node.outputs[o]));
                copy.inputs = vec![from];
                copy.outputs = vec![to];
                self.emit(copy);
                taken_over = Some((o, to));
            }
        }
        for (o, v) in node.outputs.iter().enumerate() {
            let s = match taken_over {
                Some((at, s)) if at == o => s,
                _ => self.storage(tape.len(*v)),
            };
            self.value[v.0] = Some(s);
            step.outputs.push(s);
        }
        step.saved = saved.iter().map(|&len| self.storage(len)).collect();
        self.saved[index] = Some(step.saved.clone());
        step.scratch = self.storage(scratch);
        self.emit(step);
    }

    /// After the forward pass: what was not kept is gone.
    pub(super) fn forget_dropped(&mut self) {
        for (i, info) in self.tape.values.iter().enumerate() {
            let segment = self.tape.nodes[info.producer].segment;
            let leaves = |c: &usize| self.tape.nodes[*c].segment != segment;
            let dropped = match self.keep[info.producer] {
                Keep::All => false,
                Keep::Saved => true,
                Keep::Nothing => !self.consumers[i].iter().any(leaves),
            };
            if dropped && !info.kept {
                self.value[i] = None;
            }
        }
        for (i, keep) in self.keep.iter().enumerate() {
            if *keep == Keep::Nothing {
                self.saved[i] = None;
            }
        }
    }

    /// Makes `value` live, computing it again if it was thrown away.
    fn ensure(&mut self, value: Value) {
        if self.value[value.0].is_some() {
            return;
        }
        let tape = self.tape;
        let index = tape.values[value.0].producer;
        let node = &tape.nodes[index];
        if self.keep[index] == Keep::Saved {
            let reads = node.op().recompute_inputs();
            let read = |i: usize| reads >> i & 1 == 1;
            for (i, v) in node.inputs.iter().enumerate() {
                if read(i) {
                    self.ensure(*v);
                }
            }
            let mut step = Step::new(index, Action::Recompute);
            for (i, v) in node.inputs.iter().enumerate() {
                let live = if read(i) { self.value[v.0].expect("live") } else { NOTHING };
                step.inputs.push(live);
            }
            for v in &node.outputs {
                let s = self.storage(tape.len(*v));
                self.value[v.0] = Some(s);
                step.outputs.push(s);
            }
            step.saved = self.saved[index].clone().expect("saved values are kept");
            step.scratch = self.storage(node.op().scratch(self.threads));
            self.emit(step);
        } else {
            self.run_again(index);
        }
    }

    fn run_again(&mut self, index: usize) {
        for v in &self.tape.nodes[index].inputs {
            self.ensure(*v);
        }
        self.forward(index);
    }

    pub(super) fn backward(&mut self, index: usize, is_root: bool) -> Result<()> {
        let tape = self.tape;
        let node = &tape.nodes[index];
        // Where nothing behind it moves, a gradient that was handed on in place is of no use.
        let wanted = |v: &Value| self.grad[v.0].is_some() && self.requires_grad[v.0];
        let has_grad = node.outputs.iter().any(wanted);
        if !is_root && !has_grad {
            return Ok(());
        }
        let op = node.op();
        let needs = op.needs();
        if !is_root && self.saved[index].is_none() && !op.saved().is_empty() {
            self.run_again(index);
        }
        let wanted = |bits: u8, i: usize| bits >> i & 1 == 1;
        for (bits, values) in [(needs.inputs, &node.inputs), (needs.outputs, &node.outputs)] {
            for (i, v) in values.iter().enumerate() {
                if wanted(bits, i) && !is_root || is_root && std::ptr::eq(values, &node.inputs) {
                    self.ensure(*v);
                }
            }
        }
        let mut step = Step::new(index, Action::Backward);
        for (i, v) in node.inputs.iter().enumerate() {
            let live = wanted(needs.inputs, i).then(|| self.value[v.0].expect("live"));
            step.inputs.push(live.unwrap_or(NOTHING));
        }
        if is_root {
            for v in &node.outputs {
                let s = self.storage(tape.len(*v));
                self.value[v.0] = Some(s);
                step.outputs.push(s);
            }
            step.saved = op.saved().iter().map(|&len| self.storage(len)).collect();
        } else {
            for (o, v) in node.outputs.iter().enumerate() {
                let live = wanted(needs.outputs, o).then(|| self.value[v.0].expect("live"));
                step.outputs.push(live.unwrap_or(NOTHING));
            }
            step.saved = self.saved[index].clone().unwrap_or_default();
        }
        let after = self.hand_on_gradients(index, is_root, &mut step);
        for p in &node.params {
            let trainable = tape.params[p.0].trainable;
            step.d_params.push(trainable.then(|| self.param_gradient(p.0)));
        }
        step.scratch = self.storage(op.scratch(self.threads));
        self.emit(step);
        for (from, to) in after {
            let mut add = Step::new(index, Action::Add);
            add.inputs = vec![from];
            add.outputs = vec![to];
            self.emit(add);
        }
        Ok(())
    }

    /// Fills `d_outputs` and `d_inputs`; returns additions `(from, to)` to be made after the step.
    fn hand_on_gradients(
        &mut self,
        index: usize,
        is_root: bool,
        step: &mut Step<usize>,
    ) -> Vec<(usize, usize)> {
        let tape = self.tape;
        let node = &tape.nodes[index];
        let op = node.op();
        let mut after = vec![];
        for v in &node.outputs {
            if is_root {
                step.d_outputs.push(NOTHING);
                continue;
            }
            let s = self.grad[v.0].unwrap_or_else(|| {
                // An output nobody used: its gradient is zero.
                let s = self.storage(tape.len(*v));
                let mut zero = Step::new(index, Action::Zero);
                zero.outputs = vec![s];
                self.emit(zero);
                s
            });
            step.d_outputs.push(s);
        }
        for (i, v) in node.inputs.iter().enumerate() {
            let place = op.in_place().filter(|p| p.0 == i).map(|p| p.1);
            let passed = op.residual().filter(|p| p.0 == i).map(|p| p.1);
            let existing = self.grad[v.0];
            let grad = if let Some(o) = place {
                let s = std::mem::replace(&mut step.d_outputs[o], NOTHING);
                if let Some(to) = existing {
                    after.push((s, to));
                } else {
                    self.grad[v.0] = Some(s);
                }
                Some((s, false))
            } else if !self.requires_grad[v.0] {
                None
            } else if let Some(o) = passed {
                match existing {
                    Some(to) => after.push((step.d_outputs[o], to)),
                    None => self.grad[v.0] = Some(step.d_outputs[o]),
                }
                None
            } else {
                let s = existing.unwrap_or_else(|| self.storage(tape.len(*v)));
                self.grad[v.0] = Some(s);
                Some((s, existing.is_some()))
            };
            step.d_inputs.push(grad);
        }
        after
    }

    /// Elements of the gradients' memory.
    pub(super) fn edge(&self) -> usize {
        if self.training { self.tape.trained() } else { 0 }
    }

    /// The place of a parameter's gradient, and whether an earlier step wrote to it.
    fn param_gradient(&mut self, param: usize) -> (usize, bool) {
        if let Some(s) = self.param_grad[param] {
            return (s, true);
        }
        let range = self.tape.params[param].range.clone();
        let s = self.storage(range.len());
        self.storages[s].place = Place::At(range.start);
        if self.accumulates {
            self.storages[s].first = 0;
        }
        self.param_grad[param] = Some(s);
        (s, false)
    }

    pub(super) fn check_gradients(&self) -> Result<()> {
        let missing: Vec<&str> = self
            .tape
            .params
            .iter()
            .zip(&self.param_grad)
            .filter(|(p, grad)| p.trainable && grad.is_none())
            .map(|(p, _)| p.name.as_str())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let error = Error::new(
            Kind::Gradient,
            "autograd",
            format!("{} trainable parameters would get no gradient", missing.len()),
        )
        .hint("use them on the way to the loss, or freeze them");
        Err(missing.into_iter().fold(error, Error::fact))
    }

    #[allow(clippy::type_complexity)]
    pub(super) fn finish(mut self) -> (Vec<Step<Range<usize>>>, usize, Vec<(Value, Range<usize>)>) {
        let end = self.steps.len();
        let kept: Vec<(Value, usize)> = self
            .tape
            .values
            .iter()
            .enumerate()
            .filter(|(_, info)| info.kept)
            .filter_map(|(i, _)| self.value[i].map(|s| (Value(i), s)))
            .collect();
        for (_, s) in &kept {
            self.storages[*s].last = end;
            self.storages[*s].place = Place::Behind;
        }
        for s in self.param_grad.iter().flatten() {
            self.storages[*s].last = end;
        }
        let (places, memory) = place(&self.storages, self.edge());
        let arena = memory - self.edge();
        let kept = kept.into_iter().map(|(v, s)| (v, places[s].clone())).collect();
        let steps = self.steps.into_iter().map(|s| s.placed(&places)).collect();
        (steps, arena, kept)
    }
}
