//! How a model adds modulo p: as rotations (Nanda et al., "Progress measures for grokking via mechanistic
//! interpretability", 2023).
//!
//! Such a model embeds each number x as cos and sin of 2πkx/p for a few frequencies k, and scores c by cos of
//! 2πk(a + b - c)/p. So of the scores, as functions of a and b, what lies along cos and sin of 2πk(a + b)/p is the
//! rule, and the rest is what was learned by heart:
//!
//! ```text
//! rule_c(a, b) = Σ_k α_kc cos 2πk(a + b)/p + β_kc sin 2πk(a + b)/p      k over the key frequencies
//! restricted:  loss of the rule and each score's mean alone             falls as the rule forms
//! excluded:    loss of the scores without the rule                      rises as it does
//! ```

use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::Sizes;
use crate::model::watch::Watch;
use std::f64::consts::TAU;

/// The largest p whose p² pairs are run.
const MOST: usize = 512;

/// Which frequencies are key.
#[derive(Clone, Debug, PartialEq)]
pub enum Keys {
    /// The fewest that have this share of the embedding's power.
    Share(f64),
    /// These: such as those of a later checkpoint.
    These(Vec<usize>),
}

/// What a model of sums does with frequencies.
#[derive(Clone, Debug, PartialEq)]
pub struct Fourier {
    /// Of frequencies 1, 2, .. (p - 1) / 2: share of the number embeddings' power, their mean left out.
    pub power: Vec<f64>,
    /// The key frequencies, strongest first.
    pub keys: Vec<usize>,
    /// Mean loss over all p² pairs, in nats.
    pub loss: f64,
    /// Share of the pairs whose sum scores highest.
    pub accuracy: f64,
    /// The loss with the rule alone.
    pub restricted: f64,
    /// The loss without the rule.
    pub excluded: f64,
}

/// Takes a model apart that reads `a b =`, tokens `a`, `b` and `equals`, and scores tokens 0..p; `each` hears how many of
/// 2p batches are done.
///
/// # Errors
/// p that is even or outside 3..=512, a key outside 1..=p/2, a vocabulary or context too small; whatever `each` gives.
pub fn fourier(
    subject: Subject<'_>,
    (p, equals): (usize, i32),
    keys: &Keys,
    each: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Fourier> {
    let (config, c) = (subject.config, subject.config.width);
    if !(3..=MOST).contains(&p) || p.is_multiple_of(2) || config.outputs() < p || config.context < 3
    {
        let message = format!(
            "sums modulo {p} with {} scores and a context of {}",
            config.outputs(),
            config.context
        );
        return Err(Error::new(Kind::Input, "fourier", message).hint(format!(
            "p is odd and at most {MOST}; each number is a token, and `a b =` fits"
        )));
    }
    if let Keys::These(keys) = keys
        && let Some(k) = keys.iter().find(|k| !(1..=p / 2).contains(*k))
    {
        let message = format!("frequency {k}, but sums modulo {p} have 1..={}", p / 2);
        return Err(Error::new(Kind::Input, "fourier", message));
    }
    let sizes = Sizes { b: p, t: 3, s: 0 };
    let threads = subject.pool.threads();
    let mut observer = Observer::new(config, sizes, Watch::default(), End::Last, threads)?;
    let v = config.outputs();
    let mut done = 0;
    let embedding = &subject.weights.get("embedding.token")?[..p * c];
    analyse(p, keys, embedding, &mut |a| {
        let ids: Vec<i32> = (0..p).flat_map(|b| [a as i32, b as i32, equals]).collect();
        observer.run(subject.pool, subject.weights, Text::of(&ids))?;
        done += 1;
        each(done)?;
        let scores = observer.last_scores()?.chunks_exact(v);
        Ok(scores.flat_map(|row| row[..p].iter().map(|&x| f64::from(x))).collect())
    })
}

/// Scores (p, p) of a first number with every second.
type Scores<'a> = dyn FnMut(usize) -> Result<Vec<f64>> + 'a;

fn analyse(p: usize, keys: &Keys, embedding: &[f32], scores: &mut Scores<'_>) -> Result<Fourier> {
    let waves = Waves::new(p);
    let power = waves.power(embedding);
    let keys = strongest(&power, keys);
    // Means over the pairs of each sum hold all that depends on the sum alone.
    let (mut means, mut loss, mut right) = (vec![0.0; p * p], 0.0, 0usize);
    for a in 0..p {
        for (b, row) in scores(a)?.chunks_exact(p).enumerate() {
            let sum = (a + b) % p;
            loss += loss_of(row, sum);
            right += usize::from((0..p).all(|c| c == sum || row[c] < row[sum]));
            means[sum * p..][..p].iter_mut().zip(row).for_each(|(m, x)| *m += x / p as f64);
        }
    }
    let rule = waves.rule(&means, &keys);
    let mut level = vec![0.0; p];
    for row in means.chunks_exact(p) {
        level.iter_mut().zip(row).for_each(|(l, m)| *l += m / p as f64);
    }
    let mut restricted = 0.0;
    for (sum, rule) in rule.chunks_exact(p).enumerate() {
        let row: Vec<f64> = rule.iter().zip(&level).map(|(r, l)| r + l).collect();
        restricted += loss_of(&row, sum) / p as f64;
    }
    let mut excluded = 0.0;
    for a in 0..p {
        for (b, row) in scores(a)?.chunks_exact(p).enumerate() {
            let sum = (a + b) % p;
            let rest: Vec<f64> = row.iter().zip(&rule[sum * p..]).map(|(x, r)| x - r).collect();
            excluded += loss_of(&rest, sum);
        }
    }
    let pairs = (p * p) as f64;
    let (loss, excluded, accuracy) = (loss / pairs, excluded / pairs, right as f64 / pairs);
    Ok(Fourier { power, keys, loss, accuracy, restricted, excluded })
}

/// -log of the probability of score `right`.
fn loss_of(scores: &[f64], right: usize) -> f64 {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|x| (x - largest).exp()).sum();
    largest + sum.ln() - scores[right]
}

