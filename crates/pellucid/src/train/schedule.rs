//! The learning rate, a pure function of the step: nothing to save, nothing to lose.

use super::run::RunConfig;
use serde::{Deserialize, Serialize};

/// The shape after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine from `lr` to `min_lr` (Loshchilov & Hutter 2017).
    Cosine,
    /// A straight line from `lr` to `min_lr`.
    Linear,
    /// `lr sqrt(warmup / step)`, not below `min_lr` (Vaswani et al. 2017, section 5.3).
    InverseSqrt,
    /// `lr` for ever.
    Constant,
    /// Warm-up, stable, decay: `lr`, then `1 - sqrt` down to `min_lr` (Hägele et al. 2024).
    Wsd,
}

/// A schedule with all its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The shape after the warm-up.
    pub kind: ScheduleKind,
    /// Peak.
    pub lr: f64,
    /// Floor of the decay.
    pub min_lr: f64,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Cosine, linear: where the floor is reached; wsd: how long the decay is.
    pub decay_steps: u64,
    /// All steps of the run.
    pub steps: u64,
}

impl Schedule {
    /// From resolved settings ([`RunConfig::resolved`]).
    #[must_use]
    pub fn new(run: &RunConfig) -> Self {
        let lr = run.optimizer.lr.unwrap_or(1e-3);
        Self {
            kind: run.schedule.kind,
            lr,
            min_lr: run.optimizer.min_lr.unwrap_or(lr / 10.0),
            warmup: run.warmup(),
            decay_steps: run.schedule.decay_steps.unwrap_or(run.train.steps),
            steps: run.train.steps,
        }
    }

    /// Learning rate of the update with index `step`; the first is 0.
    #[must_use]
    pub fn lr(&self, step: u64) -> f64 {
        let fall = |coefficient: f64| self.min_lr + coefficient * (self.lr - self.min_lr);
        if self.kind == ScheduleKind::InverseSqrt {
            // The two branches meet at step + 1 = warmup.
            let (s, w) = (step as f64 + 1.0, self.warmup.max(1) as f64);
            return if s <= w {
                self.lr * s / w
            } else {
                (self.lr * (w / s).sqrt()).max(self.min_lr)
            };
        }
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        match self.kind {
            ScheduleKind::Constant | ScheduleKind::InverseSqrt => self.lr,
            ScheduleKind::Cosine | ScheduleKind::Linear if step > self.decay_steps => self.min_lr,
            ScheduleKind::Cosine => {
                let r = ratio(step - self.warmup, self.decay_steps - self.warmup);
                fall(0.5 * (1.0 + (std::f64::consts::PI * r).cos()))
            }
            ScheduleKind::Linear => {
                fall(1.0 - ratio(step - self.warmup, self.decay_steps - self.warmup))
            }
            ScheduleKind::Wsd => {
                let start = self.steps.saturating_sub(self.decay_steps);
                fall(1.0 - ratio(step.saturating_sub(start), self.decay_steps).min(1.0).sqrt())
            }
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, lr: 1.0, min_lr: 0.1, warmup: 10, decay_steps: 110, steps: 110 }
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12, "{a} {b}");
    }

    /// Values by hand; the warm-up is (step + 1) / (warmup + 1), as in nanoGPT.
    #[test]
    fn warm_up_rises_in_a_line_and_the_peak_follows_it() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Constant] {
            near(schedule(kind).lr(0), 1.0 / 11.0);
            near(schedule(kind).lr(9), 10.0 / 11.0);
            near(schedule(kind).lr(10), 1.0);
        }
        let none = Schedule { warmup: 0, ..schedule(ScheduleKind::Cosine) };
        near(none.lr(0), 1.0);
    }

    #[test]
    fn each_shape_passes_through_its_known_points() {
        let s = schedule(ScheduleKind::Cosine);
        near(s.lr(35), 0.1 + 0.9 * 0.5 * (1.0 + 0.5f64.sqrt()));
        near(s.lr(60), 0.55);
        near(s.lr(110), 0.1);
        near(s.lr(111), 0.1);
        near(s.lr(9999), 0.1);
        let s = schedule(ScheduleKind::Linear);
        near(s.lr(35), 0.775);
        near(s.lr(110), 0.1);
        near(s.lr(200), 0.1);
        let s = schedule(ScheduleKind::InverseSqrt);
        near(s.lr(0), 0.1);
        near(s.lr(9), 1.0);
        near(s.lr(39), 0.5);
        near(s.lr(100_000), 0.1);
        near(schedule(ScheduleKind::Constant).lr(5000), 1.0);
        let s = Schedule { decay_steps: 40, ..schedule(ScheduleKind::Wsd) };
        near(s.lr(10), 1.0);
        near(s.lr(70), 1.0);
        near(s.lr(80), 0.1 + 0.9 * 0.5);
        near(s.lr(110), 0.1);
        near(s.lr(111), 0.1);
    }

    /// nanoGPT's `get_lr`, written from its description: warm-up, then cosine, then the floor.
    #[test]
    fn cosine_is_nanogpts_formula_at_its_shakespeare_settings() {
        let s = Schedule {
            kind: ScheduleKind::Cosine,
            lr: 1e-3,
            min_lr: 1e-4,
            warmup: 100,
            decay_steps: 5000,
            steps: 5000,
        };
        for it in 0..5200u64 {
            let expected = if it < 100 {
                1e-3 * (it as f64 + 1.0) / 101.0
            } else if it > 5000 {
                1e-4
            } else {
                let decay_ratio = (it as f64 - 100.0) / (5000.0 - 100.0);
                1e-4 + 0.5 * (1.0 + (std::f64::consts::PI * decay_ratio).cos()) * (1e-3 - 1e-4)
            };
            assert!((s.lr(it) - expected).abs() <= 1e-18, "{it}");
        }
    }
}
