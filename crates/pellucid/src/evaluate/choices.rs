//! Questions answered by what a model finds most probable, with the measures of EleutherAI's
//! lm-evaluation-harness; standard errors are those of a mean, √(Σ (x - x̄)² / (n - 1) / n).

use crate::error::{Error, Kind, Result};

const MEASURE: &str = "measure answers";

/// One answer as the model found it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    /// Sum of the log-probabilities of its tokens, in nats.
    pub log_probability: f64,
    /// Whether each token is the most probable where it stands.
    pub greedy: bool,
    /// Its tokens, at least 1.
    pub tokens: usize,
    /// Bytes of its text, at least 1.
    pub bytes: usize,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Those.
    pub right: usize,
    /// All.
    pub all: usize,
}

impl Share {
    /// 0..=1.
    #[must_use]
    pub fn value(self) -> f64 {
        self.right as f64 / self.all as f64
    }

    /// Of [`Self::value`]; none of a single one.
    #[must_use]
    pub fn standard_error(self) -> Option<f64> {
        let p = self.value();
        (self.all > 1).then(|| (p * (1.0 - p) / (self.all - 1) as f64).sqrt())
    }
}

/// How often the right one of several answers was found best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choices {
    /// By log-probability (`acc`).
    pub sum: Share,
    /// By log-probability per byte of the answer, so that long ones lose nothing by their length (`acc_norm`; the
    /// harness takes characters, which is the same in ASCII).
    pub per_byte: Share,
    /// By log-probability per token.
    pub per_token: Share,
    /// The share that blind guessing gets right on average.
    pub chance: f64,
}

impl Choices {
    /// Of each question the number of the right answer, from 0, and all answers; of equal ones the first is chosen.
    ///
    /// # Errors
    /// No question; one without answers, or whose right answer is not among them; a log-probability that is no number.
    pub fn of(questions: &[(usize, Vec<Answered>)]) -> Result<Self> {
        let all = questions.len();
        let mut right = [0; 3];
        let mut chance = 0.0;
        for (number, (wanted, answers)) in questions.iter().enumerate() {
            check(number, answers)?;
            if *wanted >= answers.len() {
                let message = format!("question {number}: answer {wanted} of {}", answers.len());
                return Err(Error::new(Kind::Input, MEASURE, message));
            }
            chance += 1.0 / answers.len() as f64;
            let by: [fn(&Answered) -> f64; 3] = [
                |a| a.log_probability,
                |a| a.log_probability / a.bytes as f64,
                |a| a.log_probability / a.tokens as f64,
            ];
            for (right, by) in right.iter_mut().zip(by) {
                *right += usize::from(best(answers, by) == *wanted);
            }
        }
        if all == 0 {
            return Err(Error::new(Kind::Input, MEASURE, "no questions"));
        }
        let [sum, per_byte, per_token] = right.map(|right| Share { right, all });
        Ok(Self { sum, per_byte, per_token, chance: chance / all as f64 })
    }
}

/// The first of the best.
fn best(answers: &[Answered], by: fn(&Answered) -> f64) -> usize {
    let better =
        |best: usize, i: usize| if by(&answers[i]) > by(&answers[best]) { i } else { best };
    (0..answers.len()).fold(0, better)
}

fn check(number: usize, answers: &[Answered]) -> Result<()> {
    let wrong = |a: &Answered| a.log_probability.is_nan() || a.tokens == 0 || a.bytes == 0;
    if answers.is_empty() || answers.iter().any(wrong) {
        let message = format!(
            "question {number}: no answer, or one without tokens, bytes or log-probability"
        );
        return Err(Error::new(Kind::Input, MEASURE, message));
    }
    Ok(())
}

/// How well words that end a text were foretold (Paperno et al. 2016, "The LAMBADA dataset").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastWords {
    /// Each of its tokens was the most probable.
    pub accuracy: Share,
    /// `exp` of the mean of -ln p(word): per word, however many tokens it has.
    pub perplexity: f64,
    /// Of the perplexity, to first order: perplexity times the standard error of the mean; none of a single word.
    pub perplexity_error: Option<f64>,
}

impl LastWords {
    /// Of each word.
    ///
    /// # Errors
    /// None; a log-probability that is no number.
    pub fn of(words: &[Answered]) -> Result<Self> {
        words.iter().enumerate().try_for_each(|(i, word)| check(i, &[*word]))?;
        let all = words.len();
        if all == 0 {
            return Err(Error::new(Kind::Input, MEASURE, "no words"));
        }
        let mean = words.iter().map(|w| w.log_probability).sum::<f64>() / all as f64;
        let squares: f64 = words.iter().map(|w| (w.log_probability - mean).powi(2)).sum();
        let perplexity = (-mean).exp();
        let error = (all > 1).then(|| (squares / (all - 1) as f64 / all as f64).sqrt());
        Ok(Self {
            accuracy: Share { right: words.iter().filter(|w| w.greedy).count(), all },
            perplexity,
            perplexity_error: error.map(|error| perplexity * error),
        })
    }
}
