//! Many texts through a run, a few at a time, and what follows from their scores.

use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Architecture, Config, Output};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Part, Site, Sizes};
use crate::model::watch::Watch;
use crate::ops::objective::log_sum_exp;
use std::ops::Range;

/// Positions that go through the layers together.
const TOKENS: usize = 1024;

/// Texts, each the ids of its tokens.
pub(super) type Rows<'a> = &'a [Vec<i32>];

/// Neighbouring rows of one length, about [`TOKENS`] tokens at a time.
///
/// # Errors
/// No rows, or one without tokens.
pub(super) fn batches(operation: &'static str, rows: Rows<'_>) -> Result<Vec<Range<usize>>> {
    if rows.is_empty() || rows.iter().any(Vec::is_empty) {
        let message = "there are no texts, or one has no tokens";
        return Err(Error::new(Kind::Input, operation, message));
    }
    let mut all: Vec<Range<usize>> = vec![];
    for (i, row) in rows.iter().enumerate() {
        match all.last_mut() {
            Some(last)
                if rows[last.start].len() == row.len()
                    && (last.len() + 1) * row.len() <= TOKENS.max(row.len()) =>
            {
                last.end = i + 1;
            }
            _ => all.push(i..i + 1),
        }
    }
    Ok(all)
}

/// Runs rows, watched alike; planned anew only where their shape is another.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    subject: Subject<'a>,
    watch: Watch,
    observer: Option<Observer>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(subject: Subject<'a>, watch: Watch) -> Self {
        Self { subject, watch, observer: None }
    }

    /// What will run `b` rows of `t` tokens, without changes.
    pub(super) fn prepare(&mut self, b: usize, t: usize) -> Result<&mut Observer> {
        let sizes = Sizes { b, t, s: 0 };
        if self.observer.as_ref().is_none_or(|o| o.sizes() != sizes) {
            let (config, watch) = (self.subject.config, self.watch.clone());
            let threads = self.subject.pool.threads();
            self.observer = Some(Observer::new(config, sizes, watch, End::Sites, threads)?);
        }
        let observer = self.observer.as_mut().expect("made above");
        observer.clear();
        Ok(observer)
    }

    /// Runs rows of one length; `change` says what is changed in them.
    pub(super) fn run(
        &mut self,
        rows: Rows<'_>,
        change: &mut dyn FnMut(&mut Observer) -> Result<()>,
    ) -> Result<&Observer> {
        let Subject { pool, weights, .. } = self.subject;
        let observer = self.prepare(rows.len(), rows[0].len())?;
        change(observer)?;
        observer.run(pool, weights, Text::of(&rows.concat()))?;
        Ok(observer)
    }
}

/// A model that predicts each next token of a text.
///
/// # Errors
/// Another sort.
pub(super) fn demand_next_tokens(operation: &'static str, config: &Config) -> Result<()> {
    if config.architecture == Architecture::Decoder && config.output == Output::Tokens {
        return Ok(());
    }
    let message = "the model does not predict each next token of a text";
    Err(Error::new(Kind::Config, operation, message).hint("this is asked of decoders"))
}

/// The scores' site.
pub(super) fn scores_site() -> Site {
    Site::once(Part::UnembedOut)
}

/// Loss in nats of each token of a row but the first, (T - 1), from the scores after each, (T, V).
pub(super) fn losses(scores: &[f32], ids: &[i32]) -> Vec<f64> {
    let v = scores.len() / ids.len();
    let next = ids[1..].iter();
    // An id outside the vocabulary was refused by the run.
    next.zip(scores.chunks_exact(v))
        .map(|(&id, s)| log_sum_exp(s) - f64::from(s[id as usize]))
        .collect()
}

/// Loss of every predicted token of some rows: one list for each.
///
/// # Errors
/// Ids outside the vocabulary; a model that predicts no next tokens.
pub(super) fn all_losses(
    subject: Subject<'_>,
    operation: &'static str,
    rows: Rows<'_>,
) -> Result<Vec<Vec<f64>>> {
    demand_next_tokens(operation, subject.config)?;
    let site = scores_site();
    let mut runner = Runner::new(subject, Watch::capture(&[site]));
    let mut all = vec![];
    for range in batches(operation, rows)? {
        let rows = &rows[range];
        let seen = runner.run(rows, &mut |_| Ok(()))?;
        let scores = seen.value(site)?;
        let each = scores.len() / rows.len();
        all.extend(rows.iter().zip(scores.chunks_exact(each)).map(|(ids, s)| losses(s, ids)));
    }
    Ok(all)
}

/// Divergence `Σ p ln(p / q)` of two rows of scores, in nats.
pub(super) fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (a, b) = (log_sum_exp(p), log_sum_exp(q));
    p.iter()
        .zip(q)
        .map(|(&p, &q)| {
            let log = f64::from(p) - a;
            log.exp() * (log - (f64::from(q) - b))
        })
        .sum()
}

/// A mean over samples and its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    /// Of the samples.
    pub value: f64,
    /// Standard deviation of the samples over √n; 0 of one sample.
    pub error: f64,
}

impl Mean {
    /// Of at least one sample.
    #[must_use]
    pub fn of(samples: &[f64]) -> Self {
        let n = samples.len() as f64;
        let value = samples.iter().sum::<f64>() / n;
        let squares: f64 = samples.iter().map(|s| (s - value).powi(2)).sum();
        let error = if samples.len() < 2 { 0.0 } else { (squares / (n - 1.0) / n).sqrt() };
        Self { value, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_length_run_together() {
        let rows: Vec<Vec<i32>> = [400, 400, 400, 3, 3].iter().map(|&t| vec![0; t]).collect();
        assert_eq!(batches("test", &rows).unwrap(), [0..2, 2..3, 3..5]);
        assert!(batches("test", &[]).is_err());
        assert!(batches("test", &[vec![]]).is_err());
    }

    #[test]
    fn losses_and_divergences_are_as_by_hand() {
        let scores = [0.0, 3f32.ln(), 2f32.ln(), 2f32.ln()];
        let got = losses(&scores, &[0, 1]);
        assert!((got[0] - (4f64 / 3.0).ln()).abs() < 1e-6, "{got:?}");
        let (p, q) = ([0.25f64, 0.75], [0.5f64, 0.5]);
        let want: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((divergence(&scores[..2], &scores[2..]) - want).abs() < 1e-6);
        assert!(divergence(&scores[..2], &scores[..2]).abs() < 1e-12);
    }

    #[test]
    fn a_mean_says_how_sure_it_is() {
        let mean = Mean::of(&[1.0, 3.0]);
        assert_eq!((mean.value, mean.error), (2.0, 1.0));
        assert_eq!(Mean::of(&[5.0]), Mean { value: 5.0, error: 0.0 });
    }
}
