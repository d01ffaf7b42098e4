//! Who wrote this score: direct logit attribution (Elhage et al. 2021).
//!
//! The stream is a sum, and with the last norm's divisor as it was in the run a score is linear in the stream; so it is
//! a sum of what each component wrote, and of the biases after it. What one component does through later ones is not
//! its own.

use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Config, Core, NormKind, NormPlacement};
use crate::model::observer::Text;
use crate::model::site::{Part, Side, Site};

/// How finely components are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Embedding, attention and feed-forward of each block.
    Sublayers,
    /// Heads, and attention's biases.
    Heads,
    /// The feed-forward's neurons of one block; the rest as sublayers.
    Neurons(usize),
}

/// What a component gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Such as `blocks.3.attn head 2`.
    pub component: String,
    /// Its part of the score.
    pub value: f64,
}

/// A score and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// In the order of the data flow; the last is `biases`.
    pub shares: Vec<Share>,
    /// What the model computed.
    pub score: f64,
}

impl Attribution {
    /// Of all shares: the score, up to rounding.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.shares.iter().map(|s| s.value).sum()
    }
}

/// A weighted sum of scores: `[(id, 1)]` is a score, `[(a, 1), (b, -1)]` a logit difference.
pub type Direction<'a> = &'a [(u32, f64)];

/// The score after `position` of a text of one row.
///
/// # Errors
/// A model whose scores are not linear in its stream; ids or a position that do not exist.
pub fn attribute(
    subject: Subject<'_>,
    text: Text<'_>,
    position: usize,
    direction: Direction<'_>,
    grain: Grain,
) -> Result<Attribution> {
    let config = subject.config;
    demand_linear(config)?;
    let t = text.ids.len();
    if position >= t {
        let message = format!("position {position} of a text of {t} tokens");
        return Err(Error::new(Kind::Input, "attribution", message));
    }
    let reader = Reader::new(subject, direction)?;
    let sites = sites(config, grain);
    let observer = subject.observe(text, 1, &sites)?;
    let row = |site: Site| -> Result<Vec<f64>> {
        let all = observer.read(site)?;
        let width = all.len() / t;
        Ok(all[position * width..][..width].iter().map(|&x| f64::from(x)).collect())
    };
    let last = Site::logits(config);
    let divisor = match config.norm {
        NormKind::LayerNorm | NormKind::RmsNorm => row(last.with(Part::LnFinalScale))?[0],
        NormKind::None => 1.0,
    };
    let scores = row(last)?;
    let score = direction.iter().map(|&(id, w)| w * scores[id as usize]).sum();
    let mut shares = vec![];
    reader.walk((grain, divisor), &row, &mut shares)?;
    shares.push(Share { component: "biases".into(), value: reader.bias });
    Ok(Attribution { shares, score })
}

/// Only a pre-norm stream ends as the sum of what was written to it.
fn demand_linear(config: &Config) -> Result<()> {
    let error = |message: &str| {
        Err(Error::new(Kind::Config, "attribution", message)
            .hint("gradient x input says how a score depends on each token, of any model"))
    };
    if config.core == Core::Lstm {
        return error("an LSTM has no stream that components add to");
    }
    if config.norm_placement == NormPlacement::Post {
        return error("post-norm divides the stream after each sublayer: its end is no sum");
    }
    if config.head_transform || config.outputs() != config.vocab {
        return error(
            "there is a nonlinearity between the stream and the scores, or no token's score",
        );
    }
    Ok(())
}

fn layers(config: &Config) -> usize {
    config.blocks_that_generate()
}

fn sites(config: &Config, grain: Grain) -> Vec<Site> {
    let last = Site::logits(config);
    let once = [Part::LnFinalScale, Part::UnembedOut].map(|part| last.with(part));
    let mut all: Vec<Site> = once.into_iter().collect();
    all.push(Site::resid_pre(config, 0));
    for layer in 0..layers(config) {
        let mut parts = vec![Part::AttnOut, Part::MlpOut, Part::CrossOut];
        match grain {
            Grain::Heads => parts.extend([Part::Z, Part::CrossZ]),
            Grain::Neurons(l) if l == layer => parts.push(Part::MlpPost),
            _ => {}
        }
        all.extend(parts.into_iter().map(|part| Site { layer, part, ..last }));
    }
    all.retain(|site| site.missing(config).is_none());
    all
}

