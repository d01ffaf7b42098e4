//! From logits to one token: penalise repetition, heat, cut the tail, draw.
//!
//! The order is that of Hugging Face's logits processors, so the same settings mean the same
//! distribution: repetition penalty, temperature, top-k, top-p, min-p. A draw is a function of
//! `(seed, row, position)` and the logits: nothing is carried from one token to the next.

use crate::error::{Error, Kind, Result};
use crate::tensor::random::philox;
use serde::{Deserialize, Serialize};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Logits are divided by it: below 1 bolder, above 1 wilder, 0 the most probable token always.
    pub temperature: f32,
    /// Only the `k` most probable tokens (Fan et al. 2018); 0 keeps all. Ties with the last stay.
    pub top_k: usize,
    /// Only the smallest set of tokens whose probabilities reach `p` (Holtzman et al. 2020); 1 keeps all.
    pub top_p: f32,
    /// Only tokens at least this fraction as probable as the best (Nguyen et al. 2024); 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens already there are divided by it if positive, multiplied if negative
    /// (Keskar et al. 2019); 1 does nothing.
    pub repetition_penalty: f32,
    /// Same seed, same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// The most probable token, always.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every rule and lists every fault.
    pub fn validate(&self) -> Result<()> {
        let rules = [
            (
                self.temperature.is_finite() && self.temperature >= 0.0,
                format!("temperature = {}, but it must be at least 0", self.temperature),
            ),
            (
                self.top_p > 0.0 && self.top_p <= 1.0,
                format!("top_p = {}, but it must be above 0 and at most 1", self.top_p),
            ),
            (
                (0.0..=1.0).contains(&self.min_p),
                format!("min_p = {}, but it must be between 0 and 1", self.min_p),
            ),
            (
                self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0,
                format!("repetition_penalty = {}, but it must be above 0", self.repetition_penalty),
            ),
        ];
        let faults: Vec<String> =
            rules.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault).collect();
        if faults.is_empty() {
            return Ok(());
        }
        let plural = if faults.len() == 1 { "" } else { "s" };
        let message = format!("{} fault{plural} in how tokens are chosen", faults.len());
        let error = Error::new(Kind::Config, "sampling", message)
            .hint("temperature 1, top_k 0, top_p 1, min_p 0, repetition_penalty 1 change nothing");
        Err(faults.into_iter().fold(error, Error::fact))
    }
}

/// Chooses tokens by one [`Sampling`]; keeps only scratch memory.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    /// `(id, logit)` of the tokens that are still possible.
    kept: Vec<(u32, f32)>,
    weights: Vec<f64>,
}

impl Sampler {
    /// # Errors
    /// Those of [`Sampling::validate`].
    pub fn new(sampling: Sampling) -> Result<Self> {
        sampling.validate()?;
        Ok(Self { sampling, kept: vec![], weights: vec![] })
    }

    /// The settings.
    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The token at `position` of `row`, from `logits` (V); `history` is every token before it.
    ///
    /// # Errors
    /// A logit that is NaN or +∞, or all of them −∞.
    pub fn sample(
        &mut self,
        logits: &[f32],
        history: &[u32],
        row: u64,
        position: u64,
    ) -> Result<u32> {
        self.penalise(logits, history)
            .map_err(|e| e.fact(format!("row {row}, position {position}")))?;
        if self.sampling.temperature == 0.0 {
            return Ok(best(&self.kept).0);
        }
        self.cut();
        let total = self.weigh();
        let at = pick(&self.weights, self.chance(row, position, Draw::Token) * total);
        Ok(self.kept[at].0)
    }

    /// The number in `[0, 1)` that decides about `draw` at a position.
    pub(super) fn chance(&self, row: u64, position: u64, draw: Draw) -> f64 {
        uniform(self.sampling.seed, row, position, draw)
    }

    /// Each token's probability (V) in the distribution that [`Self::sample`] draws from.
    ///
    /// # Errors
    /// Those of [`Self::sample`].
    pub(super) fn probabilities(
        &mut self,
        logits: &[f32],
        history: &[u32],
        into: &mut Vec<f64>,
    ) -> Result<()> {
        self.penalise(logits, history)?;
        into.clear();
        into.resize(logits.len(), 0.0);
        if self.sampling.temperature == 0.0 {
            into[best(&self.kept).0 as usize] = 1.0;
            return Ok(());
        }
        self.cut();
        let total = self.weigh();
        for (&(id, _), &weight) in self.kept.iter().zip(&self.weights) {
            into[id as usize] = weight / total;
        }
        Ok(())
    }

