//! Path patching (Wang et al. 2022; Goldowsky-Dill et al. 2023): the change that one component makes reaches only those
//! later components that are named.
//!
//! A stream is a sum, so the sender's change `d` reaches one reader alone when it is added before the reader and taken
//! away after: attention of block `l` reads `resid_pre + d`, and `resid_mid - d` goes on. Everything after a reader is
//! computed, nothing is linearised; with every path named it is ordinary patching.

use super::metric::Metric;
use super::patching::{Map, Pair, check};
use super::subject::Subject;
use super::sweep::{Cell, Follower, Patch, Sweep};
use crate::error::{Error, Kind, Result};
use crate::model::config::{Config, NormPlacement};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;
use crate::ops::tap::Change;
use std::fmt;
use std::sync::Arc;

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// What attention of a block writes.
    Attention(usize),
    /// What a head of a block writes: (block, head).
    Head(usize, usize),
    /// What the feed-forward of a block writes.
    FeedForward(usize),
}

/// Who hears of it directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// Attention of a block.
    Attention(usize),
    /// The feed-forward of a block.
    FeedForward(usize),
    /// The last norm and the head.
    Scores,
}

impl Sender {
    /// Its place in the order of the stream.
    fn order(self) -> usize {
        match self {
            Self::Attention(l) | Self::Head(l, _) => 2 * l,
            Self::FeedForward(l) => 2 * l + 1,
        }
    }

    /// Where it is seen.
    fn site(self) -> Site {
        match self {
            Self::Attention(l) => Site::block(l, Part::AttnOut),
            Self::Head(l, _) => Site::block(l, Part::Result),
            Self::FeedForward(l) => Site::block(l, Part::MlpOut),
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attention(l) => write!(f, "block {l} attention"),
            Self::Head(l, h) => write!(f, "block {l} head {h}"),
            Self::FeedForward(l) => write!(f, "block {l} feed-forward"),
        }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attention(l) => write!(f, "attention {l}"),
            Self::FeedForward(l) => write!(f, "feed-forward {l}"),
            Self::Scores => write!(f, "scores"),
        }
    }
}

impl Receiver {
    fn order(self, layers: usize) -> usize {
        match self {
            Self::Attention(l) => 2 * l,
            Self::FeedForward(l) => 2 * l + 1,
            Self::Scores => 2 * layers,
        }
    }
}

/// Every receiver after a sender, in the order of the stream.
#[must_use]
pub fn receivers(subject: Subject<'_>, sender: Sender) -> Vec<Receiver> {
    let layers = subject.config.layers;
    let mut all = all_receivers(subject);
    all.retain(|r| r.order(layers) > sender.order());
    all
}

fn all_receivers(subject: Subject<'_>) -> Vec<Receiver> {
    let blocks = (0..subject.config.layers).flat_map(|l| {
        let mlp = subject.config.has_feed_forward().then_some(Receiver::FeedForward(l));
        [Some(Receiver::Attention(l)), mlp].into_iter().flatten()
    });
    blocks.chain([Receiver::Scores]).collect()
}

fn demand_paths(subject: Subject<'_>, pair: Pair<'_>) -> Result<()> {
    let config = subject.config;
    if config.norm_placement == NormPlacement::Post || config.has_source() {
        let message = "paths are those of one stream that sublayers add to: pre-norm, one stack";
        return Err(Error::new(Kind::Config, "path patching", message));
    }
    check(pair).map(|_| ())
}

/// The metric of the corrupted run when these receivers hear the sender as it was in the clean run.
///
/// # Errors
/// Texts of different lengths; a post-norm or two-stack model; a receiver that is not after the sender.
pub fn path_patch(
    subject: Subject<'_>,
    pair: Pair<'_>,
    metric: &Metric,
    sender: Sender,
    to: &[Receiver],
) -> Result<f64> {
    demand_paths(subject, pair)?;
    let possible = receivers(subject, sender);
    if let Some(bad) = to.iter().find(|r| !possible.contains(r)) {
        let message = format!("{bad:?} does not come after {sender:?}");
        return Err(Error::new(Kind::Input, "path patching", message));
    }
    let sweep = Sweep::new(subject, pair.corrupted, 1, vec![])?;
    if to.is_empty() {
        return metric.of(sweep.scores());
    }
    let runs = both(subject, pair, &[sender])?;
    let cell = heard(&change(subject, &runs, sender)?.into(), to, subject.config.layers);
    Ok(sweep.measure(&[cell], metric, &mut ())?[0])
}

/// A run in which these receivers hear `delta`, in before each reader and out after it.
fn heard(delta: &Arc<[f32]>, to: &[Receiver], layers: usize) -> Cell {
    let back: Arc<[f32]> = delta.iter().map(|x| -x).collect();
    let mut patches = vec![];
    let mut put = |layer: usize, part: Part, values: &Arc<[f32]>| {
        let site = Site::block(layer, part);
        patches.push(Patch { site, region: vec![], change: Change::Add(Arc::clone(values)) });
    };
    for receiver in to {
        match *receiver {
            Receiver::Attention(l) => {
                put(l, Part::ResidPre, delta);
                put(l, Part::ResidMid, &back);
            }
            Receiver::FeedForward(l) => {
                put(l, Part::ResidMid, delta);
                put(l, Part::ResidPost, &back);
            }
            Receiver::Scores => put(layers - 1, Part::ResidPost, delta),
        }
    }
    Cell { base: 0, patches }
}

