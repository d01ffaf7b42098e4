//! chrF and chrF++ (Popović 2015, 2017): n-grams of characters, and of words; the numbers of sacrebleu.

use super::bleu::check;
use super::ngrams;
use crate::error::Result;
use std::collections::HashMap;
use std::hash::Hash;

/// n-grams of characters up to this.
const CHARACTERS: usize = 6;
/// Recall counts twice as much as precision.
const BETA: f64 = 2.0;
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// The measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chrf {
    /// n-grams of words up to this: 0 is chrF, 2 is chrF++.
    pub words: usize,
}

/// For each order: n-grams of the hypothesis, of the reference, of both.
type Counts = Vec<[usize; 3]>;

fn compare<T: Eq + Hash>(hypothesis: &[T], reference: &[T], n: usize) -> [usize; 3] {
    let (own, right): (HashMap<&[T], usize>, _) = (ngrams(hypothesis, n), ngrams(reference, n));
    let both = own.iter().map(|(gram, &count)| count.min(right.get(gram).copied().unwrap_or(0)));
    let (own_count, right_count) = (own.values().sum(), right.values().sum());
    [if right_count > 0 { own_count } else { 0 }, right_count, both.sum()]
}

/// Words with one punctuation mark at their end, or else at their beginning, taken off.
fn words(text: &str) -> Vec<String> {
    let mark = |c: Option<char>| c.is_some_and(|c| PUNCTUATION.contains(c));
    let mut all = vec![];
    for word in text.split_whitespace() {
        let mut rest = word.chars();
        if word.chars().count() == 1 {
            all.push(word.to_owned());
        } else if mark(word.chars().next_back()) {
            let last = rest.next_back().into_iter().collect();
            all.extend([rest.collect(), last]);
        } else if mark(word.chars().next()) {
            let first = rest.next().into_iter().collect();
            all.extend([first, rest.collect()]);
        } else {
            all.push(word.to_owned());
        }
    }
    all
}

impl Chrf {
    fn counts(self, hypothesis: &str, reference: &str) -> Counts {
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>();
        let (own, right) = (letters(hypothesis), letters(reference));
        let mut counts: Counts = (1..=CHARACTERS).map(|n| compare(&own, &right, n)).collect();
        let (own, right) = (words(hypothesis), words(reference));
        counts.extend((1..=self.words).map(|n| compare(&own, &right, n)));
        counts
    }

    /// The score of a whole corpus, 0..=100; of several references the best counts.
    ///
    /// # Errors
    /// Nothing to compare, or other numbers of both.
    pub fn corpus(self, hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<f64> {
        check(hypotheses.len(), references)?;
        let mut sum = vec![[0; 3]; CHARACTERS + self.words];
        for (hypothesis, references) in hypotheses.iter().zip(references) {
            let mut best: Option<(f64, Counts)> = None;
            for reference in references {
                let counts = self.counts(hypothesis.as_ref(), reference);
                let score = score(&counts);
                if best.as_ref().is_none_or(|(most, _)| score > *most) {
                    best = Some((score, counts));
                }
            }
            for (sum, counts) in sum.iter_mut().zip(best.map(|b| b.1).unwrap_or_default()) {
                sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
        }
        Ok(score(&sum))
    }
}

fn score(counts: &Counts) -> f64 {
    let there = counts.iter().filter(|[own, right, _]| *own > 0 && *right > 0);
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0);
    for &[own, right, both] in there {
        precision += both as f64 / own as f64;
        recall += both as f64 / right as f64;
        orders += 1;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / f64::from(orders), recall / f64::from(orders));
    let factor = BETA * BETA;
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}
