//! Learning a sparse autoencoder from vectors that are given batch by batch: Adam, directions held at length 1.

use super::autoencoder::{Sae, to_unit};
use super::config::{Normalize, SaeConfig, SaeKind};
use super::gradient::{Gradient, Wishes, gradient};
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};

/// How it learns.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Batches; the rate falls to 0 over the last fifth.
    pub steps: usize,
    /// Adam's rate.
    pub rate: f32,
    /// λ: of the sum of activations (standard), or of their number (jumprelu).
    pub sparsity: f32,
    /// Where thresholds of jumprelu begin.
    pub threshold: f32,
    /// Width of the window through which they learn.
    pub bandwidth: f32,
    /// Batches without an activation after which a direction is silent.
    pub dead_after: usize,
    /// Weight of what silent directions are to explain of the error (topk and batchtopk).
    pub auxiliary: f32,
    /// Whether vectors are scaled so that their mean length is √d_in; the factor of the first batch, folded into the
    /// matrices at the end.
    pub scale: bool,
    /// Of the first directions.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            steps: 1000,
            rate: 3e-4,
            sparsity: 1.0,
            threshold: 0.01,
            bandwidth: 0.05,
            dead_after: 200,
            auxiliary: 1.0 / 32.0,
            scale: true,
            seed: 1,
        }
    }
}

/// What a step saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean of ‖x̂ - x‖², of scaled vectors.
    pub reconstruction: f64,
    /// λ times what is held down.
    pub sparsity: f64,
    /// Of the silent directions.
    pub auxiliary: f64,
    /// Mean number of activations.
    pub l0: f64,
    /// Silent directions.
    pub dead: usize,
}

/// Adam's memory of one tensor.
#[derive(Clone, Debug, Default)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    /// One step of `w`; `t` counts from 1.
    fn step(&mut self, w: &mut [f32], gradient: &[f32], rate: f32, t: usize) {
        let (b1, b2) = (0.9f32, 0.999f32);
        self.first.resize(w.len(), 0.0);
        self.second.resize(w.len(), 0.0);
        let (c1, c2) = (1.0 - b1.powi(t as i32), 1.0 - b2.powi(t as i32));
        for (i, (w, &g)) in w.iter_mut().zip(gradient).enumerate() {
            let (m, v) = (&mut self.first[i], &mut self.second[i]);
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *w -= rate * (*m / c1) / ((*v / c2).sqrt() + 1e-8);
        }
    }
}

/// A sparse autoencoder that is learning.
#[derive(Debug)]
pub struct Trainer {
    sae: Sae,
    recipe: Recipe,
    moments: [Moments; 5],
    /// Batches since each direction was active.
    silent: Vec<usize>,
    /// Of jumprelu's thresholds, which stay above 0 so.
    log_threshold: Vec<f32>,
    /// Running mean of the smallest activation (batchtopk), and of its weights.
    smallest: (f64, f64),
    /// What vectors are multiplied by; none before the first batch.
    factor: Option<f32>,
    step: usize,
}

impl Trainer {
    /// Begins with random directions.
    ///
    /// # Errors
    /// Sizes that do not fit together; no steps; a normalisation that is not learnt with.
    pub fn new(config: SaeConfig, recipe: Recipe) -> Result<Self> {
        let error = |message: &str| Err(Error::new(Kind::Config, "train sae", message));
        if config.normalize_activations != Normalize::None {
            return error("vectors are learnt as they are or scaled by one factor")
                .map_err(|e| e.hint("leave normalize_activations at none and set `scale`"));
        }
        if recipe.steps == 0 || !(recipe.threshold > 0.0) || !(recipe.bandwidth > 0.0) {
            return error("at least one step, and a threshold and a bandwidth above 0 are needed");
        }
        let mut sae = Sae::new(config, recipe.seed)?;
        sae.threshold.fill(recipe.threshold);
        Ok(Self {
            moments: Default::default(),
            silent: vec![0; sae.config.d_sae],
            log_threshold: vec![recipe.threshold.ln(); sae.threshold.len()],
            smallest: (0.0, 0.0),
            factor: None,
            step: 0,
            sae,
            recipe,
        })
    }

    /// It as it is now, of scaled vectors.
    #[must_use]
    pub fn sae(&self) -> &Sae {
        &self.sae
    }

