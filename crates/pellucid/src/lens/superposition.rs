//! More features than dimensions (Elhage et al. 2022, "Toy models of superposition"): sparse features are written into a
//! few dimensions and read back, x' = ReLU(Wᵀ W x + b). Plain f64 loops: it is no Transformer, and small.

use crate::error::{Error, Kind, Result};
use crate::tensor::random::Random;

/// Vectors of a batch.
const BATCH: usize = 256;

/// What is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Toy {
    /// m: dimensions.
    pub dimensions: usize,
    /// I, (n): what a feature's error counts; as many as there are features.
    pub importance: Vec<f64>,
    /// S: a feature is 0 with this probability, else uniform in 0..1.
    pub sparsity: f64,
    /// Updates.
    pub steps: u64,
    /// Learning rate of Adam; it falls to 0 along a cosine.
    pub lr: f64,
    /// Fixes everything.
    pub seed: u64,
}

/// W (m, n) row by row, then b (n).
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Elements.
    pub parameters: Vec<f64>,
    m: usize,
    n: usize,
}

impl Toy {
    /// The weights before the first step: W normal with variance 1/m (columns of length about 1), b = 0.
    ///
    /// # Errors
    /// No dimension, no feature, S outside 0..1, or an importance that is not above 0.
    pub fn start(&self) -> Result<Learned> {
        let (m, n) = (self.dimensions, self.importance.len());
        let good = m > 0
            && n > 0
            && (0.0..1.0).contains(&self.sparsity)
            && self.importance.iter().all(|i| i.is_finite() && *i > 0.0);
        if !good {
            let message = format!("{m} dimensions, {n} features, S = {}", self.sparsity);
            return Err(Error::new(Kind::Config, "superposition", message)
                .fact("there is at least one of both, 0 ≤ S < 1, and each importance is above 0")
                .hint("the paper's example: 2 dimensions, 5 features"));
        }
        let (mut random, spread) = (Random::new(self.seed, 0), 1.0 / (m as f64).sqrt());
        let mut parameters = vec![0.0; (m + 1) * n];
        parameters[..m * n].iter_mut().for_each(|w| *w = spread * f64::from(random.normal()));
        Ok(Learned { parameters, m, n })
    }

    /// Trains with Adam on fresh vectors each step.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn train(&self) -> Result<Learned> {
        let mut learned = self.start()?;
        let size = learned.parameters.len();
        let (mut first, mut second) = (vec![0.0; size], vec![0.0; size]);
        for step in 1..=self.steps {
            let x = self.vectors(step, BATCH);
            let (_, gradient) = learned.loss_and_gradient(&x, &self.importance);
            let done = step as f64 / self.steps as f64;
            let lr = self.lr * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            let (less, lesser) = (1.0 - 0.9f64.powf(step as f64), 1.0 - 0.999f64.powf(step as f64));
            for (i, g) in gradient.iter().enumerate() {
                first[i] = 0.9 * first[i] + 0.1 * g;
                second[i] = 0.999 * second[i] + 0.001 * g * g;
                let root = (second[i] / lesser).sqrt() + 1e-8;
                learned.parameters[i] -= lr * (first[i] / less) / root;
            }
        }
        Ok(learned)
    }

    /// `count` vectors, (count, n), a function of the seed and `stream`; training takes the streams from 1 on.
    #[must_use]
    pub fn vectors(&self, stream: u64, count: usize) -> Vec<f64> {
        let mut random = Random::new(self.seed, stream);
        let mut feature = || {
            let there = random.uniform_f64() >= self.sparsity;
            if there { random.uniform_f64() } else { 0.0 }
        };
        (0..count * self.importance.len()).map(|_| feature()).collect()
    }
}

impl Learned {
    /// Mean over vectors `x (count, n)` of Σ I (x - x')², and its gradient.
    #[must_use]
    pub fn loss_and_gradient(&self, x: &[f64], importance: &[f64]) -> (f64, Vec<f64>) {
        let Self { parameters, m, n } = self;
        let (m, n) = (*m, *n);
        let (w, b) = parameters.split_at(m * n);
        let (mut loss, mut gradient) = (0.0, vec![0.0; parameters.len()]);
        let share = 1.0 / (x.len() / n).max(1) as f64;
        let (mut written, mut back) = (vec![0.0; m], vec![0.0; m]);
        for x in x.chunks_exact(n) {
            for (h, row) in written.iter_mut().zip(w.chunks_exact(n)) {
                *h = row.iter().zip(x).map(|(w, x)| w * x).sum();
            }
            back.fill(0.0);
            for i in 0..n {
                let y = b[i] + (0..m).map(|k| w[k * n + i] * written[k]).sum::<f64>();
                let error = y.max(0.0) - x[i];
                loss += share * importance[i] * error * error;
                // Where the rectifier is shut nothing goes back.
                let d = if y > 0.0 { share * 2.0 * importance[i] * error } else { 0.0 };
                gradient[m * n + i] += d;
                for k in 0..m {
                    gradient[k * n + i] += d * written[k];
                    back[k] += d * w[k * n + i];
                }
            }
            for k in 0..m {
                (0..n).for_each(|i| gradient[k * n + i] += back[k] * x[i]);
            }
        }
        (loss, gradient)
    }