    /// The distribution that [`Self::sample`] draws from: `(id, probability)`, most probable first.
    ///
    /// # Errors
    /// Those of [`Self::sample`].
    pub fn distribution(&mut self, logits: &[f32], history: &[u32]) -> Result<Vec<(u32, f32)>> {
        self.penalise(logits, history)?;
        if self.sampling.temperature == 0.0 {
            return Ok(vec![(best(&self.kept).0, 1.0)]);
        }
        self.cut();
        let total = self.weigh();
        let mut pairs: Vec<(u32, f32)> = (self.kept.iter().zip(&self.weights))
            .map(|(&(id, _), weight)| (id, (weight / total) as f32))
            .collect();
        pairs.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Ok(pairs)
    }

    /// Checks the logits, then: `l/θ` for tokens in the history with `l > 0`, `l·θ` with `l < 0`.
    fn penalise(&mut self, logits: &[f32], history: &[u32]) -> Result<()> {
        if let Some(id) = logits.iter().position(|l| l.is_nan() || *l == f32::INFINITY) {
            let message = format!("logit of token {id} is {}; numbers are needed", logits[id]);
            return Err(Error::new(Kind::Numeric, "sampler", message)
                .hint("the weights or the activations overflowed: inspect the checkpoint"));
        }
        self.kept.clear();
        self.kept.extend(logits.iter().enumerate().map(|(id, &logit)| (id as u32, logit)));
        let penalty = self.sampling.repetition_penalty;
        if penalty != 1.0 {
            for &id in history {
                // From `logits`, so that a token seen twice is penalised once.
                if let Some(&logit) = logits.get(id as usize) {
                    let new = if logit < 0.0 { logit * penalty } else { logit / penalty };
                    self.kept[id as usize].1 = new;
                }
            }
        }
        self.kept.retain(|k| k.1 > f32::NEG_INFINITY);
        match self.kept.is_empty() {
            false => Ok(()),
            true => {
                Err(Error::new(Kind::Numeric, "sampler", "every logit is -inf; nothing is left")
                    .hint("a mask forbids all tokens"))
            }
        }
    }

    /// Temperature, top-k, top-p, min-p.
    fn cut(&mut self) {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let kept = &mut self.kept;
        // From the best, so that a tiny temperature overflows downwards only.
        let top = best(kept).1;
        kept.iter_mut().for_each(|k| k.1 = (k.1 - top) / temperature);
        if (1..kept.len()).contains(&top_k) {
            let (_, last, _) = kept.select_nth_unstable_by(top_k - 1, descending);
            let least = last.1;
            kept.retain(|k| k.1 >= least);
        }
        if top_p < 1.0 {
            kept.sort_unstable_by(descending);
            let total: f64 = kept.iter().map(|k| f64::from(k.1).exp()).sum();
            let mut before = 0.0;
            let keep = kept.iter().take_while(|k| {
                let better = before;
                before += f64::from(k.1).exp() / total;
                better < f64::from(top_p)
            });
            let count = keep.count().max(1);
            kept.truncate(count);
        }
        if min_p > 0.0 {
            // p ≥ min_p · max p, both with the same denominator, and the best has exp(0) = 1.
            kept.retain(|k| k.1.exp() >= min_p);
        }
    }

    /// exp of what is left, and its sum.
    fn weigh(&mut self) -> f64 {
        self.weights.clear();
        self.weights.extend(self.kept.iter().map(|k| f64::from(k.1).exp()));
        self.weights.iter().sum()
    }
}

/// Most probable first; of equals, the lowest id.
fn descending(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The most probable; of equals, the lowest id. `kept` is not empty.
fn best(kept: &[(u32, f32)]) -> (u32, f32) {
    kept.iter().copied().fold(kept[0], |a, b| if b.1 > a.1 { b } else { a })
}

/// Where `left` ends when the weights are laid side by side.
pub(super) fn pick(weights: &[f64], mut left: f64) -> usize {
    for (at, &weight) in weights.iter().enumerate() {
        if left < weight {
            return at;
        }
        left -= weight;
    }
    // Rounding may leave a crumb after the last weight: then it is the last with any.
    weights.iter().rposition(|&w| w > 0.0).unwrap_or(0)
}

/// What is decided at a position; each decision has numbers of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Draw {
    /// The token.
    Token = 0,
    /// The token that a draft model proposes.
    Draft = 1,
    /// Whether a proposal is taken.
    Accept = 2,
    /// The token in the place of one that was not.
    Instead = 3,
}

/// Uniform in `[0, 1)` with 53 bits. Generation's rows live in the upper half of the streams, away
/// from those that initialise weights or shuffle data with the same seed.
fn uniform(seed: u64, row: u64, position: u64, draw: Draw) -> f64 {
    let stream = row | 1 << 63 | (draw as u64) << 60;
    let counter = u128::from(stream) << 64 | u128::from(position);
    let [a, b, ..] = philox(seed, counter);
    ((u64::from(a) << 32 | u64::from(b)) >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}
