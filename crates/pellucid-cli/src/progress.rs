//! What a person sees of a training run.

use crate::cmd::inspect::Costs;
use crate::measure;
use crate::out;
use crate::plan;
use crate::signal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pellucid::model::config::Config;
use pellucid::train::launch::options;
use pellucid::train::pretrain::{Control, Event, Observer};
use pellucid::train::run::{RunConfig, TaskKind};
use pellucid::train::step::StepReport;
use std::time::{Duration, Instant};

/// A bar on a terminal, a line now and then elsewhere.
pub(crate) struct Progress<'r> {
    run: &'r RunConfig,
    bar: ProgressBar,
    quiet: bool,
    /// FLOPs that an update needs, and FLOP/s that this computer reaches.
    flops: f64,
    peak: f64,
    steps: u64,
    /// Loss and, of labels, the share that is right.
    validation: Option<(f64, Option<f64>)>,
    /// Smoothed tokens per second and seconds per update.
    speed: f64,
    seconds: f64,
    last_line: Instant,
}

impl<'r> Progress<'r> {
    pub(crate) fn new(run: &'r RunConfig, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(8));
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}")
            .map(|s| s.progress_chars("━━╌"))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        let (validation, last_line) = (None, Instant::now());
        let (flops, peak, steps, speed, seconds) = (0.0, 0.0, 0, 0.0, 0.0);
        Self { run, bar, quiet, flops, peak, steps, validation, speed, seconds, last_line }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| out::complain(text));
        }
    }

    /// The yardstick: what an update needs, what this computer reaches. Only where all rows are alike.
    fn measure(&mut self, config: &Config) {
        if self.quiet || self.run.data.task != TaskKind::Language {
            return;
        }
        let time = self.run.time(config);
        let tokens = self.run.tokens_per_step(config) as f64;
        self.flops = 3.0 * Costs::of(config, time).forward as f64 * tokens;
        let pool = plan::pool(self.run.train.threads);
        self.peak = measure::peak(&pool, options(self.run, config, None).precision);
    }

    fn on_step(&mut self, report: &StepReport) {
        let (speed, seconds) = (report.tokens as f64 / report.seconds.max(1e-9), report.seconds);
        // The first steps fault memory in; later ones count for a tenth each.
        let keep = if self.speed == 0.0 || report.step < 5 { 0.0 } else { 0.9 };
        self.speed = keep * self.speed + (1.0 - keep) * speed;
        self.seconds = keep * self.seconds + (1.0 - keep) * seconds;
        let left = out::duration(self.steps.saturating_sub(report.step) as f64 * self.seconds);
        let accuracy =
            |a: Option<f64>| a.map_or(String::new(), |a| format!(", {:.1}% right", 100.0 * a));
        let validation = self
            .validation
            .map_or(String::new(), |(loss, right)| format!(" · val {loss:.3}{}", accuracy(right)));
        let share = self.flops / self.seconds.max(1e-9) / self.peak;
        let share = match share.is_finite() && self.peak > 0.0 {
            true => format!(" · {:.0}% of peak", 100.0 * share),
            false => String::new(),
        };
        let text = format!(
            "loss {:.3}{validation} · {} tokens/s{share} · {left} left",
            report.loss,
            out::short(self.speed)
        );
        self.bar.set_position(report.step);
        if self.bar.is_hidden() {
            let due = self.last_line.elapsed() >= Duration::from_secs(10);
            if due || report.step == self.steps {
                self.last_line = Instant::now();
                self.say(&format!("step {}/{} · {text}", report.step, self.steps));
            }
        }
        self.bar.set_message(text);
    }
}

impl Observer for Progress<'_> {
    fn on(&mut self, event: &Event<'_>) -> Control {
        match event {
            Event::Preparing { done, total }
                if *total > 50_000_000 && self.last_line.elapsed() >= Duration::from_secs(5) =>
            {
                self.last_line = Instant::now();
                self.say(&format!("turning text into ids: {}%", done * 100 / total));
            }
            Event::Data { config, train, validation, vocab, .. } => {
                let (train, held) = (out::short(*train as f64), out::short(*validation as f64));
                self.say(&match self.run.data.task.is_synthetic() {
                    true => format!("sequences are made as they are needed, V={vocab}"),
                    false => format!("{train} tokens to train on, {held} held out, V={vocab}"),
                });
                self.measure(config);
            }
            Event::Budget(budget) => self.say(&format!("memory: {budget}")),
            Event::Started { step, steps, parameters, resumed } => {
                self.steps = *steps;
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
                let n = out::short(*parameters as f64);
                self.say(&match resumed {
                    Some(path) => format!("continuing at step {step}: {}", path.display()),
                    None => format!("{n} parameters, {steps} steps"),
                });
            }
            Event::Step(report) => self.on_step(report),
            Event::Evaluated { evaluation, .. } => {
                self.validation = Some((evaluation.loss, evaluation.accuracy));
            }
            Event::Averaged { folder, count } => {
                self.say(&format!("the last {count} checkpoints averaged: {}", folder.display()));
            }
            Event::Warning(text) => self.say(&format!("warning: {text}")),
            Event::Finished(_) => self.bar.finish_and_clear(),
            _ => {}
        }
        if signal::stopped() { Control::Stop } else { Control::Continue }
    }
}
