//! Many changed runs of a few texts, as few and as short as they can be: runs that change something in block `l` at
//! position `p` share what is before both with the unchanged run, and go through the rest many at a time.

use super::metric::Metric;
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::edit::{Pick, Region};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Part, Site, Sizes};
use crate::model::tail::{Tail, TailSize, demand_cuttable, remembered};
use crate::model::watch::Watch;
use crate::ops::tap::Change;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Positions that go through the layers together.
const TOKENS: usize = 1024;
/// Fewer are as slow as these: the weights are read all the same.
const FEW: usize = 96;

/// A change of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Where.
    pub site: Site,
    /// What is picked along the axes after B.
    pub region: Vec<Pick>,
    /// What becomes of it.
    pub change: Change,
}

/// A changed run.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Row of the unchanged texts.
    pub base: usize,
    /// Changes, in the order in which they act.
    pub patches: Vec<Patch>,
}

/// What a sweep will cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Changed runs.
    pub cells: usize,
    /// Passes through the layers.
    pub passes: usize,
    /// Floating-point operations.
    pub flops: f64,
    /// Those of as many whole runs, one by one.
    pub flops_apart: f64,
}

/// Who follows a sweep: hears what it will cost and what it finds, and may know some of that already.
pub trait Follower {
    /// What the runs that are not yet known will cost; an error stops the sweep before it starts.
    ///
    /// # Errors
    /// Of its own.
    fn begin(&mut self, _: &Forecast) -> Result<()> {
        Ok(())
    }

    /// A cell's value, where an earlier sweep of the same cells was stopped after it: it is not run again.
    fn known(&self, _cell: usize) -> Option<f64> {
        None
    }

    /// A cell's value; an error stops the sweep.
    ///
    /// # Errors
    /// Of its own.
    fn found(&mut self, _cell: usize, _value: f64) -> Result<()> {
        Ok(())
    }
}

/// Nobody follows.
impl Follower for () {}

/// Unchanged runs, and what is needed to go on from any place of them.
#[derive(Debug)]
pub struct Sweep<'a> {
    subject: Subject<'a>,
    ids: Vec<i32>,
    b: usize,
    t: usize,
    /// Changes of the unchanged runs themselves, such as noise.
    given: Vec<Cell>,
    /// None where runs cannot be cut.
    kept: Option<BTreeMap<Site, Rc<[f32]>>>,
    scores: Vec<f32>,
}

/// Cells that go through the layers together.
struct Pass {
    cells: Vec<usize>,
    /// The first block and the longest rest; none: whole runs.
    cut: Option<(usize, usize)>,
}

impl<'a> Sweep<'a> {
    /// Runs `b` texts `ids` (B, T), changed by `given` (at most one cell for each row).
    ///
    /// # Errors
    /// A model with a source; ids or changes that do not fit.
    pub fn new(subject: Subject<'a>, ids: &[i32], b: usize, given: Vec<Cell>) -> Result<Self> {
        if subject.config.has_source() {
            let message = "the model reads a source as well: sweeps are of models with one stack";
            return Err(Error::new(Kind::Config, "sweep", message));
        }
        let t = ids.len() / b.max(1);
        let outside = |cell: &Cell| cell.patches.iter().all(|p| !p.site.part.in_block());
        let cut = demand_cuttable(subject.config).is_ok() && given.iter().all(outside);
        let capture = if cut { remembered(subject.config) } else { vec![] };
        let edit = sites(&given);
        let watch = Watch { capture: capture.clone(), edit, gradient: vec![] };
        let sizes = Sizes { b, t, s: 0 };
        let mut observer =
            Observer::new(subject.config, sizes, watch, End::Last, subject.pool.threads())?;
        for cell in &given {
            apply(cell, cell.base, 0, &mut |site, region, change| {
                observer.change(site, region, change)
            })?;
        }
        observer.run(subject.pool, subject.weights, Text::of(ids))?;
        let mut kept = BTreeMap::new();
        for site in capture {
            kept.insert(site, Rc::from(observer.read(site)?));
        }
        let scores = observer.last_scores()?.to_vec();
        let kept = cut.then_some(kept);
        Ok(Self { subject, ids: ids.to_vec(), b, t, given, kept, scores })
    }

