//! One update: forward and backward over the micro-batches, clip, learning rate, AdamW.

use super::clip;
use super::evaluate::Batches;
use super::optimizer::AdamW;
use super::schedule::Schedule;
use crate::autograd::{RunInfo, UNWRITTEN};
use crate::backend::buffer::Buffer;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
pub use crate::model::train_graph::IGNORE;
use crate::model::train_graph::{Batch, TrainGraph, counted};
use crate::model::weights::{ParamSpec, Weights};
use std::time::Instant;

/// A loss with gradients; what the loop needs of a model.
pub trait Graph {
    /// Loss of one micro-batch. Gradients go to `grads`, flat like the weights: overwritten when `first`, else added.
    fn step(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        grads: &mut [f32],
        first: bool,
        batch: &Batch,
        run: RunInfo,
    ) -> Result<f32>;
    /// Mean loss, and the loss of each target, 0 where ignored.
    fn evaluate(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        batch: &Batch,
    ) -> Result<(f32, Vec<f32>)>;
    /// Targets of the last evaluated batch whose label had the highest score, where labels are scored.
    fn right(&self) -> Option<u64> {
        None
    }
    /// Bytes of activations that were planned.
    fn activation_bytes(&self) -> usize;
}

impl Graph for TrainGraph {
    fn step(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        grads: &mut [f32],
        first: bool,
        batch: &Batch,
        run: RunInfo,
    ) -> Result<f32> {
        Self::step(self, pool, weights, grads, first, batch, run)
    }
    fn evaluate(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        batch: &Batch,
    ) -> Result<(f32, Vec<f32>)> {
        Self::evaluate(self, pool, weights, batch)
    }
    fn right(&self) -> Option<u64> {
        Self::right(self)
    }
    fn activation_bytes(&self) -> usize {
        Self::activation_bytes(self)
    }
}

/// What happened in one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Updates done, this one included.
    pub step: u64,
    /// Mean training loss over all targets, before the update.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Tokens of this update.
    pub tokens: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Buffers that live as long as the run.
#[derive(Debug)]
pub struct Stepper {
    /// Gradients, flat like the weights.
    pub grads: Buffer,
    /// Micro-batches of an update.
    batches: Vec<Batch>,
    seed: u64,
    clip: f64,
    checked: bool,
    /// What the check after the first update found: parameters whose gradient is all zero.
    pub zero_gradients: Vec<String>,
}

impl Stepper {
    /// Buffers for `parameters` elements; updates of `accumulation` micro-batches.
    #[must_use]
    pub fn new(parameters: usize, accumulation: usize, seed: u64, clip: f64) -> Self {
        Self {
            grads: Buffer::zeros(parameters),
            batches: vec![Batch::default(); accumulation],
            seed,
            clip,
            checked: false,
            zero_gradients: vec![],
        }
    }

    /// A micro-batch's memory, for another use between updates.
    pub fn micro_batch(&mut self) -> &mut Batch {
        &mut self.batches[0]
    }

    /// Update number `step`, counted from 0. On an error the weights and moments are untouched.
    pub fn step(
        &mut self,
        pool: &Pool,
        graph: &mut dyn Graph,
        data: &dyn Batches,
        weights: &mut Weights,
        (optimizer, schedule): (&mut AdamW, &Schedule),
        step: u64,
    ) -> Result<StepReport> {
        let start = Instant::now();
        let mut loss = 0.0f64;
        if !self.checked {
            // The gradients of what is frozen are never touched, so they cost no memory.
            for range in optimizer.ranges(weights.specs()) {
                self.grads[range].fill(f32::from_bits(UNWRITTEN));
            }
        }
        let first = step * self.batches.len() as u64;
        for (number, batch) in (first..).zip(&mut self.batches) {
            data.train(number, batch)?;
        }
        // A micro-batch weighs as much as it has targets, so that cutting a batch changes nothing.
        let all = self.batches.iter().map(|b| counted(&b.targets)).sum::<usize>().max(1) as f64;
        for (number, batch) in (first..).zip(&self.batches) {
            let share = counted(&batch.targets) as f64 / all;
            let grad_scale = share as f32;
            let run = RunInfo { training: true, seed: self.seed, step: number, grad_scale };
            let grads = &mut self.grads;
            let part = graph.step(pool, weights, grads, number == first, batch, run)?;
            loss += f64::from(part) * share;
        }
        if !self.checked {
            self.check_first_gradients(weights.specs(), &optimizer.trainable())?;
        }
        if !loss.is_finite() {
            return Err(not_a_number(step, &self.grads, &moving(weights, optimizer), loss));
        }
        let grad_norm = clip::norm(pool, &self.grads, &optimizer.ranges(weights.specs()));
        if !grad_norm.is_finite() {
            return Err(not_a_number(step, &self.grads, &moving(weights, optimizer), loss));
        }
        let lr = schedule.lr(step);
        let scale = clip::scale(grad_norm, self.clip);
        optimizer.update(pool, weights, &self.grads, step, (lr, scale))?;
        let tokens = self.batches.iter().map(|b| b.tokens() as u64).sum();
        let seconds = start.elapsed().as_secs_f64();
        Ok(StepReport { step: step + 1, loss, grad_norm, lr, tokens, seconds })
    }

    /// A gradient may be missing only loudly.
    fn check_first_gradients(&mut self, specs: &[ParamSpec], trainable: &[usize]) -> Result<()> {
        self.checked = true;
        let mut missing = Vec::new();
        for spec in trainable.iter().map(|&index| &specs[index]) {
            let piece = &self.grads[spec.range()];
            let unwritten = piece.iter().filter(|x| x.to_bits() == UNWRITTEN).count();
            // A first factor of LoRA meets a second one that is still zero.
            let expected = spec.name.ends_with(".lora.a");
            if unwritten > 0 {
                missing.push(format!("{}: {unwritten} of {} elements", spec.name, spec.len()));
            } else if !expected && piece.iter().all(|x| *x == 0.0) {
                self.zero_gradients.push(spec.name.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let message = "no gradient was computed for trainable parameters";
        let error = Error::new(Kind::Gradient, "train", message)
            .hint("freeze them with optimizer.frozen, or connect them to the loss");
        Err(missing.into_iter().fold(error, Error::fact))
    }
}

/// The parameters that move.
fn moving(weights: &Weights, optimizer: &AdamW) -> Vec<ParamSpec> {
    optimizer.trainable().into_iter().map(|i| weights.specs()[i].clone()).collect()
}

fn not_a_number(step: u64, grads: &[f32], specs: &[ParamSpec], loss: f64) -> Error {
    let message = if loss.is_finite() {
        format!("a gradient is not a finite number at step {}", step + 1)
    } else {
        format!("the loss is {loss} at step {}", step + 1)
    };
    let error = Error::new(Kind::Numeric, "train", message)
        .hint("lower optimizer.lr, lengthen schedule.warmup, set optimizer.clip, or train in f32");
    match clip::first_not_finite(grads, specs) {
        Some((name, at, value)) => {
            error.fact(format!("first bad gradient: {name}, element {at} is {value}"))
        }
        None => error.fact("every gradient is finite"),
    }
}
