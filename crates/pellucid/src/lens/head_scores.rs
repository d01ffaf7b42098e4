//! What each head does on random tokens: does it look at the token before, at copies of the present one, at what
//! followed them, and does it say again what it looks at?
//!
//! Definitions of Olsson et al. ("In-context Learning and Induction Heads", 2022), on a text of random tokens that is
//! repeated, so that nothing but position and repetition can be used:
//!
//! ```text
//! previous   mean over t of A[t, t-1]
//! duplicate  mean over repeated t of Σ A[t, s],      x_s = x_t, s < t
//! induction  mean over repeated t of Σ A[t, s + 1],  x_s = x_t, s < t      (prefix matching)
//! copying    2 · mean over t of Σ_s A[t, s] · share_t(x_s) - 1
//!            share_t(j) = relu(e_t(j)) / Σ_k relu(e_t(k)), e_t the head's direct effect on the scores of the text's
//!            tokens less its mean effect on all; of each text's first copy
//! ```
//!
//! Beside each score stands what a head would get that looks at everything it may see evenly: no model is needed to
//! know that, and a score means something only by its distance from it.

pub use super::rows::Mean;
use super::rows::Runner;
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Architecture, Config, Core, NormKind};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;
use crate::tensor::random::Random;

/// How texts are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomTexts {
    /// Different random tokens of a text.
    pub tokens: usize,
    /// How often they come.
    pub repeats: usize,
    /// Texts.
    pub samples: usize,
    /// A token before them all, such as the start of a text.
    pub start: Option<u32>,
    /// Which tokens are drawn; empty: all.
    pub candidates: Vec<u32>,
    /// Of the drawing.
    pub seed: u64,
}

impl Default for RandomTexts {
    fn default() -> Self {
        Self { tokens: 25, repeats: 4, samples: 10, start: None, candidates: vec![], seed: 1 }
    }
}

impl RandomTexts {
    /// The texts, all of one length.
    ///
    /// # Errors
    /// Too few tokens to draw from, or texts longer than the context.
    pub fn draw(&self, config: &Config) -> Result<Vec<Vec<i32>>> {
        let mut from: Vec<u32> = match self.candidates.is_empty() {
            true => (0..config.vocab as u32).collect(),
            false => self.candidates.clone(),
        };
        from.retain(|&id| Some(id) != self.start);
        from.sort_unstable();
        from.dedup();
        let t = self.tokens * self.repeats + usize::from(self.start.is_some());
        let known = from.iter().chain(&self.start).all(|&id| (id as usize) < config.vocab);
        let drawn = self.tokens > 0 && self.repeats > 0 && self.samples > 0;
        if !drawn || from.len() < self.tokens || t > config.context || !known {
            let message = format!(
                "{} texts of {} of {} tokens, {} times over",
                self.samples,
                self.tokens,
                from.len(),
                self.repeats
            );
            return Err(Error::new(Kind::Input, "head scores", message)
                .fact(format!("ids are 0..{}, the context is {}", config.vocab, config.context))
                .hint("draw fewer tokens, or repeat them less often"));
        }
        let text = |sample: usize| {
            let mut random = Random::new(self.seed, sample as u64);
            let mut from = from.clone();
            // The first of a shuffle.
            for i in 0..self.tokens {
                let j = i + random.below(from.len() - i);
                from.swap(i, j);
            }
            let start = self.start.iter().map(|&id| id as i32);
            let tokens: Vec<i32> = from[..self.tokens].iter().map(|&id| id as i32).collect();
            start.chain(tokens.repeat(self.repeats)).collect()
        };
        Ok((0..self.samples).map(text).collect())
    }
}

/// What a head looks at, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Looks {
    /// The token before.
    pub previous: f64,
    /// Earlier copies of the present token.
    pub duplicate: f64,
    /// What followed them.
    pub induction: f64,
}

/// A head's scores over the texts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeadScore {
    /// The token before.
    pub previous: Mean,
    /// Earlier copies of the present token.
    pub duplicate: Mean,
    /// What followed them: prefix matching.
    pub induction: Mean,
    /// From -1 to 1; none where scores are not linear in what a head writes.
    pub copying: Option<Mean>,
}

