//! Activation patching (Vig et al. 2020; Meng et al. 2022): what of a clean run, put into a corrupted one, brings the
//! answer back; and attribution patching (Nanda 2023; Syed et al. 2023), its estimate by one gradient.

use super::metric::Metric;
use super::subject::Subject;
use super::sweep::{Cell, Follower, Patch, Sweep};
use crate::error::{Error, Kind, Result};
use crate::model::edit::{Pick, Region};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Part, Site, Sizes};
use crate::model::watch::Watch;
use crate::ops::tap::Change;
use std::collections::BTreeMap;
use std::ops::Range;

/// Two texts of equal length that differ in what the answer hangs on.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The text whose insides are put in.
    pub clean: &'a [i32],
    /// The text they are put into.
    pub corrupted: &'a [i32],
}

/// What a cell of a map puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// A site of each block, at each position: block × position.
    Positions(Part),
    /// A head of each block, at all positions: block × head.
    Heads(Part),
    /// A head of each block at each position: (block, head) × position.
    HeadPositions(Part),
}

/// A map of numbers with its axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Number of columns: positions or heads.
    pub columns: usize,
    /// The metric in each cell, row-major.
    pub values: Vec<f64>,
    /// Of the clean run.
    pub clean: f64,
    /// Of the corrupted run.
    pub corrupted: f64,
}

impl Map {
    /// As shares of the way from the corrupted run to the clean one: 0 nothing, 1 all of it.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let way = self.clean - self.corrupted;
        self.values.iter().map(|v| (v - self.corrupted) / way).collect()
    }
}

/// A cell of a map: where, and what is picked along the axes after B.
struct Place {
    site: Site,
    region: Vec<Pick>,
    /// Elements of the site of one row (B = 1).
    elements: Vec<Range<usize>>,
}

/// All cells of a map, in its order, and its rows' names and columns.
fn places(subject: Subject<'_>, t: usize, grid: Grid) -> Result<(Vec<Place>, Vec<String>, usize)> {
    let config = subject.config;
    let (part, by_head) = match grid {
        Grid::Positions(part) => (part, false),
        Grid::Heads(part) | Grid::HeadPositions(part) => (part, true),
    };
    let axes = part.axes();
    let heads = match axes {
        "BTHD" => config.heads,
        "BTKD" => config.kv_heads,
        "BHTS" if matches!(grid, Grid::Heads(_)) => config.heads,
        "BTC" | "BTF" if !by_head => 1,
        _ => {
            let message = format!("{} has axes {axes}", part.name());
            return Err(Error::new(Kind::Input, "patching", message).hint(
                "heads are told apart in hook_z, q, k, v and pattern, positions in all but pattern",
            ));
        }
    };
    let (mut places, mut rows) = (vec![], vec![]);
    for layer in 0..config.layers {
        let site = Site::block(layer, part);
        site.demand(config, "patching")?;
        match grid {
            Grid::HeadPositions(_) => {
                rows.extend((0..heads).map(|h| format!("block {layer} head {h}")));
            }
            _ => rows.push(format!("block {layer}")),
        }
        let shape = site.shape(config, Sizes { b: 1, t, s: 0 });
        for region in of_block(grid, t, heads) {
            let elements = Region::behind(1, &region).ranges(&shape)?;
            places.push(Place { site, region, elements });
        }
    }
    let columns = if matches!(grid, Grid::Heads(_)) { heads } else { t };
    Ok((places, rows, columns))
}

/// What the cells of one block pick along the axes after B.
fn of_block(grid: Grid, t: usize, heads: usize) -> Vec<Vec<Pick>> {
    match grid {
        Grid::Positions(_) => (0..t).map(|p| vec![Pick::one(p)]).collect(),
        Grid::Heads(part) if part.axes() == "BHTS" => {
            (0..heads).map(|h| vec![Pick::one(h)]).collect()
        }
        Grid::Heads(_) => (0..heads).map(|h| vec![Pick::All, Pick::one(h)]).collect(),
        Grid::HeadPositions(_) => {
            (0..heads).flat_map(|h| (0..t).map(move |p| vec![Pick::one(p), Pick::one(h)])).collect()
        }
    }
}

