//! metrics.jsonl: one JSON object a line, appended and handed to the system at once.

use super::disk::{Appender, Disk};
use super::evaluate::Evaluation;
use super::step::StepReport;
use crate::error::{Error, Kind, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One line: a training step, or an evaluation after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// Updates done.
    pub step: u64,
    /// Training loss in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Global gradient norm before clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Tokens seen since the start of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Speed of this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Held-out loss in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// `exp(validation_loss)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Held-out bits per byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Share of the held-out labels that were right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
}

impl Line {
    /// After an update; `tokens` since the start of the run.
    #[must_use]
    pub fn of_step(report: &StepReport, tokens: u64) -> Self {
        Self {
            step: report.step,
            loss: Some(report.loss),
            lr: Some(report.lr),
            grad_norm: Some(report.grad_norm),
            tokens: Some(tokens),
            tokens_per_second: Some(report.tokens as f64 / report.seconds.max(1e-9)),
            ..Self::default()
        }
    }

    /// After an evaluation.
    #[must_use]
    pub fn of_evaluation(step: u64, evaluation: &Evaluation) -> Self {
        Self {
            step,
            validation_loss: Some(evaluation.loss),
            perplexity: Some(evaluation.perplexity),
            bits_per_byte: evaluation.bits_per_byte,
            validation_accuracy: evaluation.accuracy,
            ..Self::default()
        }
    }

    /// Names and values that are set, as they appear in the file.
    #[must_use]
    pub fn scalars(&self) -> Vec<(&'static str, f64)> {
        [
            ("loss", self.loss),
            ("lr", self.lr),
            ("grad_norm", self.grad_norm),
            ("tokens_per_second", self.tokens_per_second),
            ("validation_loss", self.validation_loss),
            ("perplexity", self.perplexity),
            ("bits_per_byte", self.bits_per_byte),
            ("validation_accuracy", self.validation_accuracy),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// The open file.
#[derive(Debug)]
pub struct Metrics(Appender);

impl Metrics {
    /// Opens the file and cuts it to the `keep` bytes that belong to the checkpoint. Also says whether it had them all.
    pub fn open(disk: &Disk, path: &Path, keep: u64) -> Result<(Self, bool)> {
        let (file, whole) = disk.open_append(path, keep)?;
        Ok((Self(file), whole))
    }

    /// Appends a line.
    pub fn append(&mut self, disk: &Disk, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)
            .map_err(|e| Error::new(Kind::Format, "train", "metrics.jsonl").source(e))?;
        text.push('\n');
        disk.append(&mut self.0, text.as_bytes())
    }

    /// Flushes to the disk and returns the length.
    pub fn sync(&self, disk: &Disk) -> Result<u64> {
        disk.sync(&self.0)?;
        Ok(self.0.length())
    }
}

/// Reads a metrics file; a torn last line is left out.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = files::read_text("train", path)?;
    let mut lines = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(line) => lines.push(line),
            Err(_) if !line.ends_with('\n') => {}
            Err(e) => {
                let message = format!("{}: line {}: {e}", path.display(), number + 1);
                return Err(Error::new(Kind::Format, "train", message));
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_exactly_and_a_torn_one_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk) = (folder.path().join("m.jsonl"), Disk::default());
        let report = StepReport {
            step: 3,
            loss: 0.1 + 0.2,
            grad_norm: 1.0 / 3.0,
            lr: 1e-3,
            tokens: 7,
            seconds: 2.0,
        };
        let first = Line::of_step(&report, 21);
        let evaluation = Evaluation {
            loss: 1.0,
            perplexity: 1f64.exp(),
            bits_per_byte: None,
            accuracy: None,
            tokens: 5,
        };
        let second = Line::of_evaluation(3, &evaluation);
        let (mut metrics, whole) = Metrics::open(&disk, &path, 0).unwrap();
        assert!(whole);
        metrics.append(&disk, &first).unwrap();
        let length = metrics.sync(&disk).unwrap();
        metrics.append(&disk, &second).unwrap();
        assert_eq!(read(&path).unwrap(), [first, second]);
        assert_eq!(first.tokens_per_second, Some(3.5));
        let torn = Disk::with_plug(0);
        assert!(torn.append(&mut metrics.0, b"{\"step\": 4}\n").is_err());
        assert_eq!(read(&path).unwrap(), [first, second]);
        drop(metrics);
        let (metrics, whole) = Metrics::open(&disk, &path, length).unwrap();
        assert!(whole && metrics.0.length() == length);
        assert_eq!(read(&path).unwrap(), [first]);
        assert!(!Metrics::open(&disk, &path, length + 1).unwrap().1);
    }
}