/// The metric for every path of one step, of each sender to each receiver after it: senders × receivers. Where a
/// receiver does not come after the sender, it is that of the corrupted run.
///
/// # Errors
/// As [`path_patch`]; whatever the follower gives.
pub fn path_map(
    subject: Subject<'_>,
    pair: Pair<'_>,
    metric: &Metric,
    by_head: bool,
    follower: &mut dyn Follower,
) -> Result<(Map, Vec<Receiver>)> {
    demand_paths(subject, pair)?;
    let config = subject.config;
    let columns = all_receivers(subject);
    let mut senders = vec![];
    for layer in 0..config.layers {
        match by_head {
            true => senders.extend((0..config.heads).map(|h| Sender::Head(layer, h))),
            false => senders.push(Sender::Attention(layer)),
        }
        senders.extend(config.has_feed_forward().then_some(Sender::FeedForward(layer)));
    }
    let runs = both(subject, pair, &senders)?;
    let (mut cells, mut places) = (vec![], vec![]);
    for (row, &sender) in senders.iter().enumerate() {
        let delta: Arc<[f32]> = change(subject, &runs, sender)?.into();
        for receiver in receivers(subject, sender) {
            let column = columns.iter().position(|r| *r == receiver).expect("among all");
            cells.push(heard(&delta, &[receiver], config.layers));
            places.push(row * columns.len() + column);
        }
    }
    let sweep = Sweep::new(subject, pair.corrupted, 1, vec![])?;
    let corrupted = metric.of(sweep.scores())?;
    let mut values = vec![corrupted; senders.len() * columns.len()];
    for (&at, value) in places.iter().zip(sweep.measure(&cells, metric, follower)?) {
        values[at] = value;
    }
    let map = Map {
        rows: senders.iter().map(ToString::to_string).collect(),
        columns: columns.len(),
        values,
        clean: metric.of(runs[0].last_scores()?)?,
        corrupted,
    };
    Ok((map, columns))
}

/// Both runs, with what these senders write.
fn both(subject: Subject<'_>, pair: Pair<'_>, senders: &[Sender]) -> Result<[Observer; 2]> {
    let mut sites: Vec<Site> = senders.iter().map(|s| s.site()).collect();
    sites.dedup();
    let run = |ids: &[i32]| subject.run(Text::of(ids), 1, Watch::capture(&sites), End::Last);
    Ok([run(pair.clean)?, run(pair.corrupted)?])
}

/// What the sender writes in the clean run less in the corrupted one, (T, C).
fn change(subject: Subject<'_>, runs: &[Observer; 2], sender: Sender) -> Result<Vec<f32>> {
    let Config { heads, width, .. } = *subject.config;
    let (clean, corrupted) = (runs[0].read(sender.site())?, runs[1].read(sender.site())?);
    let differs = clean.iter().zip(&corrupted).map(|(a, b)| a - b);
    let Sender::Head(_, head) = sender else { return Ok(differs.collect()) };
    if head >= heads {
        let message = format!("head {head}, but heads are numbered 0..{heads}");
        return Err(Error::new(Kind::Input, "path patching", message));
    }
    let own = |i: &usize| i / width % heads == head;
    Ok(differs.enumerate().filter(|(i, _)| own(i)).map(|(_, d)| d).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::test_models;

    #[test]
    fn a_map_holds_what_single_paths_say() {
        let (config, weights) = test_models::random(Config::gpt2(), 6);
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let (clean, corrupted) = ([5, 9, 3, 11, 2], [5, 9, 7, 11, 2]);
        let pair = Pair { clean: &clean, corrupted: &corrupted };
        let metric = Metric::LogProbability(4);
        for by_head in [false, true] {
            let (map, to) = path_map(subject, pair, &metric, by_head, &mut ()).unwrap();
            let per_block = if by_head { config.heads + 1 } else { 2 };
            assert_eq!((map.rows.len(), map.columns), (2 * per_block, 5));
            for (row, name) in map.rows.iter().enumerate() {
                let (layer, at) = (row / per_block, row % per_block);
                let sender = match (at + 1 == per_block, by_head) {
                    (true, _) => Sender::FeedForward(layer),
                    (false, true) => Sender::Head(layer, at),
                    (false, false) => Sender::Attention(layer),
                };
                assert_eq!(&sender.to_string(), name);
                let possible = receivers(subject, sender);
                for (column, receiver) in to.iter().enumerate() {
                    let got = map.values[row * 5 + column];
                    if possible.contains(receiver) {
                        let want =
                            path_patch(subject, pair, &metric, sender, &[*receiver]).unwrap();
                        assert!((got - want).abs() < 1e-5, "{name} {receiver}: {got} {want}");
                        assert!((got - map.corrupted).abs() > 1e-6, "{name} {receiver}");
                    } else {
                        assert_eq!(got, map.corrupted, "{name} {receiver}");
                    }
                }
            }
        }
    }
}
