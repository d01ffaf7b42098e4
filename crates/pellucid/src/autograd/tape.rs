//! What is recorded: operations in order, and the values, parameters and integers they read and write.

use super::op::{InferenceOp, MAX_OPERANDS, Op, Operands};
use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// A value on the tape: the output of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(super) usize);

/// An integer input, filled before each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ints(pub(super) usize);

/// A parameter: a piece of the flat weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param(pub(super) usize);

/// Memory that outlives a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub(super) usize);

#[derive(Debug)]
pub(super) enum Operation {
    Differentiable(Box<dyn Op>),
    InferenceOnly(Box<dyn InferenceOp>),
}

impl Operation {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Differentiable(op) => op.name(),
            Self::InferenceOnly(op) => op.name(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) operation: Operation,
    pub(super) label: String,
    pub(super) inputs: Vec<Value>,
    pub(super) ints: Vec<Ints>,
    pub(super) params: Vec<Param>,
    pub(super) states: Vec<State>,
    pub(super) outputs: Vec<Value>,
    pub(super) segment: Option<usize>,
}

#[derive(Debug)]
pub(super) struct ValueInfo {
    pub(super) len: usize,
    pub(super) producer: usize,
    pub(super) kept: bool,
    /// A gradient is wanted here even if no parameter needs it.
    pub(super) wanted: bool,
}

#[derive(Clone, Debug)]
pub(super) struct ParamInfo {
    pub(super) name: String,
    pub(super) range: Range<usize>,
    pub(super) trainable: bool,
}

/// Records operations. It knows none of them by name.
#[derive(Debug, Default)]
pub struct Tape {
    pub(super) nodes: Vec<Node>,
    pub(super) values: Vec<ValueInfo>,
    pub(super) ints: Vec<usize>,
    pub(super) params: Vec<ParamInfo>,
    pub(super) states: Vec<usize>,
    label: String,
    segment: Option<usize>,
    segments: usize,
}

fn check(
    op: &'static str,
    what: &str,
    want: &[usize],
    got: impl ExactSizeIterator<Item = usize>,
) -> Result<()> {
    let got: Vec<usize> = got.collect();
    if want == got {
        return Ok(());
    }
    Err(Error::new(
        Kind::Shape,
        op,
        format!("{what} have {got:?} elements, but this operation's sizes need {want:?}"),
    )
    .hint("the operation was built for another batch or width than its operands"))
}

fn check_count(op: &'static str, operands: usize) -> Result<()> {
    if operands <= MAX_OPERANDS {
        return Ok(());
    }
    let message =
        format!("{operands} operands of one sort, but at most {MAX_OPERANDS} are possible");
    Err(Error::new(Kind::Shape, op, message))
}

impl Tape {
    /// An empty tape.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a parameter: where it lies in the flat weights, and whether it needs a gradient.
    pub fn param(&mut self, name: &str, range: Range<usize>, trainable: bool) -> Param {
        self.params.push(ParamInfo { name: name.into(), range, trainable });
        Param(self.params.len() - 1)
    }

    /// Declares an integer input of `len` elements.
    pub fn ints(&mut self, len: usize) -> Ints {
        self.ints.push(len);
        Ints(self.ints.len() - 1)
    }

    /// Declares memory of `len` elements that outlives a run; zero at first.
    pub fn state(&mut self, len: usize) -> State {
        self.states.push(len);
        State(self.states.len() - 1)
    }

    /// Names what is recorded from here on, for errors and profiles: `blocks.3.attn`.
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// From here to [`Tape::end_segment`], values may be thrown away and computed again for the backward pass.
    pub fn begin_segment(&mut self) {
        self.segment = Some(self.segments);
        self.segments += 1;
    }

    /// Ends the segment.
    pub fn end_segment(&mut self) {
        self.segment = None;
    }

    /// Keeps a value readable after the run.
    pub fn keep(&mut self, value: Value) {
        self.values[value.0].kept = true;
    }

    /// Demands the gradient of a value, though no parameter before it needs one.
    pub fn want_gradient(&mut self, value: Value) {
        self.values[value.0].wanted = true;
    }

    /// Elements of a value.
    #[must_use]
    pub fn len(&self, value: Value) -> usize {
        self.values[value.0].len
    }

