//! What is asked of the scores after the last position.

use crate::error::{Error, Kind, Result};
use crate::ops::objective::{Of, Term, log_sum_exp};

/// A number made of a row of scores (V).
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// One score less another.
    Difference {
        /// Of this token.
        right: u32,
        /// Less this one's.
        wrong: u32,
    },
    /// A token's probability.
    Probability(u32),
    /// Its logarithm.
    LogProbability(u32),
}

impl Metric {
    /// Its value.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn of(&self, scores: &[f32]) -> Result<f64> {
        let score = |id: u32| {
            scores.get(id as usize).map(|&s| f64::from(s)).ok_or_else(|| {
                let message = format!("token {id}, but ids are 0..{}", scores.len());
                Error::new(Kind::Input, "metric", message)
            })
        };
        Ok(match *self {
            Self::Difference { right, wrong } => score(right)? - score(wrong)?,
            Self::LogProbability(id) => score(id)? - log_sum_exp(scores),
            Self::Probability(id) => (score(id)? - log_sum_exp(scores)).exp(),
        })
    }

    /// As terms of an objective, of row `row`. A probability's gradient is its logarithm's times itself.
    #[must_use]
    pub fn terms(&self, row: usize) -> Vec<Term> {
        let term = |id: u32, of, weight| Term { row, id: id as usize, of, weight };
        match *self {
            Self::Difference { right, wrong } => {
                vec![term(right, Of::Score, 1.0), term(wrong, Of::Score, -1.0)]
            }
            Self::Probability(id) | Self::LogProbability(id) => {
                vec![term(id, Of::LogProbability, 1.0)]
            }
        }
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Difference { .. } => "logit difference",
            Self::Probability(_) => "probability",
            Self::LogProbability(_) => "log-probability",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_by_hand() {
        let scores = [1.0, 3.0, 3.0];
        let value = |m: Metric| m.of(&scores).unwrap();
        assert_eq!(value(Metric::Difference { right: 1, wrong: 0 }), 2.0);
        let p = 1.0 / (2.0 + (-2.0f64).exp());
        assert!((value(Metric::Probability(2)) - p).abs() < 1e-12);
        assert!((value(Metric::LogProbability(2)) - p.ln()).abs() < 1e-12);
        assert!(Metric::Probability(3).of(&scores).is_err());
    }
}
