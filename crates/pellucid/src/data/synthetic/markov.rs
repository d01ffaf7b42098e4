//! Chains in context (Edelman et al. 2024): every row has transition probabilities of its own, so that a model must
//! learn them from the row as it reads.

use super::{Law, Part, Row, Sizes, demand, random};
use crate::error::Result;
use crate::tensor::random::Random;

/// Rows of chains over k states; the k rows of each chain's transitions are drawn from Dirichlet(1), and the first state
/// from its stationary law.
#[derive(Clone, Debug)]
pub struct Markov(Sizes);

impl Markov {
    /// Of these sizes.
    ///
    /// # Errors
    /// Fewer than two states, or very many.
    pub fn new(sizes: Sizes) -> Result<Self> {
        let holds = (2..=256).contains(&sizes.symbols);
        demand(holds, &sizes, "a chain has 2 to 256 states", "set data.symbols = 3")?;
        Ok(Self(sizes))
    }
}

impl Law for Markov {
    fn row(&self, part: Part, number: u64) -> Row {
        let (k, n) = (self.0.symbols, self.0.time + 1);
        let mut random = random(&self.0, part, number);
        let transitions: Vec<f64> = (0..k).flat_map(|_| dirichlet(k, &mut random)).collect();
        let mut state = pick(&stationary(&transitions, k), &mut random);
        let mut tokens = vec![state as i32];
        while tokens.len() < n {
            state = pick(&transitions[state * k..][..k], &mut random);
            tokens.push(state as i32);
        }
        Row { tokens, learned: 1..n, asked: 1..n }
    }

    /// Equal probabilities; states as often as before in this row; and what is best, when transitions are drawn from
    /// Dirichlet(1): transitions as often as before in this row. The last two start from a count of one.
    fn yardsticks(&self, row: &Row) -> Vec<(&'static str, f64)> {
        let k = self.0.symbols;
        let (mut states, mut pairs) = (vec![1.0; k], vec![1.0; k * k]);
        let [mut uniform, mut unigram, mut bigram] = [0.0; 3];
        states[row.tokens[0] as usize] += 1.0;
        for pair in row.tokens.windows(2) {
            let (from, to) = (pair[0] as usize, pair[1] as usize);
            let seen = &pairs[from * k..][..k];
            uniform += (k as f64).ln();
            unigram -= (states[to] / states.iter().sum::<f64>()).ln();
            bigram -= (seen[to] / seen.iter().sum::<f64>()).ln();
            states[to] += 1.0;
            pairs[from * k + to] += 1.0;
        }
        vec![("uniform", uniform), ("unigram in context", unigram), ("bigram in context", bigram)]
    }
}

/// `k` probabilities, uniform on the simplex: exponentials over their sum.
pub(super) fn dirichlet(k: usize, random: &mut Random) -> Vec<f64> {
    let raw: Vec<f64> = (0..k).map(|_| -(1.0 - random.uniform_f64()).ln()).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|x| x / sum).collect()
}

/// The law that `transitions` (k, k) leave as it is: states are taken out one by one, without a subtraction
/// (Grassmann, Taksar & Heyman 1985).
pub(super) fn stationary(transitions: &[f64], k: usize) -> Vec<f64> {
    let mut p = transitions.to_vec();
    for n in (1..k).rev() {
        let leaves: f64 = p[n * k..n * k + n].iter().sum();
        for i in 0..n {
            p[i * k + n] /= leaves;
            for j in 0..n {
                p[i * k + j] += p[i * k + n] * p[n * k + j];
            }
        }
    }
    let mut law = vec![1.0; k];
    for n in 1..k {
        law[n] = (0..n).map(|i| law[i] * p[i * k + n]).sum();
    }
    let sum: f64 = law.iter().sum();
    law.into_iter().map(|x| x / sum).collect()
}

/// An index, each with its probability.
fn pick(law: &[f64], random: &mut Random) -> usize {
    let mut left = random.uniform_f64();
    for (i, p) in law.iter().enumerate() {
        left -= p;
        if left < 0.0 {
            return i;
        }
    }
    law.len() - 1
}
