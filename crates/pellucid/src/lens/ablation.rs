//! What is missing when a component is taken out: each head, each attention, each feed-forward, one at a time, and
//! what becomes of a metric or of the loss of texts (Meyes et al. 2019; Michel, Levy & Neubig, "Are Sixteen Heads
//! Really Better than One?", 2019).
//!
//! Zero is something that the model may never have seen; the mean over positions keeps what does not depend on the
//! text, and another text's values keep everything but this text (Chan et al., "Causal Scrubbing", 2022).

use super::metric::Metric;
use super::rows::{Runner, batches, demand_next_tokens, losses, scores_site};
use super::subject::Subject;
use super::sweep::{Cell, Follower, Forecast, Patch, Sweep};
use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::edit::{Pick, Region};
use crate::model::observer::{Observer, Text};
use crate::model::site::{Part, Site, Sizes};
use crate::model::watch::Watch;
use crate::ops::tap::Change;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// What a head of a block read.
    Head(usize, usize),
    /// What a block's attention writes, with its bias.
    Attention(usize),
    /// What a block's feed-forward writes.
    FeedForward(usize),
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(layer, head) => write!(f, "blocks.{layer}.attn head {head}"),
            Self::Attention(layer) => write!(f, "blocks.{layer}.attn"),
            Self::FeedForward(layer) => write!(f, "blocks.{layer}.mlp"),
        }
    }
}

impl Component {
    /// All of a model with one stack, block by block.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Self> {
        let block = |layer: usize| {
            let heads = (0..config.heads).map(move |head| Self::Head(layer, head));
            let mlp = config.has_feed_forward().then_some(Self::FeedForward(layer));
            heads.chain([Self::Attention(layer)]).chain(mlp)
        };
        (0..config.layers).flat_map(block).collect()
    }

    fn site(self) -> Site {
        match self {
            Self::Head(layer, _) => Site::block(layer, Part::Z),
            Self::Attention(layer) => Site::block(layer, Part::AttnOut),
            Self::FeedForward(layer) => Site::block(layer, Part::MlpOut),
        }
    }

    /// What is picked along the axes after B.
    fn region(self) -> Vec<Pick> {
        match self {
            Self::Head(_, head) => vec![Pick::All, Pick::one(head)],
            _ => vec![],
        }
    }

    /// Its elements of vectors of its site, one after another.
    fn elements(self, config: &Config, vectors: &[f32]) -> Result<Vec<f32>> {
        let mut shape = self.site().shape(config, Sizes { b: 1, t: 1, s: 0 });
        shape[1] = vectors.len() / shape.iter().product::<usize>();
        Region::behind(1, &self.region()).take(&shape, vectors)
    }

    fn width(self, config: &Config) -> usize {
        if matches!(self, Self::Head(..)) { config.head_width } else { config.width }
    }
}

/// What stands in a component's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// 0.
    Zero,
    /// Its mean over the positions of the texts.
    Mean,
    /// What it is in another text of the same length, position by position.
    Resample,
}

/// What became of the number when a component was gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Ablation {
    /// With everything there.
    pub whole: f64,
    /// Without each component.
    pub without: Vec<(Component, f64)>,
}

impl Ablation {
    /// Components with the change each one's absence makes, largest changes first.
    #[must_use]
    pub fn changes(&self) -> Vec<(Component, f64)> {
        let mut all: Vec<_> = self.without.iter().map(|&(c, v)| (c, v - self.whole)).collect();
        all.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        all
    }
}

fn demand_attention(config: &Config) -> Result<()> {
    let missing = Component::all(config).iter().find_map(|c| c.site().missing(config));
    match missing.filter(|_| !config.has_source()) {
        None if !config.has_source() => Ok(()),
        why => {
            let why = why.unwrap_or_else(|| "the model has two stacks".into());
            Err(Error::new(Kind::Config, "ablation", why)
                .hint("this is asked of models with one stack of attention"))
        }
    }
}

/// Where components are, each place once.
fn sites(components: &[Component]) -> Vec<Site> {
    let mut all: Vec<Site> = components.iter().map(|c| c.site()).collect();
    all.sort();
    all.dedup();
    all
}

/// Mean (width) of vectors.
fn mean(vectors: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0f64; width];
    for row in vectors.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
    }
    let n = (vectors.len() / width) as f64;
    sum.iter().map(|s| (s / n) as f32).collect()
}

