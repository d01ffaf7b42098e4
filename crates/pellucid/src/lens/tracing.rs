//! Causal tracing of a fact (Meng et al. 2022): the subject is drowned in noise; putting one state of the clean run
//! back shows whether it carries the answer.

use super::metric::Metric;
use super::subject::Subject;
use super::sweep::{Cell, Follower, Patch, Sweep};
use crate::error::{Error, Kind, Result};
use crate::model::edit::Pick;
use crate::model::observer::{End, Text};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;
use crate::ops::tap::Change;
use crate::tensor::random::Random;
use std::collections::BTreeMap;
use std::ops::Range;

/// How a fact is traced.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Noisy runs that are averaged.
    pub samples: usize,
    /// The noise's standard deviation, in those of the embeddings.
    pub noise: f32,
    /// Blocks whose attention or feed-forward are put back together, around the one that is named.
    pub window: usize,
    /// Of the noise.
    pub seed: u64,
}

impl Default for Tracing {
    fn default() -> Self {
        Self { samples: 10, noise: 3.0, window: 10, seed: 1 }
    }
}

/// What is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Restored {
    /// The stream after a block.
    Stream,
    /// What the attentions of a window of blocks write.
    Attention,
    /// What the feed-forwards of a window of blocks write.
    FeedForward,
}

impl Restored {
    /// All.
    pub const ALL: [Self; 3] = [Self::Stream, Self::FeedForward, Self::Attention];

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Attention => "attention",
            Self::FeedForward => "feed-forward",
        }
    }

    fn part(self) -> Part {
        match self {
            Self::Stream => Part::ResidPost,
            Self::Attention => Part::AttnOut,
            Self::FeedForward => Part::MlpOut,
        }
    }
}

/// A prompt, where its subject stands, and what should follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Token ids.
    pub ids: Vec<i32>,
    /// The subject's positions.
    pub subject: Range<usize>,
    /// The first token of the answer.
    pub answer: u32,
}

/// Where a fact's answer can be brought back.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The answer's probability.
    pub clean: f64,
    /// With the subject in noise: mean over the samples.
    pub corrupted: f64,
    /// Of each sort: mean probability with that put back, (L, T).
    pub maps: BTreeMap<Restored, Vec<f64>>,
}

/// Standard deviation of all elements of the token embedding.
///
/// # Errors
/// Weights of another config.
pub fn embedding_spread(subject: Subject<'_>) -> Result<f32> {
    let scale =
        if subject.config.scaled_embedding { (subject.config.width as f64).sqrt() } else { 1.0 };
    let all = subject.weights.get("embedding.token")?;
    let n = all.len() as f64;
    let mean = all.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = all.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    Ok((scale * variance.sqrt()) as f32)
}

/// Traces a fact.
///
/// # Errors
/// A subject outside the prompt, no samples; a model with a source; whatever the follower gives.
pub fn trace(
    subject: Subject<'_>,
    fact: &Fact,
    how: &Tracing,
    follower: &mut dyn Follower,
) -> Result<Trace> {
    let (t, layers) = (fact.ids.len(), subject.config.layers);
    if fact.subject.is_empty() || fact.subject.end > t || how.samples == 0 || how.window == 0 {
        let message = format!(
            "{} samples, windows of {}, a subject at {:?} of {t} tokens",
            how.samples, how.window, fact.subject
        );
        return Err(Error::new(Kind::Input, "causal tracing", message).hint(
            "the subject is at least a token of the prompt; samples and window are at least 1",
        ));
    }
    let sites: Vec<Site> = Restored::ALL
        .iter()
        .flat_map(|r| (0..layers).map(|l| Site::block(l, r.part())))
        .filter(|site| site.missing(subject.config).is_none())
        .collect();
    let clean = subject.run(Text::of(&fact.ids), 1, Watch::capture(&sites), End::Last)?;
    let metric = Metric::Probability(fact.answer);
    let noisy = corrupt(subject, fact, how)?;
    let kept: BTreeMap<Site, Vec<f32>> =
        sites.iter().map(|&s| Ok((s, clean.read(s)?))).collect::<Result<_>>()?;
    let (cells, places) = cells(subject, fact, how, &kept);
    let mut trace =
        Trace { clean: metric.of(clean.last_scores()?)?, corrupted: 0.0, maps: BTreeMap::new() };
    let v = subject.config.outputs();
    for scores in noisy.scores().chunks_exact(v) {
        trace.corrupted += metric.of(scores)? / how.samples as f64;
    }
    // Putting back what was not touched changes nothing.
    for restored in Restored::ALL {
        if sites.iter().any(|s| s.part == restored.part()) {
            trace.maps.insert(restored, vec![trace.corrupted; layers * t]);
        }
    }
    let values = noisy.measure(&cells, &metric, follower)?;
    for (&(restored, at), values) in places.iter().zip(values.chunks_exact(how.samples)) {
        trace.maps.get_mut(&restored).expect("a map")[at] =
            values.iter().sum::<f64>() / how.samples as f64;
    }
    Ok(trace)
}

/// The noisy runs.
fn corrupt<'a>(subject: Subject<'a>, fact: &Fact, how: &Tracing) -> Result<Sweep<'a>> {
    let deviation = how.noise * embedding_spread(subject)?;
    let c = subject.config.width;
    let given = (0..how.samples)
        .map(|base| {
            let mut random = Random::new(how.seed, base as u64);
            let n = fact.subject.len() * c;
            let noise: Vec<f32> = (0..n).map(|_| deviation * random.normal()).collect();
            let region = vec![Pick::These(fact.subject.clone().collect())];
            let site = Site::once(Part::Embed);
            let patches = vec![Patch { site, region, change: Change::Add(noise.into()) }];
            Cell { base, patches }
        })
        .collect();
    Sweep::new(subject, &fact.ids.repeat(how.samples), how.samples, given)
}

/// For each place a cell of each sample; places before the subject are left out: nothing changed there.
fn cells(
    subject: Subject<'_>,
    fact: &Fact,
    how: &Tracing,
    kept: &BTreeMap<Site, Vec<f32>>,
) -> (Vec<Cell>, Vec<(Restored, usize)>) {
    let (t, layers, c) = (fact.ids.len(), subject.config.layers, subject.config.width);
    let (mut cells, mut places) = (vec![], vec![]);
    for restored in Restored::ALL {
        if !kept.keys().any(|s| s.part == restored.part()) {
            continue;
        }
        for layer in 0..layers {
            let blocks = match restored {
                Restored::Stream => layer..layer + 1,
                _ => {
                    let from = layer.saturating_sub(how.window / 2);
                    from..(layer + how.window.div_ceil(2)).min(layers)
                }
            };
            for position in fact.subject.start..t {
                places.push((restored, layer * t + position));
                let patches: Vec<Patch> = blocks
                    .clone()
                    .map(|block| {
                        let site = Site::block(block, restored.part());
                        let values = &kept[&site][position * c..][..c];
                        let change = Change::Set(values.into());
                        Patch { site, region: vec![Pick::one(position)], change }
                    })
                    .collect();
                cells.extend((0..how.samples).map(|base| Cell { base, patches: patches.clone() }));
            }
        }
    }
    (cells, places)
}