/// Scores of every head.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadScores {
    /// H.
    pub heads: usize,
    /// (L, H).
    pub scores: Vec<HeadScore>,
    /// Texts that were read.
    pub samples: usize,
    /// Of a head of each block that looks evenly at all it may see, (L).
    pub chance: Vec<Looks>,
    /// Copying of a head that raises all of the text's tokens alike.
    pub copying_chance: f64,
}

/// Scores of all heads. `each` hears how many texts are done.
///
/// # Errors
/// A model that is no decoder of attention; texts that cannot be drawn; whatever `each` gives.
pub fn head_scores(
    subject: Subject<'_>,
    texts: &RandomTexts,
    each: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<HeadScores> {
    let config = subject.config;
    if config.architecture != Architecture::Decoder || config.core == Core::Lstm {
        let message =
            "heads that look back are asked for, but the model is no decoder of attention";
        return Err(Error::new(Kind::Config, "head scores", message));
    }
    let rows = texts.draw(config)?;
    let (layers, heads, t) = (config.layers, config.heads, rows[0].len());
    let parts: &[Part] =
        if subject.reads_linearly() { &[Part::Pattern, Part::Z] } else { &[Part::Pattern] };
    let sites: Vec<Site> =
        (0..layers).flat_map(|l| parts.iter().map(move |&p| Site::block(l, p))).collect();
    let mut runner = Runner::new(subject, Watch::capture(&sites));
    let mut looks = vec![vec![]; layers * heads];
    let mut copying = vec![vec![]; layers * heads];
    for (done, row) in rows.iter().enumerate() {
        let seen = runner.run(std::slice::from_ref(row), &mut |_| Ok(()))?;
        let first = usize::from(texts.start.is_some());
        let copy = (first..first + texts.tokens, &row[first..first + texts.tokens]);
        let effect = if parts.len() == 2 { Some(Effect::new(subject, copy.1)?) } else { None };
        for layer in 0..layers {
            let patterns = seen.value(Site::block(layer, Part::Pattern))?;
            for (h, pattern) in patterns.chunks_exact(t * t).enumerate() {
                looks[layer * heads + h].push(of_pattern(pattern, row));
            }
            let Some(effect) = &effect else { continue };
            let z = seen.value(Site::block(layer, Part::Z))?;
            for h in 0..heads {
                let effects =
                    effect.of(layer, h, &z[copy.0.start * heads * config.head_width..])?;
                let pattern = &patterns[h * t * t..][..t * t];
                copying[layer * heads + h].push(copying_score(pattern, t, &copy.0, &effects));
            }
        }
        each(done + 1)?;
    }
    let mean =
        |all: &[Looks], f: fn(&Looks) -> f64| Mean::of(&all.iter().map(f).collect::<Vec<f64>>());
    let score = |(looks, copying): (&Vec<Looks>, &Vec<f64>)| HeadScore {
        previous: mean(looks, |l| l.previous),
        duplicate: mean(looks, |l| l.duplicate),
        induction: mean(looks, |l| l.induction),
        copying: (!copying.is_empty()).then(|| Mean::of(copying)),
    };
    let chance = (0..layers).map(|l| of_pattern(&even(config, l, t), &rows[0])).collect();
    let scores = looks.iter().zip(&copying).map(score).collect();
    let copying_chance = 2.0 / texts.tokens as f64 - 1.0;
    Ok(HeadScores { heads, scores, samples: rows.len(), chance, copying_chance })
}

/// A pattern (T, T) that shares attention evenly among what block `layer` may see.
fn even(config: &Config, layer: usize, t: usize) -> Vec<f32> {
    let window = config.window.filter(|_| layer >= config.window_from).unwrap_or(t);
    let mut pattern = vec![0.0; t * t];
    for (i, row) in pattern.chunks_exact_mut(t).enumerate() {
        let from = (i + 1).saturating_sub(window);
        row[from..=i].fill(1.0 / (i + 1 - from) as f32);
    }
    pattern
}

/// Where a pattern (T, T) looks in a text (T).
#[must_use]
pub fn of_pattern(pattern: &[f32], ids: &[i32]) -> Looks {
    let t = ids.len();
    let mut looks = Looks::default();
    let mut repeated = 0usize;
    for (i, row) in pattern.chunks_exact(t).enumerate() {
        if i > 0 {
            looks.previous += f64::from(row[i - 1]) / (t - 1) as f64;
        }
        let copies: Vec<usize> = (0..i).filter(|&s| ids[s] == ids[i]).collect();
        repeated += usize::from(!copies.is_empty());
        for s in copies {
            looks.duplicate += f64::from(row[s]);
            looks.induction += f64::from(row[s + 1]);
        }
    }
    let n = repeated.max(1) as f64;
    Looks { duplicate: looks.duplicate / n, induction: looks.induction / n, ..looks }
}

/// How what heads write moves the scores of some tokens, against the mean of all.
struct Effect<'a> {
    subject: Subject<'a>,
    /// (tokens, C): what the stream is multiplied with, but for the last norm's factor, which no share depends on.
    readers: Vec<Vec<f64>>,
}