/// The number of tokens of both.
pub(super) fn check(pair: Pair<'_>) -> Result<usize> {
    let (a, b) = (pair.clean.len(), pair.corrupted.len());
    if a == b && a > 0 {
        return Ok(a);
    }
    let message = format!("the clean text has {a} tokens, the corrupted one {b}");
    Err(Error::new(Kind::Input, "patching", message)
        .hint("both need the same number, so that positions mean the same"))
}

/// Puts clean values into the corrupted run, a cell at a time.
///
/// # Errors
/// Texts of different lengths; a site that the model lacks; whatever the follower gives.
pub fn patch(
    subject: Subject<'_>,
    pair: Pair<'_>,
    metric: &Metric,
    grid: Grid,
    follower: &mut dyn Follower,
) -> Result<Map> {
    let t = check(pair)?;
    let (places, rows, columns) = places(subject, t, grid)?;
    let mut sites: Vec<Site> = places.iter().map(|p| p.site).collect();
    sites.dedup();
    let clean = subject.run(Text::of(pair.clean), 1, Watch::capture(&sites), End::Last)?;
    let sweep = Sweep::new(subject, pair.corrupted, 1, vec![])?;
    let mut values = BTreeMap::new();
    for &site in &sites {
        values.insert(site, clean.read(site)?);
    }
    let cells: Vec<Cell> = places
        .into_iter()
        .map(|place| {
            let from = &values[&place.site];
            let new: Vec<f32> =
                place.elements.iter().flat_map(|r| from[r.clone()].iter().copied()).collect();
            let change = Change::Set(new.into());
            Cell {
                base: 0,
                patches: vec![Patch { site: place.site, region: place.region, change }],
            }
        })
        .collect();
    let (clean, corrupted) = (metric.of(clean.last_scores()?)?, metric.of(sweep.scores())?);
    let values = sweep.measure(&cells, metric, follower)?;
    Ok(Map { rows, columns, values, clean, corrupted })
}

/// The same map to first order, by one run forward and back: corrupted value + gradient · (clean - corrupted).
///
/// # Errors
/// As [`patch`].
pub fn estimate(subject: Subject<'_>, pair: Pair<'_>, metric: &Metric, grid: Grid) -> Result<Map> {
    let t = check(pair)?;
    let (places, rows, columns) = places(subject, t, grid)?;
    let mut sites: Vec<Site> = places.iter().map(|p| p.site).collect();
    sites.dedup();
    let logits = Site::logits(subject.config);
    let with_logits: Vec<Site> = sites.iter().copied().chain([logits]).collect();
    let clean = subject.observe(Text::of(pair.clean), 1, &with_logits)?;
    let watch = Watch { capture: with_logits, gradient: sites.clone(), edit: vec![] };
    let sizes = subject.sizes(&Text::of(pair.corrupted), 1);
    let mut run =
        Observer::new(subject.config, sizes, watch, End::Objective, subject.pool.threads())?;
    run.ask(metric.terms(t - 1));
    run.run(subject.pool, subject.weights, Text::of(pair.corrupted))?;
    let v = subject.config.outputs();
    let last = |o: &Observer| -> Result<f64> { metric.of(&o.value(logits)?[(t - 1) * v..]) };
    let (clean_value, corrupted) = (last(&clean)?, last(&run)?);
    let slope = if matches!(metric, Metric::Probability(_)) { corrupted } else { 1.0 };
    let mut products = BTreeMap::new();
    for &site in &sites {
        let (a, b, g) = (clean.read(site)?, run.read(site)?, run.gradient(site)?);
        // Where nobody may look both are -inf, and nothing is to be moved.
        let product = |((a, b), g): ((&f32, &f32), &f32)| {
            if a == b { 0.0 } else { f64::from(*g) * (f64::from(*a) - f64::from(*b)) }
        };
        let all: Vec<f64> = a.iter().zip(&b).zip(&g).map(product).collect();
        products.insert(site, all);
    }
    let value = |place: &Place| -> f64 {
        let all = &products[&place.site];
        let sum: f64 = place.elements.iter().flat_map(|r| &all[r.clone()]).sum();
        corrupted + slope * sum
    };
    let values = places.iter().map(value).collect();
    Ok(Map { rows, columns, values, clean: clean_value, corrupted })
}