    /// Learns from vectors (N, d_in).
    ///
    /// # Errors
    /// Vectors of another width, or none; a loss that is no number.
    pub fn step(&mut self, pool: &Pool, x: &[f32]) -> Result<Step> {
        let d = self.sae.config.d_in;
        if x.is_empty() || !x.len().is_multiple_of(d) {
            let message = format!("{} elements, but vectors have {d}", x.len());
            return Err(Error::new(Kind::Shape, "train sae", message));
        }
        let n = x.len() / d;
        let factor = match self.factor {
            Some(factor) => factor,
            None => self.begin(x),
        };
        let x: Vec<f32> = x.iter().map(|x| factor * x).collect();
        let dead: Vec<bool> = self.silent.iter().map(|&s| s >= self.recipe.dead_after).collect();
        let picks = matches!(self.sae.config.architecture, SaeKind::TopK | SaeKind::BatchTopK);
        let wishes = Wishes {
            sparsity: self.recipe.sparsity,
            bandwidth: self.recipe.bandwidth,
            auxiliary: if picks { self.recipe.auxiliary } else { 0.0 },
            dead: &dead,
        };
        let mut g = gradient(&self.sae, pool, &x, wishes);
        if !(g.reconstruction.is_finite() && g.sparsity.is_finite()) {
            let message = format!("the loss of step {} is {}", self.step, g.reconstruction);
            return Err(Error::new(Kind::Numeric, "train sae", message).hint("lower the rate"));
        }
        self.count(&g.active);
        self.update(&mut g);
        let l0 = g.active.iter().filter(|a| **a > 0.0).count() as f64 / n as f64;
        let dead = self.silent.iter().filter(|&&s| s >= self.recipe.dead_after).count();
        let (reconstruction, sparsity, auxiliary) = (g.reconstruction, g.sparsity, g.auxiliary);
        Ok(Step { reconstruction, sparsity, auxiliary, l0, dead })
    }

    /// One step of Adam.
    fn update(&mut self, g: &mut Gradient) {
        let d = self.sae.config.d_in;
        // What would lengthen a direction is undone below, and must not fill Adam's memory.
        for (row, g) in self.sae.w_dec.chunks_exact(d).zip(g.w_dec.chunks_exact_mut(d)) {
            let along: f32 = row.iter().zip(&*g).map(|(w, g)| w * g).sum();
            g.iter_mut().zip(row).for_each(|(g, w)| *g -= along * w);
        }
        for (g, threshold) in g.threshold.iter_mut().zip(&self.sae.threshold) {
            *g *= threshold;
        }
        self.step += 1;
        let left = 1.0 - (self.step - 1) as f32 / self.recipe.steps as f32;
        let rate = self.recipe.rate * (5.0 * left).clamp(0.0, 1.0);
        let sae = &mut self.sae;
        let tensors: [(&mut [f32], &[f32]); 5] = [
            (&mut sae.w_enc, &g.w_enc),
            (&mut sae.b_enc, &g.b_enc),
            (&mut sae.w_dec, &g.w_dec),
            (&mut sae.b_dec, &g.b_dec),
            (&mut self.log_threshold, &g.threshold),
        ];
        for (moments, (w, g)) in self.moments.iter_mut().zip(tensors) {
            moments.step(w, g, rate, self.step);
        }
        to_unit(&mut sae.w_dec, d);
        sae.threshold.iter_mut().zip(&self.log_threshold).for_each(|(t, l)| *t = l.exp());
    }

    /// The factor of the first batch, whose mean is where the decoder begins.
    fn begin(&mut self, x: &[f32]) -> f32 {
        let d = self.sae.config.d_in;
        let n = (x.len() / d) as f64;
        let length = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let mean = x.chunks_exact(d).map(length).sum::<f64>() / n;
        let factor = match self.recipe.scale && mean > 0.0 {
            true => ((d as f64).sqrt() / mean) as f32,
            false => 1.0,
        };
        for (i, b) in self.sae.b_dec.iter_mut().enumerate() {
            let sum: f64 = x.chunks_exact(d).map(|row| f64::from(row[i])).sum();
            *b = factor * (sum / n) as f32;
        }
        self.factor = Some(factor);
        factor
    }

    /// Who was silent, and the smallest activation.
    fn count(&mut self, active: &[f32]) {
        let m = self.silent.len();
        self.silent.iter_mut().for_each(|s| *s += 1);
        let mut least = f32::INFINITY;
        for row in active.chunks_exact(m) {
            for (s, &a) in self.silent.iter_mut().zip(row).filter(|(_, a)| **a > 0.0) {
                *s = 0;
                least = least.min(a);
            }
        }
        if least.is_finite() {
            let (mean, weight) = self.smallest;
            self.smallest = (0.99 * mean + 0.01 * f64::from(least), 0.99 * weight + 0.01);
        }
    }

    /// It as it is used: of vectors as they are; batchtopk becomes jumprelu with the mean smallest activation as
    /// every direction's threshold.
    #[must_use]
    pub fn finish(self) -> Sae {
        let Self { mut sae, factor, smallest, .. } = self;
        if sae.config.architecture == SaeKind::BatchTopK {
            let threshold = if smallest.1 > 0.0 { smallest.0 / smallest.1 } else { 0.0 };
            sae.config.architecture = SaeKind::JumpReLU;
            sae.config.k = None;
            sae.threshold = vec![threshold as f32; sae.config.d_sae];
        }
        let factor = factor.unwrap_or(1.0);
        sae.w_enc.iter_mut().for_each(|w| *w *= factor);
        sae.w_dec.iter_mut().for_each(|w| *w /= factor);
        sae.b_dec.iter_mut().for_each(|b| *b /= factor);
        sae
    }
}