impl<'a> Effect<'a> {
    fn new(subject: Subject<'a>, ids: &[i32]) -> Result<Self> {
        let config = subject.config;
        let c = config.width;
        let head = subject.head()?;
        let mut mean = vec![0.0f64; c];
        for row in head.chunks_exact(c) {
            mean.iter_mut().zip(row).for_each(|(m, &w)| *m += f64::from(w));
        }
        mean.iter_mut().for_each(|m| *m /= config.vocab as f64);
        let norm = subject.last_norm()?;
        let reader = |&id: &i32| {
            let row = &head[id as usize * c..][..c];
            let mut reader: Vec<f64> = row
                .iter()
                .zip(&mean)
                .zip(norm.iter())
                .map(|((&w, m), &n)| (f64::from(w) - m) * f64::from(n))
                .collect();
            if config.norm == NormKind::LayerNorm {
                // Taking the mean from what is read is taking it from the reader.
                let mean = reader.iter().sum::<f64>() / c as f64;
                reader.iter_mut().for_each(|r| *r -= mean);
            }
            reader
        };
        Ok(Self { subject, readers: ids.iter().map(reader).collect() })
    }

    /// Effects (positions, tokens) of a head that read `z` (positions.., H, D), at as many positions as tokens.
    fn of(&self, layer: usize, head: usize, z: &[f32]) -> Result<Vec<f64>> {
        let config = self.subject.config;
        let (hd, d) = (config.heads * config.head_width, config.head_width);
        let out = self.subject.weights.get(&format!("blocks.{layer}.attn.out.weight"))?;
        let through = |reader: &Vec<f64>| {
            let mut all = vec![0.0f64; d];
            for (row, r) in out.chunks_exact(hd).zip(reader) {
                let row = &row[head * d..][..d];
                all.iter_mut().zip(row).for_each(|(a, &w)| *a += r * f64::from(w));
            }
            all
        };
        let readers: Vec<Vec<f64>> = self.readers.iter().map(through).collect();
        let mut effects = vec![];
        for z in z.chunks_exact(hd).take(readers.len()) {
            let z = &z[head * d..][..d];
            let dot = |r: &Vec<f64>| z.iter().zip(r).map(|(&z, r)| f64::from(z) * r).sum::<f64>();
            effects.extend(readers.iter().map(dot));
        }
        Ok(effects)
    }
}

/// Copying over the positions `range`, whose tokens all differ; effects are (positions, tokens).
fn copying_score(
    pattern: &[f32],
    t: usize,
    range: &std::ops::Range<usize>,
    effects: &[f64],
) -> f64 {
    let n = range.len();
    let mut sum = 0.0;
    for (i, effects) in range.clone().zip(effects.chunks_exact(n)) {
        let raised: f64 = effects.iter().map(|e| e.max(0.0)).sum();
        if raised > 0.0 {
            let row = &pattern[i * t..][range.clone()];
            let attended: f64 =
                row.iter().zip(effects).map(|(&a, e)| f64::from(a) * e.max(0.0)).sum();
            sum += attended / raised;
        }
    }
    2.0 * sum / n as f64 - 1.0
}

#[cfg(test)]
#[path = "head_scores_tests.rs"]
mod tests;