/// A metric of the scores after the last token, without each component. `other` is the text whose values are put in
/// by [`Removal::Resample`].
///
/// # Errors
/// A model with two stacks or without attention; another text of another length; whatever the follower gives.
pub fn metric_without(
    subject: Subject<'_>,
    (ids, other): (&[i32], &[i32]),
    metric: &Metric,
    removal: Removal,
    follower: &mut dyn Follower,
) -> Result<Ablation> {
    let config = subject.config;
    demand_attention(config)?;
    let components = Component::all(config);
    let from = if removal == Removal::Resample { other } else { ids };
    if from.len() != ids.len() {
        let message = format!("a text of {} tokens, another of {}", ids.len(), from.len());
        return Err(Error::new(Kind::Input, "ablation", message)
            .hint("both need the same number, so that positions mean the same"));
    }
    let mut values: BTreeMap<Site, Vec<f32>> = BTreeMap::new();
    if removal != Removal::Zero {
        let sites = sites(&components);
        let seen = subject.observe(Text::of(from), 1, &sites)?;
        for site in sites {
            values.insert(site, seen.read(site)?);
        }
    }
    let change = |c: &Component| -> Result<Change> {
        let own = || c.elements(config, &values[&c.site()]);
        Ok(match removal {
            Removal::Zero => Change::Fill(0.0),
            Removal::Mean => Change::Set(mean(&own()?, c.width(config)).into()),
            Removal::Resample => Change::Set(own()?.into()),
        })
    };
    let cell = |c: &Component| -> Result<Cell> {
        let patch = Patch { site: c.site(), region: c.region(), change: change(c)? };
        Ok(Cell { base: 0, patches: vec![patch] })
    };
    let cells: Vec<Cell> = components.iter().map(cell).collect::<Result<_>>()?;
    let sweep = Sweep::new(subject, ids, 1, vec![])?;
    let values = sweep.measure(&cells, metric, follower)?;
    let without = components.into_iter().zip(values).collect();
    Ok(Ablation { whole: metric.of(sweep.scores())?, without })
}

/// The mean loss of next tokens over texts, in nats, without each component. [`Removal::Resample`] takes each text's
/// values from the next one (the last's from the first). The follower's cells are batches of texts, each with
/// everything and then without each component; their values are sums of losses.
///
/// # Errors
/// A model that is no decoder of attention; no texts, or none of two tokens; texts of different lengths, or one alone,
/// where they lend each other values; whatever the follower gives.
pub fn loss_without(
    subject: Subject<'_>,
    rows: &[Vec<i32>],
    removal: Removal,
    follower: &mut dyn Follower,
) -> Result<Ablation> {
    let config = subject.config;
    demand_next_tokens("ablation", config)?;
    demand_attention(config)?;
    let alike = rows.windows(2).all(|w| w[0].len() == w[1].len());
    if removal == Removal::Resample && (rows.len() < 2 || !alike) {
        let message = format!("{} texts are to lend each other values", rows.len());
        return Err(Error::new(Kind::Input, "ablation", message)
            .hint("at least 2 texts of one length are needed"));
    }
    let ranges = batches("ablation", rows)?;
    let n: usize = rows.iter().map(|ids| ids.len() - 1).sum();
    if n == 0 {
        return Err(Error::new(Kind::Input, "ablation", "texts of one token predict nothing"));
    }
    let components = Component::all(config);
    let each = components.len() + 1;
    let mut values: Vec<Option<f64>> =
        (0..ranges.len() * each).map(|cell| follower.known(cell)).collect();
    Losses::new((subject, rows), removal, &components).fill(&ranges, &mut values, follower)?;
    let mut sums = vec![0.0; each];
    for (cell, value) in values.into_iter().enumerate() {
        // A cell that was never run is no number.
        sums[cell % each] += value.unwrap_or(f64::NAN) / n as f64;
    }
    let without = components.into_iter().zip(sums[1..].iter().copied()).collect();
    Ok(Ablation { whole: sums[0], without })
}

/// Losses of texts, run a few at a time.
struct Losses<'a> {
    rows: &'a [Vec<i32>],
    removal: Removal,
    components: &'a [Component],
    /// Shows what texts lend each other.
    plain: Runner<'a>,
    runner: Runner<'a>,
    subject: Subject<'a>,
}

impl<'a> Losses<'a> {
    fn new(
        (subject, rows): (Subject<'a>, &'a [Vec<i32>]),
        removal: Removal,
        components: &'a [Component],
    ) -> Self {
        let sites = sites(components);
        let plain = Runner::new(subject, Watch::capture(&sites));
        let watch = Watch { capture: vec![scores_site()], edit: sites, ..Watch::default() };
        let runner = Runner::new(subject, watch);
        Self { rows, removal, components, plain, runner, subject }
    }