    /// Scores after the last position of each unchanged run, (B, V).
    #[must_use]
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// The first block and position that a cell changes; none where its run cannot be cut.
    fn place(&self, cell: &Cell) -> Option<(usize, usize)> {
        self.kept.as_ref()?;
        let (mut layer, mut position) = (usize::MAX, usize::MAX);
        for patch in &cell.patches {
            let whole = matches!(patch.site.part, Part::Scores | Part::Pattern);
            if whole || !patch.site.part.in_block() {
                return None;
            }
            layer = layer.min(patch.site.layer);
            position = position.min(match patch.region.first() {
                Some(Pick::These(all)) => all.iter().copied().min().unwrap_or(0),
                _ => 0,
            });
        }
        (layer < usize::MAX && position < self.t).then_some((layer, position))
    }

    fn plan(&self, cells: &[Cell]) -> Vec<Pass> {
        let mut order: Vec<(Option<(usize, usize)>, usize)> =
            cells.iter().map(|c| self.place(c)).zip(0..).collect();
        order.sort();
        let mut passes: Vec<Pass> = vec![];
        for (place, cell) in order {
            let rest = place.map_or(self.t, |(_, p)| self.t - p);
            let fits = |pass: &&mut Pass| {
                // Later cells of a block are shorter; with much longer ones they would do too much again, unless the
                // pass is so small that reading the weights is all it costs.
                let longest = pass.cut.map_or(self.t, |(_, t)| t);
                let tokens = pass.cells.len() * longest;
                pass.cut.map(|(layer, _)| layer) == place.map(|(layer, _)| layer)
                    && tokens + longest <= TOKENS.max(longest)
                    && (4 * rest >= 3 * longest || tokens < FEW)
            };
            match passes.last_mut().filter(fits) {
                Some(pass) => pass.cells.push(cell),
                None => {
                    let cut = place.map(|(layer, _)| (layer, rest));
                    passes.push(Pass { cells: vec![cell], cut });
                }
            }
        }
        passes
    }

    /// What running these cells will cost.
    #[must_use]
    pub fn forecast(&self, cells: &[Cell]) -> Forecast {
        let config = self.subject.config;
        let block = {
            let c = config.width as f64;
            let up = if config.gated { 2.0 } else { 1.0 };
            let attention = c * (config.qkv_width() + config.heads * config.head_width) as f64;
            2.0 * (attention + (up + 1.0) * c * config.hidden as f64)
        };
        let head = 2.0 * (config.width * config.outputs()) as f64;
        let whole = |n: usize| block * (config.layers * self.t) as f64 * n as f64 + head * n as f64;
        let passes = self.plan(cells);
        let flops = |pass: &Pass| match pass.cut {
            None => whole(pass.cells.len()),
            Some((layer, t)) => {
                let rows = pass.cells.len() as f64;
                rows * (block * ((config.layers - layer) * t) as f64 + head)
            }
        };
        Forecast {
            cells: cells.len(),
            passes: passes.len(),
            flops: passes.iter().map(flops).sum(),
            flops_apart: whole(cells.len()),
        }
    }

    /// A metric of every cell, in their order.
    ///
    /// # Errors
    /// Changes that do not fit; an id outside the vocabulary; whatever the follower gives.
    pub fn measure(
        &self,
        cells: &[Cell],
        metric: &Metric,
        follower: &mut dyn Follower,
    ) -> Result<Vec<f64>> {
        let mut values: Vec<Option<f64>> = (0..cells.len()).map(|i| follower.known(i)).collect();
        let open: Vec<usize> = (0..cells.len()).filter(|&i| values[i].is_none()).collect();
        let rest: Vec<Cell> = open.iter().map(|&i| cells[i].clone()).collect();
        follower.begin(&self.forecast(&rest))?;
        self.run(&rest, &mut |i, scores| {
            let value = metric.of(scores)?;
            values[open[i]] = Some(value);
            follower.found(open[i], value)
        })?;
        // A cell that was never run is no number.
        Ok(values.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect())
    }