/// The direction of the stream that a sum of scores reads.
struct Reader<'a> {
    subject: Subject<'a>,
    /// (C): what a vector of the stream is multiplied with, before the division.
    stream: Vec<f64>,
    /// What is added after the stream.
    bias: f64,
}

impl<'a> Reader<'a> {
    fn new(subject: Subject<'a>, direction: Direction<'_>) -> Result<Self> {
        let Subject { config, weights, .. } = subject;
        let c = config.width;
        let head = subject.head()?;
        let scale = if config.scaled_head { 1.0 / (c as f64).sqrt() } else { 1.0 };
        let (mut column, mut bias) = (vec![0.0; c], 0.0);
        for &(id, weight) in direction {
            let Some(row) = head.chunks_exact(c).nth(id as usize) else {
                let message = format!("token {id}, but ids are 0..{}", config.vocab);
                return Err(Error::new(Kind::Input, "attribution", message));
            };
            column.iter_mut().zip(row).for_each(|(d, &w)| *d += scale * weight * f64::from(w));
            if let Ok(all) = weights.get("head.bias") {
                bias += weight * f64::from(all[id as usize]);
            }
        }
        let prefix = if config.has_source() { "decoder." } else { "" };
        if let Ok(shift) = weights.get(&format!("{prefix}norm.bias")) {
            bias += dot(shift, &column);
        }
        let mut stream = column;
        let norm = subject.last_norm()?;
        stream.iter_mut().zip(norm.iter()).for_each(|(d, &w)| *d *= f64::from(w));
        if config.norm == NormKind::LayerNorm {
            // Taking the mean from what is read is taking it from the reader.
            let mean = stream.iter().sum::<f64>() / c as f64;
            stream.iter_mut().for_each(|d| *d -= mean);
        }
        Ok(Self { subject, stream, bias })
    }

    /// Every component's share, in the order of the data flow.
    fn walk(
        &self,
        (grain, divisor): (Grain, f64),
        row: &dyn Fn(Site) -> Result<Vec<f64>>,
        shares: &mut Vec<Share>,
    ) -> Result<()> {
        let config = self.subject.config;
        let last = Site::logits(config);
        let prefix = if last.side == Side::Decoder { "decoder." } else { "" };
        let mut share = |component: String, value: f64| {
            shares.push(Share { component, value: value / divisor });
        };
        let read = |x: &[f64]| -> f64 { x.iter().zip(&self.stream).map(|(x, d)| x * d).sum() };
        share("embedding".into(), read(&row(Site::resid_pre(config, 0))?));
        for layer in 0..layers(config) {
            let name = format!("{prefix}blocks.{layer}");
            let sublayers = [
                (Part::AttnOut, Some(Part::Z), "attn"),
                (Part::CrossOut, Some(Part::CrossZ), "cross"),
                (Part::MlpOut, None, "mlp"),
            ];
            for (out, heads, short) in sublayers {
                let site = Site { layer, part: out, ..last };
                if site.missing(config).is_some() {
                    continue;
                }
                let whole = read(&row(site)?);
                let (width, inner) = match (grain, heads) {
                    (Grain::Heads, Some(z)) => (config.head_width, Some((z, "head"))),
                    (Grain::Neurons(l), None) if l == layer => (1, Some((Part::MlpPost, "neuron"))),
                    _ => (0, None),
                };
                let Some((part, kind)) = inner else {
                    share(format!("{name}.{short}"), whole);
                    continue;
                };
                let reader = self.through(&format!("{name}.{short}.out.weight"))?;
                let z = row(site.with(part))?;
                let mut rest = whole;
                for (i, (z, reader)) in z.chunks(width).zip(reader.chunks(width)).enumerate() {
                    let value: f64 = z.iter().zip(reader).map(|(z, r)| z * r).sum();
                    rest -= value;
                    share(format!("{name}.{short} {kind} {i}"), value);
                }
                share(format!("{name}.{short} bias"), rest);
            }
        }
        Ok(())
    }

    /// What the stream's reader reads of a matrix's inputs: `Wᵀ · stream`.
    fn through(&self, matrix: &str) -> Result<Vec<f64>> {
        let w = self.subject.weights.get(matrix)?;
        let columns = w.len() / self.stream.len();
        let mut all = vec![0.0; columns];
        for (row, d) in w.chunks_exact(columns).zip(&self.stream) {
            all.iter_mut().zip(row).for_each(|(a, &w)| *a += d * f64::from(w));
        }
        Ok(all)
    }
}

fn dot(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum()
}
