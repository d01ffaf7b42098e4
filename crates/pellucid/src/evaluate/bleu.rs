//! BLEU (Papineni et al. 2002) with the tokenization and smoothing of sacrebleu (Post 2018), so that numbers compare.

use super::ngrams;
use crate::error::{Error, Kind, Result};
use std::collections::HashMap;

const ORDER: usize = 4;

/// How text is cut into words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tokens {
    /// mteval-v13a's rules: punctuation apart, numbers whole.
    #[default]
    V13a,
    /// At blanks: the text is tokenized already.
    None,
    /// Every character.
    Characters,
}

impl Tokens {
    fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::None => "none",
            Self::Characters => "char",
        }
    }

    /// The words of `text`.
    #[must_use]
    pub fn cut(self, text: &str) -> Vec<String> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        match self {
            Self::V13a => words(&v13a(text)),
            Self::None => words(text),
            Self::Characters => {
                text.chars().filter(|c| !c.is_whitespace()).map(String::from).collect()
            }
        }
    }
}

/// mteval-v13a: blanks around punctuation, but not inside numbers.
fn v13a(text: &str) -> String {
    let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&");
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let apart =
        |c: char| matches!(c, ' '..='&' | '('..='+' | ':'..='@' | '['..='`' | '{'..='~' | '/');
    let mut spaced = String::from(" ");
    for c in text.chars() {
        if apart(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let digit = |c: char| c.is_ascii_digit();
    let stop = |c: char| c == '.' || c == ',';
    let text = pairs(&spaced, |a, b| !digit(a) && stop(b), |a, b| vec![a, ' ', b, ' ']);
    let text = pairs(&text, |a, b| stop(a) && !digit(b), |a, b| vec![' ', a, ' ', b]);
    pairs(&text, |a, b| digit(a) && b == '-', |a, b| vec![a, ' ', b, ' '])
}

/// Replaces pairs of characters from left to right; what is replaced is not looked at again.
fn pairs(
    text: &str,
    fits: impl Fn(char, char) -> bool,
    with: impl Fn(char, char) -> Vec<char>,
) -> String {
    let all: Vec<char> = text.chars().collect();
    let (mut out, mut i) = (String::with_capacity(text.len()), 0);
    while i < all.len() {
        match all.get(i + 1) {
            Some(&next) if fits(all[i], next) => {
                out.extend(with(all[i], next));
                i += 2;
            }
            _ => {
                out.push(all[i]);
                i += 1;
            }
        }
    }
    out
}

/// What was counted, and the score.
#[derive(Clone, Debug, PartialEq)]
pub struct Bleu {
    /// 0..=100.
    pub score: f64,
    /// Of 1-, 2-, 3- and 4-grams, 0..=100.
    pub precisions: [f64; ORDER],
    /// What texts that are too short are multiplied by.
    pub brevity_penalty: f64,
    /// Words of the hypotheses.
    pub length: usize,
    /// Words of the references nearest in length.
    pub reference_length: usize,
    /// Most references of a text.
    references: usize,
    tokens: Tokens,
}

impl Bleu {
    /// How it was measured, in sacrebleu's words.
    #[must_use]
    pub fn signature(&self) -> String {
        let Self { references, tokens, .. } = self;
        format!("nrefs:{references}|case:mixed|eff:no|tok:{}|smooth:exp", tokens.name())
    }
}

#[derive(Default)]
struct Counts {
    right: [usize; ORDER],
    all: [usize; ORDER],
    length: usize,
    reference_length: usize,
}

impl Counts {
    fn add(&mut self, hypothesis: &str, references: &[String], tokens: Tokens) {
        let hypothesis = tokens.cut(hypothesis);
        let references: Vec<Vec<String>> = references.iter().map(|r| tokens.cut(r)).collect();
        self.length += hypothesis.len();
        let nearest = references.iter().map(Vec::len);
        let nearest = nearest.min_by_key(|&n| (n.abs_diff(hypothesis.len()), n));
        self.reference_length += nearest.unwrap_or(0);
        for n in 1..=ORDER {
            // A gram is right as often as the reference that has it most.
            let mut most: HashMap<&[String], usize> = HashMap::new();
            for reference in &references {
                for (gram, count) in ngrams(reference, n) {
                    let entry = most.entry(gram).or_insert(0);
                    *entry = (*entry).max(count);
                }
            }
            for (gram, count) in ngrams(&hypothesis, n) {
                self.right[n - 1] += count.min(most.get(gram).copied().unwrap_or(0));
            }
            self.all[n - 1] += (hypothesis.len() + 1).saturating_sub(n);
        }
    }

    fn score(&self, references: usize, tokens: Tokens) -> Bleu {
        let (mut precisions, mut smooth) = ([0.0; ORDER], 1.0);
        for n in 0..ORDER {
            if self.all[n] == 0 {
                break;
            }
            // Without one that is right: half, a quarter, ... of one (mteval's smoothing).
            let right = if self.right[n] > 0 {
                self.right[n] as f64
            } else {
                smooth *= 2.0;
                1.0 / smooth
            };
            precisions[n] = 100.0 * right / self.all[n] as f64;
        }
        let (length, reference) = (self.length as f64, self.reference_length as f64);
        let brevity_penalty = match self.length {
            0 => 0.0,
            _ if length < reference => (1.0 - reference / length).exp(),
            _ => 1.0,
        };
        let logs: f64 = precisions.iter().map(|&p| p.ln()).sum();
        let any = self.right.iter().any(|&n| n > 0);
        let score = if any { brevity_penalty * (logs / ORDER as f64).exp() } else { 0.0 };
        let (length, reference_length) = (self.length, self.reference_length);
        Bleu { score, precisions, brevity_penalty, length, reference_length, references, tokens }
    }
}

/// BLEU of a whole corpus; each hypothesis has its references.
///
/// # Errors
/// Nothing to compare, or other numbers of both.
pub fn corpus(
    hypotheses: &[impl AsRef<str>],
    references: &[Vec<String>],
    tokens: Tokens,
) -> Result<Bleu> {
    check(hypotheses.len(), references)?;
    let mut counts = Counts::default();
    for (hypothesis, references) in hypotheses.iter().zip(references) {
        counts.add(hypothesis.as_ref(), references, tokens);
    }
    Ok(counts.score(references.iter().map(Vec::len).max().unwrap_or(0), tokens))
}

pub(super) fn check(hypotheses: usize, references: &[Vec<String>]) -> Result<()> {
    let error = |message: String| Err(Error::new(Kind::Input, "score translations", message));
    if hypotheses != references.len() || hypotheses == 0 {
        return error(format!("{hypotheses} translations for {} references", references.len()));
    }
    match references.iter().position(Vec::is_empty) {
        Some(i) => error(format!("translation {} has no reference", i + 1)),
        None => Ok(()),
    }
}
