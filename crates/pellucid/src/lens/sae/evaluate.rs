//! How good a sparse autoencoder is: alone (explained variance, L0, densities) and in its model, which goes on with
//! what it makes of a site's vectors.
//!
//! ```text
//! explained variance  1 - Σ ‖x - x̂‖² / Σ ‖x - mean‖²
//! loss recovered      (zero-ablated - spliced) / (zero-ablated - clean): 1 as without it, 0 as with nothing there
//! ```

use super::super::rows::{Runner, batches, demand_next_tokens, losses, scores_site};
use super::super::subject::Subject;
use super::autoencoder::Sae;
use crate::error::{Error, Kind, Result};
use crate::model::edit::Region;
use crate::model::observer::Observer;
use crate::model::site::{Site, Sizes};
use crate::model::watch::Watch;
use crate::ops::tap::Change;

/// What it is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// Vectors that were read.
    pub vectors: usize,
    /// 1: vectors are made again exactly; 0: as good as their mean.
    pub explained_variance: f64,
    /// Mean ‖x - x̂‖².
    pub squared_error: f64,
    /// Mean number of activations.
    pub l0: f64,
    /// Of each direction: share of vectors in which it is active.
    pub density: Vec<f64>,
    /// Directions that were never active.
    pub dead: usize,
    /// Mean loss of next tokens, in nats.
    pub clean: f64,
    /// With what it makes of the vectors in their place.
    pub spliced: f64,
    /// With zeros in their place.
    pub zeroed: f64,
}

impl Quality {
    /// How much of the loss that the site is worth is kept.
    #[must_use]
    pub fn loss_recovered(&self) -> f64 {
        (self.zeroed - self.spliced) / (self.zeroed - self.clean)
    }
}

/// Sums over vectors.
struct Sums {
    x: Vec<f64>,
    squares: f64,
    error: f64,
    active: Vec<usize>,
    n: usize,
}

impl Sums {
    fn add(&mut self, x: &[f32], out: &[f32], active: &[f32]) {
        for row in x.chunks_exact(self.x.len()) {
            self.n += 1;
            for (sum, &x) in self.x.iter_mut().zip(row) {
                *sum += f64::from(x);
                self.squares += f64::from(x).powi(2);
            }
        }
        self.error += x.iter().zip(out).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        for row in active.chunks_exact(self.active.len()) {
            self.active.iter_mut().zip(row).for_each(|(n, a)| *n += usize::from(*a > 0.0));
        }
    }

    fn variance(&self) -> f64 {
        self.squares - self.x.iter().map(|s| s * s).sum::<f64>() / self.n as f64
    }
}

/// The site's vectors are as wide as the autoencoder's.
fn demand_fit(subject: Subject<'_>, sae: &Sae, site: Site) -> Result<()> {
    site.demand(subject.config, "evaluate sae")?;
    let shape = site.shape(subject.config, Sizes { b: 1, t: 1, s: 0 });
    let width: usize = shape[2..].iter().product();
    if site.part.axes().starts_with("BT") && width == sae.config.d_in {
        return Ok(());
    }
    let message = format!("{site} has vectors of {width}, the autoencoder of {}", sae.config.d_in);
    Err(Error::new(Kind::Shape, "evaluate sae", message))
}

/// Reads texts with the autoencoder beside the model, and in it. `each` hears how many rows are done.
///
/// # Errors
/// A site that the model lacks or whose vectors have another width; a model that predicts no next tokens; no texts;
/// whatever `each` gives.
pub fn evaluate(
    subject: Subject<'_>,
    sae: &Sae,
    site: Site,
    rows: &[Vec<i32>],
    each: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Quality> {
    demand_next_tokens("evaluate sae", subject.config)?;
    demand_fit(subject, sae, site)?;
    let scores = scores_site();
    let mut plain = Runner::new(subject, Watch::capture(&[site, scores]));
    let watch = Watch { capture: vec![scores], edit: vec![site], ..Watch::default() };
    let mut changed = Runner::new(subject, watch);
    let (d, m) = (sae.config.d_in, sae.config.d_sae);
    let mut sums = Sums { x: vec![0.0; d], squares: 0.0, error: 0.0, active: vec![0; m], n: 0 };
    let (mut loss, mut predicted) = ([0.0f64; 3], 0usize);
    for range in batches("evaluate sae", rows)? {
        let rows = &rows[range.clone()];
        let mut count = |which: usize, seen: &Observer| -> Result<()> {
            let all = seen.value(scores)?;
            for (ids, scores) in rows.iter().zip(all.chunks_exact(all.len() / rows.len())) {
                loss[which] += losses(scores, ids).iter().sum::<f64>();
            }
            Ok(())
        };
        let seen = plain.run(rows, &mut |_| Ok(()))?;
        count(0, seen)?;
        let x = seen.read(site)?;
        let (active, out) = sae.reconstruct(subject.pool, &x)?;
        sums.add(&x, &out, &active);
        for (which, change) in [Change::Set(out.into()), Change::Fill(0.0)].iter().enumerate() {
            let seen = changed.run(rows, &mut |o| o.change(site, &Region::all(), change))?;
            count(1 + which, seen)?;
        }
        predicted += rows.iter().map(|ids| ids.len() - 1).sum::<usize>();
        each(range.end)?;
    }
    if predicted == 0 {
        let message = "texts of one token predict nothing";
        return Err(Error::new(Kind::Input, "evaluate sae", message));
    }
    let n = sums.n as f64;
    let [clean, spliced, zeroed] = loss.map(|l| l / predicted as f64);
    Ok(Quality {
        vectors: sums.n,
        explained_variance: 1.0 - sums.error / sums.variance(),
        squared_error: sums.error / n,
        l0: sums.active.iter().sum::<usize>() as f64 / n,
        density: sums.active.iter().map(|&a| a as f64 / n).collect(),
        dead: sums.active.iter().filter(|a| **a == 0).count(),
        clean,
        spliced,
        zeroed,
    })
}
