//! How good answers are: translations against references, labels and tags against right ones, numbers against numbers.
//!
//! Each measure gives the number of the tool the field reports with: sacrebleu, scikit-learn, seqeval, scipy.
//!
//! This room does not know models, weights or how an answer came about.

/// Overlap of word n-grams (BLEU).
pub mod bleu;
/// Questions answered by what is most probable.
pub mod choices;
/// Overlap of character n-grams (chrF).
pub mod chrf;
/// Labels against labels.
pub mod labels;
/// Numbers against numbers.
pub mod numbers;
/// Tags of words against tags.
pub mod tags;

pub use bleu::{Bleu, Tokens};
pub use choices::{Answered, Choices, LastWords, Share};
pub use chrf::Chrf;
pub use labels::Agreement;
pub use numbers::{pearson, spearman};
pub use tags::{Entity, Tagging};

use std::collections::HashMap;
use std::hash::Hash;

/// How often each n-gram of `items` occurs.
fn ngrams<T: Eq + Hash>(items: &[T], n: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for gram in items.windows(n) {
        *counts.entry(gram).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
