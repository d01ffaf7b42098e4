//! Does the model use what stands in its context? Two numbers of Olsson et al. ("In-context Learning and Induction
//! Heads", 2022):
//!
//! - the in-context-learning score: mean loss of the 500th token less that of the 50th in a context of 512, here at
//!   the same shares of whatever length the texts have; below 0: later tokens are easier;
//! - the loss on random tokens and on the same tokens once more: whoever cannot look back knows nothing of either.

use super::head_scores::RandomTexts;
use super::rows::{Mean, all_losses};
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::tensor::random::Random;

/// The paper's tokens and context.
const EARLY: usize = 50;
const LATE: usize = 500;
const CONTEXT: usize = 512;

/// Whether later tokens are easier.
#[derive(Clone, Debug, PartialEq)]
pub struct InContext {
    /// Which tokens were compared, counted from 0.
    pub tokens: (usize, usize),
    /// Loss of the early one, in nats.
    pub early: Mean,
    /// Of the late one.
    pub late: Mean,
    /// Late less early, its error over the texts.
    pub score: Mean,
    /// Mean loss of each token but the first.
    pub curve: Vec<f64>,
    /// Texts.
    pub samples: usize,
}

/// The in-context-learning score over texts of one length.
///
/// # Errors
/// Texts of different lengths or of fewer than 12 tokens; a model that predicts no next tokens.
pub fn in_context(subject: Subject<'_>, rows: &[Vec<i32>]) -> Result<InContext> {
    let t = rows.first().map_or(0, Vec::len);
    let scaled = |token: usize| (token * t / CONTEXT).max(1);
    let (early, late) = (scaled(EARLY), scaled(LATE));
    if rows.iter().any(|row| row.len() != t) || late <= early || t < 12 {
        let message = format!("{} texts, the first of {t} tokens", rows.len());
        return Err(Error::new(Kind::Input, "in-context score", message)
            .hint("texts need one length, of at least 12 tokens"));
    }
    let losses = all_losses(subject, "in-context score", rows)?;
    // The first token is not predicted.
    let at = |token: usize| losses.iter().map(|l| l[token - 1]).collect::<Vec<f64>>();
    let (a, b) = (at(early), at(late));
    let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
    Ok(InContext {
        tokens: (early, late),
        early: Mean::of(&a),
        late: Mean::of(&b),
        score: Mean::of(&differences),
        curve: curve(&losses),
        samples: rows.len(),
    })
}

/// Loss on random tokens and on their repetition.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeated {
    /// Of the first copy's predicted tokens, in nats.
    pub first: Mean,
    /// Of the second copy's tokens but its first, which nothing announces.
    pub second: Mean,
    /// Of a model that knows which tokens are drawn, and no more: ln of their number.
    pub uniform: f64,
    /// Mean loss of each token but the text's first.
    pub curve: Vec<f64>,
    /// Texts.
    pub samples: usize,
}

/// Reads `texts.samples` texts of `texts.tokens` random tokens, each drawn from all, and the same once more
/// (`texts.repeats` is not used).
///
/// # Errors
/// Texts that cannot be drawn; a model that predicts no next tokens.
pub fn repeated(subject: Subject<'_>, texts: &RandomTexts) -> Result<Repeated> {
    let config = subject.config;
    let from: Vec<u32> = match texts.candidates.is_empty() {
        true => (0..config.vocab as u32).collect(),
        false => texts.candidates.clone(),
    };
    let (n, start) = (texts.tokens, usize::from(texts.start.is_some()));
    if n < 2 || texts.samples == 0 || 2 * n + start > config.context {
        let message = format!("{} texts of twice {n} tokens", texts.samples);
        return Err(Error::new(Kind::Input, "repeated tokens", message)
            .fact(format!("the context is {}", config.context))
            .hint("at least 2 tokens and 1 text are needed"));
    }
    let text = |sample: usize| {
        let mut random = Random::new(texts.seed, sample as u64);
        let tokens: Vec<i32> = (0..n).map(|_| from[random.below(from.len())] as i32).collect();
        texts.start.iter().map(|&id| id as i32).chain(tokens.repeat(2)).collect()
    };
    let rows: Vec<Vec<i32>> = (0..texts.samples).map(text).collect();
    let losses = all_losses(subject, "repeated tokens", &rows)?;
    // Loss `i` is of token `i + 1`; the second copy begins at token `start + n`.
    let seam = start + n - 1;
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let over = |f: &dyn Fn(&Vec<f64>) -> f64| Mean::of(&losses.iter().map(f).collect::<Vec<f64>>());
    Ok(Repeated {
        first: over(&|l| mean(&l[..seam])),
        second: over(&|l| mean(&l[seam + 1..])),
        uniform: (from.len() as f64).ln(),
        curve: curve(&losses),
        samples: rows.len(),
    })
}

/// The mean of each place of rows of one length.
fn curve(rows: &[Vec<f64>]) -> Vec<f64> {
    let mean = |i: usize| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64;
    (0..rows[0].len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::fixtures::induction_head;
    use crate::lens::test_models;
    use crate::model::config::Config;
    use crate::model::weights::Weights;

    fn texts() -> RandomTexts {
        RandomTexts {
            tokens: 8,
            samples: 4,
            start: Some(0),
            candidates: (1..12).collect(),
            ..RandomTexts::default()
        }
    }

    #[test]
    fn an_induction_head_knows_the_second_copy_and_a_silent_model_nothing() {
        let pool = Pool::new(1);
        let (config, weights) = induction_head(12, 24, 40.0).unwrap();
        // Different tokens, so that each has one copy.
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let drawn = RandomTexts { repeats: 2, ..texts() }.draw(&config).unwrap();
        let losses = all_losses(subject, "test", &drawn).unwrap();
        assert!(losses.iter().all(|l| l[9..].iter().all(|l| *l < 1e-3)), "{losses:?}");
        let got = repeated(subject, &texts()).unwrap();
        assert!(got.second.value < got.first.value - 1.0, "{got:?}");
        assert!((got.uniform - 11f64.ln()).abs() < 1e-12);
        assert_eq!((got.curve.len(), got.samples), (16, 4));
        let silent = Weights::zeros(&config);
        let subject = Subject { weights: &silent, ..subject };
        let got = repeated(subject, &texts()).unwrap();
        for loss in [got.first, got.second] {
            assert!((loss.value - 12f64.ln()).abs() < 1e-6 && loss.error < 1e-6, "{loss:?}");
        }
    }

    #[test]
    fn the_in_context_score_compares_the_scaled_tokens() {
        let pool = Pool::new(1);
        let (config, weights) = test_models::random(Config::gpt2(), 4);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let rows: Vec<Vec<i32>> =
            (0..3).map(|r| (0..32).map(|i| (r * 11 + i * 7) % 50).collect()).collect();
        let got = in_context(subject, &rows).unwrap();
        assert_eq!(got.tokens, (3, 31));
        let losses = all_losses(subject, "test", &rows).unwrap();
        let want: f64 = losses.iter().map(|l| l[30] - l[2]).sum::<f64>() / 3.0;
        assert!((got.score.value - want).abs() < 1e-12);
        assert!((got.late.value - got.early.value - want).abs() < 1e-12);
        assert!((got.curve[30] - got.late.value).abs() < 1e-12 && got.curve.len() == 31);
        let (small, other) = (vec![vec![1; 8]], vec![vec![1; 32], vec![1; 31]]);
        assert!(in_context(subject, &small).is_err() && in_context(subject, &other).is_err());
        assert!(in_context(subject, &[]).is_err());
    }
}
