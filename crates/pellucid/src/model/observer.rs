//! A run over whole sequences whose insides are read and changed, of any family; backward from a number made of
//! scores, too.

use super::builder::{Builder, Inputs, Purpose, Shape};
use super::config::Config;
use super::edit::Region;
use super::head;
use super::site::{Part, Site, Sizes};
use super::stored_weights::StoredWeights;
use super::transformer::transformer;
use super::watch::{Seen, Watch};
use super::weights::Weights;
use crate::autograd::{Plan, RunInfo, Session, Training, Value};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::ops::objective::{self, Objective, Term};
use crate::ops::tap::Change;

/// What a run reads. Whatever is empty is as it is without: rows are full, segments 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text<'a> {
    /// Token ids, (B, T), padded on the right.
    pub ids: &'a [i32],
    /// Tokens that are real, (B).
    pub lengths: &'a [usize],
    /// Segments, (B, T), where the model has some.
    pub segments: &'a [i32],
    /// Ids of what an encoder beside the decoder reads, (B, S), padded on the right.
    pub source: &'a [i32],
    /// Those that are real, (B).
    pub source_lengths: &'a [usize],
}

impl<'a> Text<'a> {
    /// Full rows.
    #[must_use]
    pub fn of(ids: &'a [i32]) -> Self {
        Self { ids, ..Self::default() }
    }
}

/// What happened at a site in the last run.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// Its name.
    pub site: String,
    /// How often a value passed.
    pub fired: u64,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Root of the sum of squares of what was captured, -inf left out; none where nothing was.
    pub norm: Option<f64>,
    /// Elements that a change touched.
    pub changed: usize,
}

/// Where the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the sites that are watched, or at the scores where these are.
    Sites,
    /// At the scores after each row's last real token, (B, V).
    Last,
    /// At a number made of scores, from which gradients go back.
    Objective,
}

/// Runs a model over texts of one shape and shows the values at chosen sites.
#[derive(Debug)]
pub struct Observer {
    session: Session,
    config: Config,
    sizes: Sizes,
    inputs: Inputs,
    source: Option<Inputs>,
    seen: Seen,
    watch: Watch,
    last: Option<Value>,
    objective: objective::Shared,
    /// Elements that each site's changes touch.
    changed: Vec<(Site, usize)>,
}

impl Observer {
    /// For texts of `sizes`. The same operations run whether or not somebody looks.
    ///
    /// # Errors
    /// A site that would not fire, by name and with the reason; sizes beyond the context.
    pub fn new(
        config: &Config,
        sizes: Sizes,
        watch: Watch,
        end: End,
        threads: usize,
    ) -> Result<Self> {
        Self::build(config, sizes, watch, end, (None, threads))
    }