/// Key frequencies, strongest first.
fn strongest(power: &[f64], keys: &Keys) -> Vec<usize> {
    let mut order: Vec<usize> = (1..=power.len()).collect();
    order.sort_by(|&a, &b| power[b - 1].total_cmp(&power[a - 1]));
    let mut sum = 0.0;
    order.retain(|k| match keys {
        Keys::These(keys) => keys.contains(k),
        Keys::Share(share) => {
            let more = sum < *share;
            sum += power[k - 1];
            more
        }
    });
    order
}

/// cos and sin of 2πn/p.
struct Waves {
    p: usize,
    cos: Vec<f64>,
    sin: Vec<f64>,
}

impl Waves {
    fn new(p: usize) -> Self {
        let angle = |n: usize| TAU * n as f64 / p as f64;
        let cos = (0..p).map(|n| angle(n).cos()).collect();
        Self { p, cos, sin: (0..p).map(|n| angle(n).sin()).collect() }
    }

    /// Shares of the power of p rows at each frequency.
    fn power(&self, rows: &[f32]) -> Vec<f64> {
        let (p, width) = (self.p, rows.len() / self.p);
        let at = |k: usize| -> f64 {
            let mut sums = vec![[0.0f64; 2]; width];
            for (x, row) in rows.chunks_exact(width).enumerate() {
                let n = k * x % p;
                for (sum, &e) in sums.iter_mut().zip(row) {
                    sum[0] += f64::from(e) * self.cos[n];
                    sum[1] += f64::from(e) * self.sin[n];
                }
            }
            sums.iter().map(|[c, s]| c * c + s * s).sum()
        };
        let all: Vec<f64> = (1..=p / 2).map(at).collect();
        let total: f64 = all.iter().sum();
        all.into_iter().map(|x| x / total).collect()
    }

