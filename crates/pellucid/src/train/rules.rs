//! The rules a run's settings must keep; every fault is listed at once.

use super::run::RunConfig;
use crate::error::{Error, Kind, Result};

impl RunConfig {
    /// Checks every rule and lists every fault. `vocab` of the model is checked once the tokenizer is known.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        self.sizes(&mut faults);
        self.examples(&mut faults);
        self.numbers(&mut faults);
        match self.model_config(self.model.vocab.unwrap_or(self.data.vocab.max(1))) {
            Err(error) => faults.extend(lines("model", &error)),
            Ok(config) => {
                if let Err(error) = config.validate() {
                    faults.extend(lines("model", &error));
                }
                let time = self.time(&config);
                if time > config.context {
                    faults.push(format!(
                        "train.time = {time} is longer than model.context = {}",
                        config.context
                    ));
                }
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        let count = faults.len();
        let plural = if count == 1 { "" } else { "s" };
        let error =
            Error::new(Kind::Config, "run", format!("{count} fault{plural} in the run's settings"))
                .hint("correct these keys in the run's TOML or the flags of the same name");
        Err(faults.into_iter().fold(error, Error::fact))
    }

    /// Keys that only some tasks read.
    fn examples(&self, faults: &mut Vec<String>) {
        let mut rule = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.into());
            }
        };
        rule(
            self.adapter.rank == 0 || self.train.start.is_some(),
            "adapter.rank is above 0, but there is no model to add to: set train.start",
        );
        rule(
            (0.0..1.0).contains(&self.train.smoothing),
            "train.smoothing must be at least 0 and below 1",
        );
        rule(
            self.data.target.is_empty() || self.data.target.len() == self.data.train.len(),
            "data.target must have as many files as data.train",
        );
        rule(
            self.data.validation_target.is_empty()
                || self.data.validation_target.len() == self.data.validation.len(),
            "data.validation_target must have as many files as data.validation",
        );
        rule(
            self.checkpoint.average <= self.checkpoint.keep,
            "checkpoint.average is above checkpoint.keep, so that what is averaged would be deleted",
        );
    }

    fn sizes(&self, faults: &mut Vec<String>) {
        for (key, value) in [
            ("train.steps", self.train.steps),
            ("train.batch", self.train.batch.unwrap_or(1) as u64),
            ("train.time", self.train.time.unwrap_or(1) as u64),
            ("train.accumulation", self.train.accumulation as u64),
            ("checkpoint.keep", self.checkpoint.keep as u64),
            ("log.every", self.log.every),
        ] {
            if value == 0 {
                faults.push(format!("{key} = 0, but it must be at least 1"));
            }
        }
        let mut rule = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.into());
            }
        };
        rule(
            !self.data.train.is_empty() || self.data.task.is_synthetic(),
            "data.train is empty, but a run needs text to learn from",
        );
        rule(
            !self.data.task.is_synthetic() || (1..1 << 20).contains(&self.data.symbols),
            "data.symbols must be at least 1 and below 1048576",
        );
        rule(!self.checkpoint.folder.trim().is_empty(), "checkpoint.folder is empty");
        rule(!self.data.tokenizer.trim().is_empty(), "data.tokenizer is empty");
        rule(
            self.data.tokenizer != "bpe" || self.data.vocab >= 256,
            "data.vocab is below 256, but bpe starts from the 256 bytes",
        );
        let evaluates = self.evaluate.every > 0
            && (!self.data.validation.is_empty() || self.data.validation_fraction > 0.0);
        rule(
            self.evaluate.patience == 0 || evaluates,
            "evaluate.patience is set, but nothing is evaluated: set evaluate.every and data.validation or data.validation_fraction",
        );
        rule(
            self.warmup() <= self.train.steps,
            "schedule.warmup is longer than train.steps, so the peak is never reached",
        );
        let decay = self.schedule.decay_steps;
        rule(decay != Some(0), "schedule.decay_steps = 0, but it must be at least 1");
        use super::schedule::ScheduleKind::{Cosine, Linear, Wsd};
        let kind = self.schedule.kind;
        rule(
            !matches!(kind, Cosine | Linear) || decay.is_none_or(|d| d >= self.warmup()),
            "schedule.decay_steps ends before schedule.warmup does",
        );
        rule(
            kind != Wsd
                || decay.unwrap_or(self.train.steps / 5) + self.warmup() <= self.train.steps,
            "schedule.warmup and schedule.decay_steps together are longer than train.steps",
        );
    }

    fn numbers(&self, faults: &mut Vec<String>) {
        let o = &self.optimizer;
        let lr = o.lr.unwrap_or(1e-3);
        let mut rule = |holds: bool, key: &str, value: f64, rule: &str| {
            if !holds {
                faults.push(format!("{key} = {value}, but it must be {rule}"));
            }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        rule(positive(lr), "optimizer.lr", lr, "above 0");
        let min = o.min_lr.unwrap_or(0.0);
        rule(not_negative(min), "optimizer.min_lr", min, "at least 0");
        rule(
            o.lr.is_none_or(|lr| min <= lr || !lr.is_finite()),
            "optimizer.min_lr",
            min,
            "at most optimizer.lr",
        );
        rule((0.0..1.0).contains(&o.beta1), "optimizer.beta1", o.beta1, "in [0, 1)");
        rule((0.0..1.0).contains(&o.beta2), "optimizer.beta2", o.beta2, "in [0, 1)");
        rule(positive(o.eps), "optimizer.eps", o.eps, "above 0");
        rule(not_negative(o.weight_decay), "optimizer.weight_decay", o.weight_decay, "at least 0");
        rule(not_negative(o.clip), "optimizer.clip", o.clip, "at least 0 (0 does not clip)");
        let fraction = self.data.validation_fraction;
        rule((0.0..1.0).contains(&fraction), "data.validation_fraction", fraction, "in [0, 1)");
        let delta = self.evaluate.min_delta;
        rule(not_negative(delta), "evaluate.min_delta", delta, "at least 0");
    }
}

/// The faults inside another room's error.
fn lines(section: &str, error: &Error) -> Vec<String> {
    let text = error.to_string();
    let facts: Vec<String> = text
        .lines()
        .filter_map(|l| l.strip_prefix("  "))
        .map(|l| format!("{section}.{l}"))
        .collect();
    if facts.is_empty() { vec![text.lines().next().unwrap_or_default().into()] } else { facts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_need_only_data() {
        let mut run = RunConfig::default();
        let text = run.validate().unwrap_err().to_string();
        assert!(text.contains("1 fault in") && text.contains("data.train"), "{text}");
        run.data.train = vec!["a.txt".into()];
        run.validate().unwrap();
    }

    #[test]
    fn all_faults_are_listed_at_once() {
        let mut run = RunConfig::default();
        run.train.batch = Some(0);
        run.optimizer.lr = Some(f64::NAN);
        run.optimizer.beta2 = 1.0;
        run.schedule.warmup = Some(9999);
        run.model.kv_heads = Some(4);
        run.model.context = Some(64);
        run.train.time = Some(65);
        let text = run.validate().unwrap_err().to_string();
        for fault in [
            "7 faults",
            "train.batch = 0",
            "optimizer.lr = NaN",
            "optimizer.beta2 = 1",
            "schedule.warmup",
            "data.train is empty",
            "model.kv_heads = 4 does not divide heads = 6",
            "train.time = 65 is longer than model.context = 64",
        ] {
            assert!(text.contains(fault), "{fault}\n{text}");
        }
    }
}