    /// Runs the cells, in an order of its own; `each` gets a cell's number and the scores after its last position (V).
    ///
    /// # Errors
    /// Changes that do not fit; whatever `each` gives, which ends the sweep.
    pub fn run(
        &self,
        cells: &[Cell],
        each: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        for pass in self.plan(cells) {
            let some: Vec<&Cell> = pass.cells.iter().map(|&i| &cells[i]).collect();
            let scores = match pass.cut {
                None => self.whole(&some)?,
                Some(cut) => self.rest(&some, cut)?,
            };
            let v = self.subject.config.outputs();
            for (scores, &cell) in scores.chunks_exact(v).zip(&pass.cells) {
                each(cell, scores)?;
            }
        }
        Ok(())
    }

    /// Whole runs.
    fn whole(&self, cells: &[&Cell]) -> Result<Vec<f32>> {
        let Subject { config, weights, pool } = self.subject;
        let mut edit = sites(&self.given);
        for site in sites(cells.iter().copied()) {
            if !edit.contains(&site) {
                edit.push(site);
            }
        }
        let watch = Watch { edit, ..Watch::default() };
        let sizes = Sizes { b: cells.len(), t: self.t, s: 0 };
        let mut observer = Observer::new(config, sizes, watch, End::Last, pool.threads())?;
        let mut ids = vec![];
        for (row, cell) in cells.iter().enumerate() {
            self.check(cell)?;
            ids.extend_from_slice(&self.ids[cell.base * self.t..][..self.t]);
            let given = self.given.iter().filter(|g| g.base == cell.base);
            for cell in given.chain([*cell]) {
                apply(cell, row, 0, &mut |site, region, change| {
                    observer.change(site, region, change)
                })?;
            }
        }
        observer.run(pool, weights, Text::of(&ids))?;
        Ok(observer.last_scores()?.to_vec())
    }

    /// From a block and a position on.
    fn rest(&self, cells: &[&Cell], (layer, t): (usize, usize)) -> Result<Vec<f32>> {
        let Subject { config, weights, pool } = self.subject;
        let kept = self.kept.as_ref().expect("cut runs are kept");
        let size = TailSize { layer, b: cells.len(), t, whole: self.t };
        let watch = Watch { edit: sites(cells.iter().copied()), ..Watch::default() };
        let mut tail = Tail::new(config, size, watch, pool.threads())?;
        // All rows go on from where the first of them changes: what the others compute again is as it was.
        let past = self.t - t;
        for (row, cell) in cells.iter().enumerate() {
            self.check(cell)?;
            let read = |site: Site| Ok(Rc::clone(&kept[&site]));
            tail.go_on(row, (past, t), cell.base, &read)?;
            apply(cell, row, past, &mut |site, region, change| tail.change(site, region, change))?;
        }
        Ok(tail.run(pool, weights)?.to_vec())
    }

    fn check(&self, cell: &Cell) -> Result<()> {
        if cell.base < self.b {
            return Ok(());
        }
        let message = format!("row {}, but there are {} texts", cell.base, self.b);
        Err(Error::new(Kind::Input, "sweep", message))
    }
}

/// Sites that cells change, each once.
fn sites<'c>(cells: impl IntoIterator<Item = &'c Cell>) -> Vec<Site> {
    let mut all: Vec<Site> =
        cells.into_iter().flat_map(|c| c.patches.iter().map(|p| p.site)).collect();
    all.sort();
    all.dedup();
    all
}

/// Hands on a cell's changes for `row`, whose first `past` positions are not there.
fn apply(
    cell: &Cell,
    row: usize,
    past: usize,
    change: &mut dyn FnMut(Site, &Region, &Change) -> Result<()>,
) -> Result<()> {
    for patch in &cell.patches {
        let mut picks = vec![Pick::one(row)];
        picks.extend(patch.region.iter().cloned());
        if past > 0
            && let Some(Pick::These(positions)) = picks.get_mut(1)
        {
            positions.iter_mut().for_each(|p| *p -= past);
        }
        change(patch.site, &Region(picks), &patch.change)?;
    }
    Ok(())
}