    /// Loss on `count` fresh vectors.
    #[must_use]
    pub fn loss(&self, toy: &Toy, count: usize) -> f64 {
        self.loss_and_gradient(&toy.vectors(u64::MAX, count), &toy.importance).0
    }

    /// The column of W of a feature, (m).
    #[must_use]
    pub fn direction(&self, feature: usize) -> Vec<f64> {
        (0..self.m).map(|k| self.parameters[k * self.n + feature]).collect()
    }

    /// |W_i| of each feature, (n).
    #[must_use]
    pub fn norms(&self) -> Vec<f64> {
        (0..self.n).map(|i| dot(&self.direction(i), &self.direction(i)).sqrt()).collect()
    }

    /// D_i = |W_i|² / Σ_j (Ŵ_i · W_j)²: the share of a dimension that each feature has, (n); 0 without a direction.
    #[must_use]
    pub fn dimensionality(&self) -> Vec<f64> {
        let columns: Vec<Vec<f64>> = (0..self.n).map(|i| self.direction(i)).collect();
        let of = |column: &Vec<f64>| {
            let square = dot(column, column);
            let shared: f64 = columns.iter().map(|other| dot(column, other).powi(2)).sum();
            if shared > 0.0 { square * square / shared } else { 0.0 }
        };
        columns.iter().map(of).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy(sparsity: f64, decay: f64, seed: u64) -> Toy {
        let importance = (0..5).map(|i| decay.powi(i)).collect();
        Toy { dimensions: 2, importance, sparsity, steps: 4000, lr: 0.01, seed }
    }

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let toy = toy(0.5, 0.9, 3);
        let mut learned = toy.start().unwrap();
        // Away from zero, so that every rectifier is open for some vectors.
        let mut random = Random::new(9, 9);
        learned.parameters.iter_mut().for_each(|p| *p += 0.1 * f64::from(random.normal()));
        let x = toy.vectors(1, 40);
        let (_, gradient) = learned.loss_and_gradient(&x, &toy.importance);
        for (i, g) in gradient.iter().enumerate() {
            let at = |h: f64| {
                let mut moved = learned.clone();
                moved.parameters[i] += h;
                moved.loss_and_gradient(&x, &toy.importance).0
            };
            let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((slope - g).abs() <= 1e-6 * g.abs().max(1e-2), "{i}: {slope} {g}");
        }
    }

    /// Dense features: the two that count most are kept apart, the others dropped, which costs Σ I / 12.
    #[test]
    fn dense_features_are_kept_or_dropped() {
        let toy = toy(0.0, 0.9, 0);
        let learned = toy.train().unwrap();
        let (loss, d) = (learned.loss(&toy, 100_000), learned.dimensionality());
        assert!((loss - 0.1829).abs() < 0.002, "{loss}");
        let norms = learned.norms();
        assert!(norms[..2].iter().all(|x| (x - 1.0).abs() < 0.03), "{norms:?}");
        assert!(norms[2..].iter().all(|x| *x < 0.05), "{norms:?}");
        assert!(d[..2].iter().all(|x| (x - 1.0).abs() < 0.02), "{d:?}");
    }

    /// Sparse features that count alike: five directions in two dimensions, in the corners of a pentagon.
    #[test]
    fn sparse_features_make_a_pentagon() {
        let toy = toy(0.95, 1.0, 0);
        let learned = toy.train().unwrap();
        let d = learned.dimensionality();
        assert!(d.iter().all(|x| (x - 0.4).abs() < 0.02), "{d:?}");
        let mut angles: Vec<f64> = (0..5)
            .map(|i| learned.direction(i))
            .map(|w| w[1].atan2(w[0]).to_degrees().rem_euclid(360.0))
            .collect();
        angles.sort_by(f64::total_cmp);
        for pair in angles.windows(2) {
            assert!((pair[1] - pair[0] - 72.0).abs() < 6.0, "{angles:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_and_bad_sizes_are_refused() {
        let short = Toy { steps: 20, ..toy(0.8, 0.9, 4) };
        assert_eq!(short.train().unwrap(), short.train().unwrap());
        assert_ne!(short.train().unwrap(), Toy { seed: 5, ..short.clone() }.train().unwrap());
        for bad in [
            Toy { sparsity: 1.0, ..short.clone() },
            Toy { dimensions: 0, ..short.clone() },
            Toy { importance: vec![], ..short.clone() },
            Toy { importance: vec![f64::NAN], ..short },
        ] {
            assert!(bad.train().unwrap_err().to_string().contains("hint"));
        }
    }
}