    /// Reads these sites alone.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reading(config: &Config, sizes: Sizes, sites: &[Site], threads: usize) -> Result<Self> {
        Self::new(config, sizes, Watch::capture(sites), End::Sites, threads)
    }

    /// As [`Self::new`] with stored matrices; runs are given [`StoredWeights::rest`].
    ///
    /// # Errors
    /// As [`Self::new`]; an objective: stored matrices pass no gradient.
    pub fn with_stored(
        config: &Config,
        stored: &StoredWeights,
        sizes: Sizes,
        watch: Watch,
        end: End,
        threads: usize,
    ) -> Result<Self> {
        Self::build(config, sizes, watch, end, (Some(stored), threads))
    }

    fn build(
        config: &Config,
        sizes: Sizes,
        watch: Watch,
        end: End,
        (stored, threads): (Option<&StoredWeights>, usize),
    ) -> Result<Self> {
        let Sizes { b, t, s } = sizes;
        let purpose = Purpose::Observe;
        let mut m = Builder::new(config, Shape { b, t, s }, purpose, Precision::F32, stored)?;
        m.watch = watch;
        let source = config.has_source().then_some(m.inputs);
        let x = transformer(&mut m, t)?;
        let slot = objective::Shared::default();
        let (mut last, mut root) = (None, None);
        match end {
            End::Objective => {
                let scores = head::logits(&mut m, x)?;
                let rows = m.tape.len(scores) / config.outputs();
                let op = Objective::new(rows, config.outputs(), slot.clone())?;
                root = Some(m.push(op, &[scores], &[], &[])?);
                m.tape.freeze(|_| true);
            }
            End::Last => {
                let scores = head::last_logits(&mut m, x)?;
                m.tape.keep(scores);
                last = Some(scores);
            }
            End::Sites if m.wants(Part::UnembedOut, 0) => {
                head::logits(&mut m, x)?;
            }
            End::Sites => {}
        }
        m.check_watch()?;
        let inputs = m.inputs;
        let plan = match root {
            Some(root) => Plan::train(m.tape, root, Training::default(), threads)?,
            None => Plan::infer(m.tape, threads)?,
        };
        let (session, config, objective) = (Session::new(plan), config.clone(), slot);
        let (seen, watch, changed) = (m.seen, m.watch, vec![]);
        Ok(Self { session, config, sizes, inputs, source, seen, watch, last, objective, changed })
    }

    /// Bytes of working memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.session.bytes()
    }

    /// Floating-point operations of a run.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.session.plan().flops()
    }

    /// The sizes it was built for.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// What the number at the end is made of: rows of the scores are counted over (B, T).
    pub fn ask(&mut self, terms: Vec<Term>) {
        self.objective.lock().terms = terms;
    }

    /// Each term of the last run, without its weight.
    #[must_use]
    pub fn answers(&self) -> Vec<f64> {
        self.objective.lock().values.clone()
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        self.seen.slots.iter().for_each(|(_, slot)| slot.lock().edits.clear());
        self.changed.clear();
    }

    /// Adds a change to those of the next runs; they act in the order in which they were added.
    ///
    /// # Errors
    /// A site that was not named to be edited; a region outside it; values of another number.
    pub fn change(&mut self, site: Site, region: &Region, change: &Change) -> Result<()> {
        let slot = self.seen.slots.iter().find(|(s, _)| *s == site.base());
        let Some((_, slot)) = slot.filter(|_| self.watch.edit.contains(&site)) else {
            let message = format!("{site} was not named to be edited");
            return Err(Error::new(Kind::Input, "observe", message).hint("add it to Watch::edit"));
        };
        let view = site.view(&self.config, self.sizes);
        let edits = view.edits(&site.to_string(), region, change)?;
        let touched: usize = edits.iter().map(|e| e.range.len()).sum();
        if touched == 0 {
            let message = format!("a change at {site} touches no element");
            return Err(Error::new(Kind::Input, "observe", message));
        }
        slot.lock().edits.extend(edits);
        match self.changed.iter_mut().find(|(s, _)| *s == site) {
            Some((_, n)) => *n += touched,
            None => self.changed.push((site, touched)),
        }
        Ok(())
    }

    /// Runs a text of the sizes it was built for.
    ///
    /// # Errors
    /// A text of other sizes, ids outside the vocabulary.
    pub fn run(&mut self, pool: &Pool, weights: &Weights, text: Text<'_>) -> Result<()> {
        self.fill(text)?;
        for (_, slot) in &self.seen.slots {
            let mut slot = slot.lock();
            slot.fired = 0;
            slot.gradient.clear();
        }
        let run = RunInfo { grad_scale: 1.0, ..RunInfo::default() };
        self.session.run(pool, weights.data(), None, run)
    }

    fn fill(&mut self, text: Text<'_>) -> Result<()> {
        let Sizes { b, t, s } = self.sizes;
        let error = |message: String| Err(Error::new(Kind::Shape, "observe", message));
        let (n, m) = (text.ids.len(), text.source.len());
        let sources = if self.source.is_some() { b * s } else { 0 };
        if n != b * t || m != sources {
            return error(format!(
                "{n} ids and {m} of a source, but B·T = {}, B·S = {sources}",
                b * t
            ));
        }
        for (lengths, most) in [(text.lengths, t), (text.source_lengths, s)] {
            let bad = lengths.iter().any(|&l| l == 0 || l > most);
            if bad || !lengths.is_empty() && lengths.len() != b {
                return error(format!("lengths {lengths:?} of {b} rows; each is in 1..={most}"));
            }
        }
        if !text.segments.is_empty() && text.segments.len() != n {
            return error(format!("{} segments for {n} ids", text.segments.len()));
        }
        let session = &mut self.session;
        session.ints_mut(self.inputs.ids).copy_from_slice(text.ids);
        let length = |all: &[usize], i: usize, most: usize| all.get(i).map_or(most, |&l| l) as i32;
        let new = session.ints_mut(self.inputs.new);
        new.iter_mut().enumerate().for_each(|(i, n)| *n = length(text.lengths, i, t));
        if let Some(segments) = self.inputs.segments {
            let to = session.ints_mut(segments);
            if text.segments.is_empty() { to.fill(0) } else { to.copy_from_slice(text.segments) }
        }
        if let Some(source) = self.source {
            session.ints_mut(source.ids).copy_from_slice(text.source);
            let new = session.ints_mut(source.new);
            new.iter_mut().enumerate().for_each(|(i, n)| *n = length(text.source_lengths, i, s));
        }
        Ok(())
    }

    /// The memory that holds a site's value, and how it lies there.
    fn base(&self, site: Site) -> Result<&[f32]> {
        let asked = self.watch.capture.contains(&site);
        let found = self.seen.values.iter().find(|(s, _)| *s == site.base()).filter(|_| asked);
        let (_, value) = found.ok_or_else(|| {
            let message = format!("{site} was not chosen to be observed");
            Error::new(Kind::Input, "observe", message).hint("add it to Watch::capture")
        })?;
        self.session.value(*value)
    }

    /// The value at a site after a run, in the shape of [`Site::shape`].
    ///
    /// # Errors
    /// A site that was not named to be captured.
    pub fn read(&self, site: Site) -> Result<Vec<f32>> {
        let values = site.view(&self.config, self.sizes).gather(self.base(site)?);
        #[cfg(test)]
        let values = super::lies::told(site, self.watch.capture.len(), false, values);
        Ok(values)
    }

    /// As [`Self::read`], without a copy.
    ///
    /// # Errors
    /// As [`Self::read`]; a site that lies in rows with others (queries, keys, values, gates).
    pub fn value(&self, site: Site) -> Result<&[f32]> {
        if !site.view(&self.config, self.sizes).is_whole() {
            let message = format!("{site} lies in rows with others");
            return Err(Error::new(Kind::Input, "observe", message).hint("use Observer::read"));
        }
        self.base(site)
    }

    /// Scores after each row's last real token, (B, V), of a run that ends there.
    ///
    /// # Errors
    /// A run that ends elsewhere.
    pub fn last_scores(&self) -> Result<&[f32]> {
        let last = self.last.ok_or_else(|| {
            Error::new(Kind::Input, "observe", "the run does not end at the last scores")
        })?;
        self.session.value(last)
    }

    /// The objective's gradient at a site after a run, in the shape of [`Site::shape`].
    ///
    /// # Errors
    /// A site whose gradient was not asked for.
    pub fn gradient(&self, site: Site) -> Result<Vec<f32>> {
        let asked = self.watch.gradient.contains(&site);
        let found = self.seen.slots.iter().find(|(s, _)| *s == site.base()).filter(|_| asked);
        let (_, slot) = found.ok_or_else(|| {
            let message = format!("the gradient at {site} was not asked for");
            Error::new(Kind::Input, "observe", message).hint("add it to Watch::gradient")
        })?;
        let slot = slot.lock();
        if slot.gradient.is_empty() {
            let message = format!("no gradient reached {site}");
            return Err(Error::new(Kind::Gradient, "observe", message)
                .hint("the objective does not depend on it, or the run had none"));
        }
        let values = site.view(&self.config, self.sizes).gather(&slot.gradient);
        #[cfg(test)]
        let values = super::lies::told(site, self.watch.capture.len(), true, values);
        Ok(values)
    }

    /// What happened at each watched site in the last run.
    ///
    /// # Errors
    /// Before the first run.
    pub fn receipts(&self) -> Result<Vec<Receipt>> {
        let mut receipts = vec![];
        for site in self.watch.all() {
            let slot = self.seen.slots.iter().find(|(s, _)| *s == site.base());
            let captured = self.watch.capture.contains(&site);
            let norm = if captured { Some(norm(&self.read(site)?)) } else { None };
            receipts.push(Receipt {
                site: site.to_string(),
                fired: slot.map_or(1, |(_, slot)| slot.lock().fired),
                shape: site.shape(&self.config, self.sizes),
                norm,
                changed: self.changed.iter().find(|(s, _)| *s == site).map_or(0, |(_, n)| *n),
            });
        }
        Ok(receipts)
    }
}

/// Root of the sum of squares; -inf, where nobody may look, is left out.
fn norm(x: &[f32]) -> f64 {
    let seen = x.iter().filter(|x| **x != f32::NEG_INFINITY);
    seen.map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}