    /// Elements that the gradients of all trainable parameters need, flat like the weights.
    pub(super) fn trained(&self) -> usize {
        let ends = self.params.iter().filter(|p| p.trainable).map(|p| p.range.end);
        ends.max().unwrap_or(0).next_multiple_of(16)
    }

    /// Of each value: whether a parameter before it is trained, or somebody wants its gradient or that of a value
    /// before it.
    pub(super) fn need_gradients(&self) -> Vec<bool> {
        let mut need = vec![false; self.values.len()];
        for node in &self.nodes {
            let needed = node.params.iter().any(|p| self.params[p.0].trainable)
                || node.inputs.iter().any(|v| need[v.0]);
            for v in &node.outputs {
                need[v.0] = needed || self.values[v.0].wanted;
            }
        }
        need
    }

    /// Says that parameters which `frozen` names need no gradient.
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) {
        self.params.iter_mut().filter(|p| frozen(&p.name)).for_each(|p| p.trainable = false);
    }

    /// Whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Records a differentiable operation and returns its outputs.
    pub fn push(
        &mut self,
        op: impl Op + 'static,
        inputs: &[Value],
        ints: &[Ints],
        params: &[Param],
    ) -> Result<Operands<Value>> {
        let name = op.name();
        self.check_operands(
            name,
            (&op.inputs(), inputs),
            (&op.ints(), ints),
            (&op.params(), params),
        )?;
        if (1..inputs.len()).any(|i| inputs[..i].contains(&inputs[i])) {
            return Err(Error::new(Kind::Shape, name, "one value is given as two inputs")
                .hint("each input needs a gradient of its own; copy the value first"));
        }
        let lens = op.outputs();
        check_count(name, lens.len().max(op.saved().len()))?;
        Ok(self.record(Operation::Differentiable(Box::new(op)), inputs, ints, params, &[], &lens))
    }

    /// Records an operation that has no backward pass; a plan for training will refuse it.
    pub fn push_inference(
        &mut self,
        op: impl InferenceOp + 'static,
        inputs: &[Value],
        ints: &[Ints],
        params: &[Param],
        states: &[State],
    ) -> Result<Operands<Value>> {
        let name = op.name();
        self.check_operands(
            name,
            (&op.inputs(), inputs),
            (&op.ints(), ints),
            (&op.params(), params),
        )?;
        check(name, "states", &op.states(), states.iter().map(|s| self.states[s.0]))?;
        if !states.is_sorted_by(|a, b| a.0 < b.0) {
            // They are lent in the order of their declaration.
            return Err(Error::new(Kind::Shape, name, "states are not in the order declared"));
        }
        let lens = op.outputs();
        check_count(name, lens.len().max(states.len()))?;
        Ok(self.record(Operation::InferenceOnly(Box::new(op)), inputs, ints, params, states, &lens))
    }

    /// What the operation was built for against what it is given.
    fn check_operands(
        &self,
        op: &'static str,
        (want_inputs, inputs): (&[usize], &[Value]),
        (want_ints, ints): (&[usize], &[Ints]),
        (want_params, params): (&[usize], &[Param]),
    ) -> Result<()> {
        check_count(op, inputs.len().max(ints.len()).max(params.len()))?;
        check(op, "inputs", want_inputs, inputs.iter().map(|v| self.values[v.0].len))?;
        check(op, "integer inputs", want_ints, ints.iter().map(|i| self.ints[i.0]))?;
        check(op, "parameters", want_params, params.iter().map(|p| self.params[p.0].range.len()))
    }

    fn record(
        &mut self,
        operation: Operation,
        inputs: &[Value],
        ints: &[Ints],
        params: &[Param],
        states: &[State],
        lens: &[usize],
    ) -> Operands<Value> {
        let producer = self.nodes.len();
        let mut outputs = Operands::new();
        for &len in lens {
            outputs.push(Value(self.values.len()));
            self.values.push(ValueInfo { len, producer, kept: false, wanted: false });
        }
        self.nodes.push(Node {
            operation,
            label: self.label.clone(),
            inputs: inputs.to_vec(),
            ints: ints.to_vec(),
            params: params.to_vec(),
            states: states.to_vec(),
            outputs: outputs.to_vec(),
            segment: self.segment,
        });
        outputs
    }
}
