//! Path patching (Wang et al. 2022; Goldowsky-Dill et al. 2023): the change that one component makes reaches only those
//! later components that are named.
//!
//! A stream is a sum, so the sender's change `d` reaches one reader alone when it is added before the reader and taken
//! away after: attention of block `l` reads `resid_pre + d`, and `resid_mid - d` goes on. Everything after a reader is
//! computed, nothing is linearised; with every path named it is ordinary patching.

use super::metric::Metric;
use super::patching::Pair;
use super::subject::Subject;
use super::sweep::{Cell, Patch, Sweep};
use crate::error::{Error, Kind, Result};
use crate::model::config::NormPlacement;
use crate::model::observer::{End, Text};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;
use crate::ops::tap::Change;
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

    /// The place after it, where its change enters the stream.
    fn part(self) -> (usize, Part) {
        match self {
            Self::Attention(l) | Self::Head(l, _) => (l, Part::AttnOut),
            Self::FeedForward(l) => (l, Part::MlpOut),
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
    let blocks = (0..layers).flat_map(|l| {
        let mlp = (subject.config.hidden > 0).then_some(Receiver::FeedForward(l));
        [Some(Receiver::Attention(l)), mlp].into_iter().flatten()
    });
    let all = blocks.chain([Receiver::Scores]);
    all.filter(|r| r.order(layers) > sender.order()).collect()
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
    let config = subject.config;
    if config.norm_placement == NormPlacement::Post || config.has_source() {
        let message = "paths are those of one stream that sublayers add to: pre-norm, one stack";
        return Err(Error::new(Kind::Config, "path patching", message));
    }
    if pair.clean.len() != pair.corrupted.len() {
        let message = "the clean and the corrupted text have different numbers of tokens";
        return Err(Error::new(Kind::Input, "path patching", message));
    }
    let possible = receivers(subject, sender);
    if let Some(bad) = to.iter().find(|r| !possible.contains(r)) {
        let message = format!("{bad:?} does not come after {sender:?}");
        return Err(Error::new(Kind::Input, "path patching", message));
    }
    let delta: Arc<[f32]> = change(subject, pair, sender)?.into();
    let back: Arc<[f32]> = delta.iter().map(|x| -x).collect();
    let mut patches = vec![];
    let mut put = |layer: usize, part: Part, values: &Arc<[f32]>| {
        let site = Site::block(layer, part);
        patches.push(Patch { site, region: vec![], change: Change::Add(Arc::clone(values)) });
    };
    let last = config.layers - 1;
    for receiver in to {
        // In before the reader, out after it.
        match *receiver {
            Receiver::Attention(l) => {
                put(l, Part::ResidPre, &delta);
                put(l, Part::ResidMid, &back);
            }
            Receiver::FeedForward(l) => {
                put(l, Part::ResidMid, &delta);
                put(l, Part::ResidPost, &back);
            }
            Receiver::Scores => put(last, Part::ResidPost, &delta),
        }
    }
    let sweep = Sweep::new(subject, pair.corrupted, 1, vec![])?;
    if patches.is_empty() {
        return metric.of(sweep.scores());
    }
    let (cell, mut value) = (Cell { base: 0, patches }, f64::NAN);
    sweep.run(&[cell], &mut |_, scores| {
        value = metric.of(scores)?;
        Ok(())
    })?;
    Ok(value)
}

/// What the sender writes in the clean run less in the corrupted one, (T, C).
fn change(subject: Subject<'_>, pair: Pair<'_>, sender: Sender) -> Result<Vec<f32>> {
    let config = subject.config;
    let (layer, out) = sender.part();
    let part = if let Sender::Head(..) = sender { Part::Z } else { out };
    let site = Site::block(layer, part);
    let read = |ids: &[i32]| {
        subject.run(Text::of(ids), 1, Watch::capture(&[site]), End::Sites)?.read(site)
    };
    let (clean, corrupted) = (read(pair.clean)?, read(pair.corrupted)?);
    let differs: Vec<f32> = clean.iter().zip(&corrupted).map(|(a, b)| a - b).collect();
    let Sender::Head(_, head) = sender else { return Ok(differs) };
    let (h, d, c) = (config.heads, config.head_width, config.width);
    if head >= h {
        let message = format!("head {head}, but heads are numbered 0..{h}");
        return Err(Error::new(Kind::Input, "path patching", message));
    }
    let out = subject.weights.get(&format!("blocks.{layer}.attn.out.weight"))?;
    let mut written = vec![];
    for z in differs.chunks_exact(h * d) {
        let z = &z[head * d..][..d];
        written.extend((0..c).map(|i| {
            let row = &out[i * h * d + head * d..][..d];
            row.iter().zip(z).map(|(w, z)| w * z).sum::<f32>()
        }));
    }
    Ok(written)
}