    /// What of means (sums, scores) lies at the key frequencies.
    fn rule(&self, means: &[f64], keys: &[usize]) -> Vec<f64> {
        let p = self.p;
        let mut rule = vec![0.0; p * p];
        for &k in keys {
            let mut parts = vec![[0.0f64; 2]; p];
            for (sum, row) in means.chunks_exact(p).enumerate() {
                let n = k * sum % p;
                for (part, x) in parts.iter_mut().zip(row) {
                    part[0] += 2.0 / p as f64 * x * self.cos[n];
                    part[1] += 2.0 / p as f64 * x * self.sin[n];
                }
            }
            for (sum, row) in rule.chunks_exact_mut(p).enumerate() {
                let n = k * sum % p;
                for (r, [alpha, beta]) in row.iter_mut().zip(&parts) {
                    *r += alpha * self.cos[n] + beta * self.sin[n];
                }
            }
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::test_models;
    use crate::model::config::Config;

    const P: usize = 31;
    const KEYS: [usize; 3] = [3, 11, 14];

    fn angle(k: usize, x: f64) -> f64 {
        TAU * k as f64 * x / P as f64
    }

    /// Numbers on circles, frequency 3 twice as wide, a little of frequency 7, and a mean.
    fn embedding() -> Vec<f32> {
        let row = |x: usize| {
            let circle = move |(k, r): (usize, f64)| {
                let at = angle(k, x as f64);
                [r * at.cos(), r * at.sin()].map(|x| x as f32)
            };
            [(3, 2.0), (11, 1.0), (14, 0.9), (7, 0.2)].into_iter().flat_map(circle).chain([5.0])
        };
        (0..P).flat_map(row).collect()
    }

    /// The rule, `heart` of what depends on a - b, and a mean of each score.
    fn scores(a: usize, heart: f64) -> Vec<f64> {
        let score = |b: usize, c: usize| {
            let rule: f64 =
                KEYS.map(|k| 4.0 * angle(k, (a + b) as f64 - c as f64).cos()).iter().sum();
            let apart = angle(2, (a + 2 * P - b + c * c) as f64).sin();
            rule + heart * apart + 0.01 * c as f64
        };
        (0..P).flat_map(|b| (0..P).map(move |c| score(b, c))).collect()
    }

    fn mean_loss(without_rule: bool, heart: f64) -> f64 {
        let mut sum = 0.0;
        for a in 0..P {
            let (all, none) = (scores(a, heart), scores(a, 0.0));
            for b in 0..P {
                let row: Vec<f64> = (0..P)
                    .map(|c| {
                        let rule = none[b * P + c] - 0.01 * c as f64;
                        all[b * P + c] - if without_rule { rule } else { 0.0 }
                    })
                    .collect();
                sum += loss_of(&row, (a + b) % P) / (P * P) as f64;
            }
        }
        sum
    }

    #[test]
    fn a_network_built_of_rotations_is_taken_apart() {
        let found =
            analyse(P, &Keys::Share(0.95), &embedding(), &mut |a| Ok(scores(a, 3.0))).unwrap();
        assert_eq!(found.keys, KEYS);
        // Power goes with the square of the radius: 4, 1, 0.81 and 0.04.
        assert!(
            (found.power[2] - 4.0 / 5.85).abs() < 1e-6
                && (found.power[6] - 0.04 / 5.85).abs() < 1e-6
        );
        assert!((found.power.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((found.loss - mean_loss(false, 3.0)).abs() < 1e-9);
        assert!((found.restricted - mean_loss(false, 0.0)).abs() < 1e-9, "{found:?}");
        assert!((found.excluded - mean_loss(true, 3.0)).abs() < 1e-9, "{found:?}");
        assert!(found.restricted + 0.5 < found.loss && found.loss + 2.0 < found.excluded);
        let clean =
            analyse(P, &Keys::Share(0.95), &embedding(), &mut |a| Ok(scores(a, 0.0))).unwrap();
        assert_eq!(clean.accuracy, 1.0);
        assert!((clean.loss - clean.restricted).abs() < 1e-9);
        // One frequency alone is not the rule.
        let one =
            analyse(P, &Keys::These(vec![3]), &embedding(), &mut |a| Ok(scores(a, 0.0))).unwrap();
        assert_eq!(one.keys, [3]);
        assert!(one.restricted > clean.restricted + 0.5);
    }

    #[test]
    fn a_model_s_own_loss_is_found_and_what_cannot_be_is_refused() {
        let (config, weights) = test_models::random(Config::gpt2(), 3);
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let keys = Keys::Share(0.9);
        let mut done = 0;
        let found = fourier(subject, (7, 49), &keys, &mut |n| {
            done = n;
            Ok(())
        })
        .unwrap();
        assert_eq!(done, 14);
        let mut loss = 0.0;
        for (a, b) in (0..7).flat_map(|a| (0..7).map(move |b| (a, b))) {
            let seen = subject.run(Text::of(&[a, b, 49]), 1, Watch::default(), End::Last).unwrap();
            let scores: Vec<f64> =
                seen.last_scores().unwrap()[..7].iter().map(|&x| x.into()).collect();
            loss += loss_of(&scores, ((a + b) % 7) as usize) / 49.0;
        }
        assert!((found.loss - loss).abs() < 1e-5, "{} {loss}", found.loss);
        assert!(fourier(subject, (8, 49), &keys, &mut |_| Ok(())).is_err());
        assert!(fourier(subject, (51, 49), &keys, &mut |_| Ok(())).is_err());
        assert!(fourier(subject, (7, 50), &keys, &mut |_| Ok(())).is_err());
        assert!(fourier(subject, (7, 49), &Keys::These(vec![4]), &mut |_| Ok(())).is_err());
    }
}