    /// What the cells that are not known will cost.
    fn forecast(&mut self, ranges: &[Range<usize>], values: &[Option<f64>]) -> Result<Forecast> {
        let each = self.components.len() + 1;
        let (mut cells, mut flops) = (0, 0.0);
        for (range, values) in ranges.iter().zip(values.chunks_exact(each)) {
            let open = values.iter().filter(|v| v.is_none()).count();
            if open > 0 {
                let run = self.runner.prepare(range.len(), self.rows[range.start].len())?.flops();
                flops += run as f64 * open as f64;
                cells += open;
            }
        }
        Ok(Forecast { cells, passes: cells, flops, flops_apart: flops })
    }

    /// Runs what is not known.
    fn fill(
        &mut self,
        ranges: &[Range<usize>],
        values: &mut [Option<f64>],
        follower: &mut dyn Follower,
    ) -> Result<()> {
        let forecast = self.forecast(ranges, values)?;
        follower.begin(&forecast)?;
        if forecast.cells == 0 {
            return Ok(());
        }
        let means = match self.removal {
            Removal::Mean => means(self.subject, self.rows, self.components)?,
            _ => BTreeMap::new(),
        };
        let each = self.components.len() + 1;
        for (at, range) in ranges.iter().enumerate() {
            let open: Vec<usize> =
                (at * each..(at + 1) * each).filter(|&cell| values[cell].is_none()).collect();
            if open.is_empty() {
                continue;
            }
            let some = &self.rows[range.clone()];
            let next = |r: usize| self.rows[(r + 1) % self.rows.len()].clone();
            let lent = match self.removal {
                Removal::Resample => {
                    let next: Vec<Vec<i32>> = range.clone().map(next).collect();
                    Some(self.plain.run(&next, &mut |_| Ok(()))?)
                }
                _ => None,
            };
            for cell in open {
                let component = (cell % each).checked_sub(1).map(|c| self.components[c]);
                let config = self.subject.config;
                let seen = self.runner.run(some, &mut |observer| match component {
                    Some(c) => take_out(config, observer, c, (&means, lent)),
                    None => Ok(()),
                })?;
                let value = sum_of_losses(seen.value(scores_site())?, some);
                values[cell] = Some(value);
                follower.found(cell, value)?;
            }
        }
        Ok(())
    }
}

fn sum_of_losses(scores: &[f32], rows: &[Vec<i32>]) -> f64 {
    let each = scores.chunks_exact(scores.len() / rows.len());
    rows.iter().zip(each).flat_map(|(ids, scores)| losses(scores, ids)).sum()
}

/// Puts a component's mean, what `lent` shows of it, or else 0 in its place.
fn take_out(
    config: &Config,
    observer: &mut Observer,
    c: Component,
    (means, lent): (&BTreeMap<Component, Vec<f32>>, Option<&Observer>),
) -> Result<()> {
    let change = match (means.get(&c), lent) {
        (Some(mean), _) => Change::Set(mean.clone().into()),
        (None, Some(lent)) => Change::Set(c.elements(config, &lent.read(c.site())?)?.into()),
        (None, None) => Change::Fill(0.0),
    };
    observer.change(c.site(), &Region::behind(1, &c.region()), &change)
}

/// Each component's mean over all positions of all rows.
fn means(
    subject: Subject<'_>,
    rows: &[Vec<i32>],
    components: &[Component],
) -> Result<BTreeMap<Component, Vec<f32>>> {
    let config = subject.config;
    let mut runner = Runner::new(subject, Watch::capture(&sites(components)));
    let mut sums: BTreeMap<Component, Vec<f64>> = BTreeMap::new();
    let mut n = 0.0f64;
    for range in batches("ablation", rows)? {
        let seen = runner.run(&rows[range.clone()], &mut |_| Ok(()))?;
        n += rows[range].iter().map(Vec::len).sum::<usize>() as f64;
        for &c in components {
            let width = c.width(config);
            let sum = sums.entry(c).or_insert_with(|| vec![0.0; width]);
            for vector in c.elements(config, &seen.read(c.site())?)?.chunks_exact(width) {
                sum.iter_mut().zip(vector).for_each(|(s, &x)| *s += f64::from(x));
            }
        }
    }
    let mean = |sum: Vec<f64>| sum.iter().map(|s| (s / n) as f32).collect();
    Ok(sums.into_iter().map(|(c, sum)| (c, mean(sum))).collect())
}

#[cfg(test)]
#[path = "ablation_tests.rs"]
mod tests;
