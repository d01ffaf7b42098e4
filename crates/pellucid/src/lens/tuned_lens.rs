//! The tuned lens (Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens", 2023): before
//! the stream at some depth is read through the last norm and the head, an affine map of its own takes it to where the
//! last block would.
//!
//! ```text
//! lens_l(h) = head(norm(h + A_l h + b_l))       A_l (C, C), b_l (C), both 0 at first: the logit lens
//! loss_l    = mean over positions of KL(final ‖ softmax(lens_l(h)))
//! ```
//!
//! There is a map for the stream before each block (after the last one the model itself speaks). Learnt by SGD with
//! Nesterov's momentum; forward and backward are written out in [`read`].

use super::rows::{Runner, batches, demand_next_tokens, scores_site};
use super::subject::Subject;
use crate::backend::cpu::gemm::Mat;
use crate::error::{Error, Kind, Result};
use crate::lens::solve::product;
use crate::model::config::{Config, Core, NormPlacement};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;

mod read;
#[cfg(test)]
mod tests;

use read::Reader;

/// Positions whose scores exist at a time.
const ROWS: usize = 256;

/// An affine map of the stream before a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Translator {
    /// A: (C, C), row-major; out by in.
    pub matrix: Vec<f32>,
    /// b: (C).
    pub bias: Vec<f32>,
}

/// A map for the stream before each block.
#[derive(Clone, Debug, PartialEq)]
pub struct TunedLens {
    /// (L).
    pub translators: Vec<Translator>,
}

/// How the maps learn; steps, rate, momentum and decay as the paper's code has them, the clip is ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Batches; the rate falls to 0 along them.
    pub steps: usize,
    /// Of the first step.
    pub rate: f32,
    /// Nesterov's.
    pub momentum: f32,
    /// Weight decay.
    pub decay: f32,
    /// The longest gradient of a map; longer ones are shortened.
    pub clip: f32,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { steps: 250, rate: 0.1, momentum: 0.9, decay: 1e-3, clip: 1.0 }
    }
}

/// How well the stream before a block says what the model will say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Depth {
    /// The block.
    pub layer: usize,
    /// KL of the logit lens from the model's own words, mean over positions, in nats.
    pub logit_lens: f64,
    /// Of the tuned lens.
    pub tuned_lens: f64,
}

/// What was seen at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Which, from 1.
    pub step: usize,
    /// KL at each depth, before the step.
    pub divergence: Vec<f64>,
}

fn demand_readable(config: &Config) -> Result<()> {
    demand_next_tokens("tuned lens", config)?;
    if config.norm_placement == NormPlacement::Post
        || config.head_transform
        || config.core == Core::Lstm
    {
        let message =
            "the last vector goes through more than a norm and a matrix, or there is no stream";
        return Err(Error::new(Kind::Config, "tuned lens", message)
            .hint("this is asked of pre-norm decoders"));
    }
    Ok(())
}

fn streams(config: &Config) -> Vec<Site> {
    (0..config.layers).map(|l| Site::block(l, Part::ResidPre)).collect()
}

impl TunedLens {
    /// The logit lens.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let c = config.width;
        let zero = Translator { matrix: vec![0.0; c * c], bias: vec![0.0; c] };
        Self { translators: vec![zero; config.layers] }
    }

    fn check(&self, config: &Config) -> Result<()> {
        let c = config.width;
        let fits = |t: &Translator| t.matrix.len() == c * c && t.bias.len() == c;
        if self.translators.len() == config.layers && self.translators.iter().all(fits) {
            return Ok(());
        }
        let message =
            format!("{} maps for {} blocks of C = {c}", self.translators.len(), config.layers);
        Err(Error::new(Kind::Shape, "tuned lens", message).hint("the lens is of another model"))
    }

    /// Scores (N, V) of streams (N, C) before block `layer`.
    ///
    /// # Errors
    /// A lens of another model, vectors of another width.
    pub fn read(&self, subject: Subject<'_>, layer: usize, h: &[f32]) -> Result<Vec<f32>> {
        demand_readable(subject.config)?;
        self.check(subject.config)?;
        let c = subject.config.width;
        let Some(translator) = self.translators.get(layer).filter(|_| h.len().is_multiple_of(c))
        else {
            let message = format!("{} elements of C = {c} before block {layer}", h.len());
            return Err(Error::new(Kind::Shape, "tuned lens", message));
        };
        let reader = Reader::new(subject)?;
        let x = translated(subject, translator, h);
        Ok(reader.scores(subject.pool, &reader.normalised(&x).0))
    }
}

/// `h + A h + b`, (N, C).
fn translated(subject: Subject<'_>, translator: &Translator, h: &[f32]) -> Vec<f32> {
    let c = subject.config.width;
    let mut x = h.to_vec();
    let maps = (Mat::rows(h, c), Mat::rows(&translator.matrix, c).t());
    product(subject.pool, (h.len() / c, c, c), maps, &mut x, true);
    for row in x.chunks_exact_mut(c) {
        row.iter_mut().zip(&translator.bias).for_each(|(x, b)| *x += b);
    }
    x
}

