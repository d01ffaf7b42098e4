//! One planned tape of a whole model and where its ends are; tapes of several shapes in one memory.

use super::batch::{Batch, IGNORE, Pass};
use super::builder::{Builder, Inputs, Purpose, Shape};
use super::config::{Config, Pooling};
use super::head;
use super::site::Sizes;
use super::standing::{self, Standing};
use super::stored_weights::StoredWeights;
use super::transformer::transformer;
use crate::autograd::{Ints, Plan, Session, Training, Value};
use crate::backend::buffer::Buffer;
use crate::backend::cpu::gemm::Precision;
use crate::error::Result;
use std::collections::BTreeSet;

/// What a tape is recorded for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aim {
    /// Loss and gradients.
    Train(Training),
    /// The loss alone.
    Loss,
    /// Scores, (B, T, V), (B, T, labels) or (B, labels).
    Scores,
    /// The vector that stands for each text, (B, C): the model's own, or pooled so and left at that.
    Pooled(Option<Pooling>),
    /// Every position's vector, (B, T, C).
    Vectors,
}

/// A planned tape.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) session: Session,
    shape: Shape,
    source: Option<Inputs>,
    inputs: Inputs,
    targets: Option<Ints>,
    /// Loss, each row's own and, where labels are only evaluated, their scores; or what was aimed at.
    pub(super) outputs: Vec<Value>,
}

/// How a tape is recorded, whatever its shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe<'a> {
    pub(super) config: &'a Config,
    pub(super) aim: Aim,
    pub(super) precision: Precision,
    /// Of labels.
    pub(super) smoothing: f32,
    pub(super) stored: Option<&'a StoredWeights>,
    pub(super) threads: usize,
    /// Names of parameters that need no gradient.
    pub(super) frozen: Option<&'a BTreeSet<String>>,
    /// Changes that hold at every position.
    pub(super) standing: &'a [Standing],
}

impl Graph {
    pub(super) fn new(recipe: &Recipe<'_>, shape: Shape) -> Result<Self> {
        let Recipe { config, aim, precision, smoothing, stored, threads, frozen, standing } =
            *recipe;
        let purpose = if matches!(aim, Aim::Train(_)) { Purpose::Train } else { Purpose::Observe };
        let mut m = Builder::new(config, shape, purpose, precision, stored)?;
        standing::watch(&mut m, standing);
        let source = config.has_source().then_some(m.inputs);
        let x = transformer(&mut m, shape.t)?;
        let inputs = m.inputs;
        let (mut targets, mut outputs) = (None, vec![]);
        match aim {
            Aim::Train(_) | Aim::Loss => {
                let ints = m.tape.ints(head::targets(config, shape.b, shape.t));
                targets = Some(ints);
                outputs.extend(head::loss(&mut m, x, ints, smoothing)?);
                if aim == Aim::Loss && config.is_classifier() {
                    outputs.push(head::logits(&mut m, x)?);
                }
            }
            Aim::Scores => outputs.push(head::logits(&mut m, x)?),
            Aim::Pooled(None) => outputs.push(head::pooled(&mut m, x)?),
            Aim::Pooled(Some(pooling)) => outputs.push(head::pool(&mut m, x, pooling)?),
            Aim::Vectors => outputs.push(x),
        }
        outputs.iter().for_each(|&value| m.tape.keep(value));
        m.check_watch()?;
        let sizes = Sizes { b: shape.b, t: shape.t, s: shape.s };
        standing::put(&m.seen, config, (sizes, None), standing)?;
        let plan = match aim {
            Aim::Train(training) => {
                m.tape.freeze(|name| frozen.is_some_and(|all| all.contains(name)));
                Plan::train(m.tape, outputs[0], training, threads)?
            }
            _ => Plan::infer(m.tape, threads)?,
        };
        Ok(Self { session: Session::new(plan), shape, source, inputs, targets, outputs })
    }

    /// Puts the rows of a pass in; missing ones are one token 0 without a target.
    pub(super) fn fill(&mut self, batch: &Batch, pass: &Pass) {
        let Shape { b, t, s } = self.shape;
        let rows = &pass.rows;
        let session = &mut self.session;
        let length = |row: usize| batch.length(row);
        let source_length = |row: usize| batch.source_length(row);
        put(session.ints_mut(self.inputs.ids), t, (&batch.ids, batch.time), rows, 0);
        lengths(session.ints_mut(self.inputs.new), rows, length);
        if let Some(segments) = self.inputs.segments {
            put(session.ints_mut(segments), t, (&batch.segments, batch.time), rows, 0);
        }
        if let Some(source) = self.source {
            let from = (&*batch.source, batch.source_time);
            put(session.ints_mut(source.ids), s, from, rows, 0);
            lengths(session.ints_mut(source.new), rows, source_length);
        }
        if let Some(targets) = self.targets {
            let to = session.ints_mut(targets);
            let (to_row, from_row) = if to.len() == b && batch.targets.len() == batch.rows {
                (1, 1)
            } else {
                (t, batch.time)
            };
            put(to, to_row, (&batch.targets, from_row), rows, IGNORE);
        }
    }
}

/// Copies `rows` of `from` into rows of `row` elements; what is missing, to the right and below, is `with`.
fn put(to: &mut [i32], row: usize, (from, from_row): (&[i32], usize), rows: &[usize], with: i32) {
    to.fill(with);
    if from.is_empty() {
        return;
    }
    let n = row.min(from_row);
    for (to, &r) in to.chunks_exact_mut(row).zip(rows) {
        to[..n].copy_from_slice(&from[r * from_row..][..n]);
    }
}

fn lengths(to: &mut [i32], rows: &[usize], length: impl Fn(usize) -> usize) {
    to.fill(1);
    to.iter_mut().zip(rows).for_each(|(to, &row)| *to = length(row) as i32);
}

/// Graphs of several shapes that work in the same memory, one after another.
#[derive(Debug, Default)]
pub(super) struct Graphs {
    all: Vec<Graph>,
    memory: Buffer,
    measure: bool,
}

impl Graphs {
    /// The graph of a shape, planned when first needed, and the memory to run it in.
    pub(super) fn of(
        &mut self,
        recipe: &Recipe<'_>,
        shape: Shape,
    ) -> Result<(&mut Graph, &mut Buffer)> {
        let at = match self.all.iter().position(|g| g.shape == shape) {
            Some(at) => at,
            None => {
                let mut graph = Graph::new(recipe, shape)?;
                graph.session.measure(self.measure);
                self.all.push(graph);
                self.all.len() - 1
            }
        };
        Ok((&mut self.all[at], &mut self.memory))
    }

    /// Bytes of working memory of the largest.
    pub(super) fn bytes(&self) -> usize {
        self.all.iter().map(|g| g.session.bytes()).max().unwrap_or(0)
    }

    pub(super) fn measure(&mut self, on: bool) {
        self.measure = on;
        self.all.iter_mut().for_each(|g| g.session.measure(on));
    }

    /// The memory, lent to other graphs between runs.
    pub(super) fn memory(&mut self) -> &mut Buffer {
        &mut self.memory
    }
}
