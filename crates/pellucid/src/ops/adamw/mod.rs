//! AdamW: Adam with decoupled weight decay. Not an operation of the tape: it writes weights.
//!
//! With `g' = multiplier·g`, `k` the number of this step from 1 (Loshchilov and Hutter 2019, in the order of
//! `torch.optim.AdamW`):
//! `p ← p·(1 - lr·decay)`, `m ← m + (g' - m)(1-β₁)`, `v ← β₂v + (1-β₂)g'²`,
//! `p ← p - lr/(1-β₁ᵏ) · m / (√v/√(1-β₂ᵏ) + ε)`.
//!
//! Slices `p`, `g`, `m`, `v`, equally long. One pass: reads 16 and writes 12 bytes an element.

mod cpu;
/// The definition.
pub mod reference;

use crate::backend::cpu::pool::{Pool, Ptr};
use crate::error::{Error, Kind, Result};

/// Elements whose squares are added up by one thread: the sum's order is then one, whatever the thread count.
const NORM_BLOCK: usize = 1 << 14;

/// The optimiser's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Memory of the mean, `β₁`.
    pub beta1: f64,
    /// Memory of the square, `β₂`.
    pub beta2: f64,
    /// Keeps the denominator from 0, `ε`.
    pub eps: f64,
}

impl Default for AdamW {
    /// GPT-3's: 0.9, 0.95, 1e-8.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8 }
    }
}

/// What differs between steps and groups of parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Learning rate.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
    /// What gradients are multiplied by first (clipping).
    pub multiplier: f64,
}

impl AdamW {
    /// One step: `p`, `m` and `v` change. Errors (`Shape`) on slices of different lengths or step 0.
    pub fn update(
        &self,
        pool: &Pool,
        step: Step,
        p: &mut [f32],
        g: &[f32],
        m: &mut [f32],
        v: &mut [f32],
    ) -> Result<()> {
        let n = p.len();
        if g.len() != n || m.len() != n || v.len() != n || step.step == 0 {
            return Err(Error::new(
                Kind::Shape,
                "adamw",
                format!(
                    "step {}, {n} parameters, {} gradients, {} means, {} squares; steps count from 1 and lengths must agree",
                    step.step,
                    g.len(),
                    m.len(),
                    v.len()
                ),
            ));
        }
        cpu::update(pool, &self.factors(step), p, g, m, v);
        Ok(())
    }

    fn factors(&self, step: Step) -> cpu::Factors {
        let power = step.step as f64;
        let root = (1.0 - self.beta2.powf(power)).sqrt();
        cpu::Factors {
            keep: (1.0 - step.lr * step.weight_decay) as f32,
            multiplier: step.multiplier as f32,
            new1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            new2: (1.0 - self.beta2) as f32,
            root: root as f32,
            eps: self.eps as f32,
            rate: (step.lr / (1.0 - self.beta1.powf(power))) as f32,
        }
    }
}

/// `√Σ g²` over all gradients, added up in f64; the bits do not depend on the thread count.
/// NaN or infinite exactly if some element is.
#[must_use]
pub fn global_norm(pool: &Pool, grads: &[&[f32]]) -> f64 {
    let blocks: Vec<&[f32]> = grads.iter().flat_map(|g| g.chunks(NORM_BLOCK)).collect();
    let mut sums = vec![0.0f64; blocks.len()];
    let to = Ptr(sums.as_mut_ptr());
    pool.split(blocks.len(), 1, &|range| cpu::squares(&blocks[range.clone()], to, range.start));
    sums.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;

// This room does not know parameter groups, schedules, or which parameters decay.