/// KL summed over positions, and the gradient of its mean over `n` positions, added to `gradient`.
fn loss(
    subject: Subject<'_>,
    reader: &Reader<'_>,
    translator: &Translator,
    (h, last): (&[f32], &[f32]),
    gradient: Option<(&mut Translator, usize)>,
) -> f64 {
    let (c, pool) = (subject.config.width, subject.pool);
    let x = translated(subject, translator, h);
    let (y, factors) = reader.normalised(&x);
    let mut scores = reader.scores(pool, &y);
    let sum = read::divergence_and_slope(last, &mut scores, subject.config.vocab);
    if let Some((gradient, n)) = gradient {
        scores.iter_mut().for_each(|s| *s /= n as f32);
        let d_x = reader.back(pool, &scores, (&x, &factors));
        let (d_x, h) = (Mat::rows(&d_x, c), Mat::rows(h, c));
        product(pool, (c, c, x.len() / c), (d_x.t(), h), &mut gradient.matrix, true);
        for row in d_x.data.chunks_exact(c) {
            gradient.bias.iter_mut().zip(row).for_each(|(b, d)| *b += d);
        }
    }
    sum
}

/// Hears a block's number, the streams before it and the model's own scores.
type Each<'f> = &'f mut dyn FnMut(usize, &[f32], &[f32]);

/// Gives each depth's streams and the model's own scores of some rows, a few positions at a time.
fn each_part(
    runner: &mut Runner<'_>,
    config: &Config,
    rows: &[Vec<i32>],
    each: Each<'_>,
) -> Result<usize> {
    let (c, v) = (config.width, config.vocab);
    let mut n = 0;
    for range in batches("tuned lens", rows)? {
        let seen = runner.run(&rows[range], &mut |_| Ok(()))?;
        let last = seen.value(scores_site())?;
        n += last.len() / v;
        for (layer, site) in streams(config).into_iter().enumerate() {
            let parts = seen.value(site)?.chunks(ROWS * c).zip(last.chunks(ROWS * v));
            parts.for_each(|(h, last)| each(layer, h, last));
        }
    }
    Ok(n)
}

fn runner(subject: Subject<'_>) -> Runner<'_> {
    let mut sites = streams(subject.config);
    sites.push(scores_site());
    Runner::new(subject, Watch::capture(&sites))
}

/// Teaches all maps. `next` gives the rows of a step's batch; `each` hears what was seen at each step.
///
/// # Errors
/// A model that is no pre-norm decoder, a lens of another model; a divergence that is no number; whatever `next` and
/// `each` give.
pub fn train(
    subject: Subject<'_>,
    lens: &mut TunedLens,
    recipe: &Recipe,
    next: &mut dyn FnMut(usize) -> Result<Vec<Vec<i32>>>,
    each: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<()> {
    let config = subject.config;
    demand_readable(config)?;
    lens.check(config)?;
    let reader = Reader::new(subject)?;
    let mut runner = runner(subject);
    let mut speed = TunedLens::new(config).translators;
    for step in 0..recipe.steps {
        let rows = next(step)?;
        let n: usize = rows.iter().map(Vec::len).sum();
        let mut gradients = TunedLens::new(config).translators;
        let mut sums = vec![0.0f64; config.layers];
        each_part(&mut runner, config, &rows, &mut |layer, h, last| {
            let gradient = Some((&mut gradients[layer], n));
            sums[layer] += loss(subject, &reader, &lens.translators[layer], (h, last), gradient);
        })?;
        let divergence: Vec<f64> = sums.iter().map(|s| s / n as f64).collect();
        if let Some(layer) = divergence.iter().position(|d| !d.is_finite()) {
            let message = format!("the divergence before block {layer} is {}", divergence[layer]);
            return Err(Error::new(Kind::Numeric, "tuned lens", message).hint("lower the rate"));
        }
        let rate = recipe.rate * (1.0 - step as f32 / recipe.steps as f32);
        let maps = lens.translators.iter_mut().zip(&mut speed).zip(&gradients);
        maps.for_each(|((map, speed), g)| descend(map, speed, g, recipe, rate));
        each(&Step { step: step + 1, divergence })?;
    }
    Ok(())
}

/// One step of SGD with Nesterov's momentum.
fn descend(
    map: &mut Translator,
    speed: &mut Translator,
    g: &Translator,
    recipe: &Recipe,
    rate: f32,
) {
    let square = |all: &[f32]| all.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let length = (square(&g.matrix) + square(&g.bias)).sqrt() as f32;
    let shrink = if length > recipe.clip { recipe.clip / length } else { 1.0 };
    let tensors = [
        (&mut map.matrix, &mut speed.matrix, &g.matrix),
        (&mut map.bias, &mut speed.bias, &g.bias),
    ];
    for (w, v, g) in tensors {
        for ((w, v), g) in w.iter_mut().zip(v).zip(g) {
            let g = shrink * g + recipe.decay * *w;
            *v = recipe.momentum * *v + g;
            *w -= rate * (g + recipe.momentum * *v);
        }
    }
}

/// Both lenses' divergence from the model's own words at each depth, over rows that the lens did not learn from.
///
/// # Errors
/// As [`train`]; no rows.
pub fn evaluate(subject: Subject<'_>, lens: &TunedLens, rows: &[Vec<i32>]) -> Result<Vec<Depth>> {
    let config = subject.config;
    demand_readable(config)?;
    lens.check(config)?;
    let reader = Reader::new(subject)?;
    let plain = TunedLens::new(config);
    let mut sums = vec![[0.0f64; 2]; config.layers];
    let n = each_part(&mut runner(subject), config, rows, &mut |layer, h, last| {
        for (sum, lens) in sums[layer].iter_mut().zip([&plain, lens]) {
            *sum += loss(subject, &reader, &lens.translators[layer], (h, last), None);
        }
    })?;
    let depth = |(layer, [a, b]): (usize, [f64; 2])| Depth {
        layer,
        logit_lens: a / n as f64,
        tuned_lens: b / n as f64,
    };
    Ok(sums.into_iter().enumerate().map(depth).collect())
}
