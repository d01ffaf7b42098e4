//! What is wanted of a run's insides, and the layers' side of it: where a value passes a site, it is kept, changed,
//! or its gradient written down.
//!
//! Fused operations are taken apart only where somebody changes what they never write down (or wants its gradient);
//! who only looks gets it computed beside them, so that looking changes no bit.

use super::builder::Builder;
use super::site::{Part, Side, Site};
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::tap::{Shared, Tap};

/// Sites whose values are read, changed, or whose gradients are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Read after each run, as they left the site: after a change.
    pub capture: Vec<Site>,
    /// Changed in each run.
    pub edit: Vec<Site>,
    /// Gradients are read after each run that has an objective.
    pub gradient: Vec<Site>,
}

impl Watch {
    /// Reads these alone.
    #[must_use]
    pub fn capture(sites: &[Site]) -> Self {
        Self { capture: sites.to_vec(), ..Self::default() }
    }

    /// Every site that is named, once.
    pub(super) fn all(&self) -> Vec<Site> {
        let mut all: Vec<Site> =
            self.capture.iter().chain(&self.edit).chain(&self.gradient).copied().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// What is done with a base site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) capture: bool,
    pub(super) edit: bool,
    pub(super) gradient: bool,
}

impl Want {
    /// Whether the value must be one that the rest of the run reads.
    pub(super) fn active(self) -> bool {
        self.edit || self.gradient
    }

    pub(super) fn any(self) -> bool {
        self.capture || self.active()
    }
}

/// Where watched values are on a tape.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Values by base site.
    pub(super) values: Vec<(Site, Value)>,
    /// Slots by base site.
    pub(super) slots: Vec<(Site, Shared)>,
}

impl Builder<'_> {
    /// Which stack is being recorded.
    pub(super) fn side(&self) -> Side {
        match self.stack.prefix {
            "encoder." => Side::Encoder,
            "decoder." => Side::Decoder,
            _ => Side::Only,
        }
    }

    fn base_site(&self, part: Part, layer: usize) -> Site {
        Site { side: self.side(), layer, part: part.base() }
    }

    /// What is wanted of a part here.
    pub(super) fn want(&self, part: Part, layer: usize) -> Want {
        let site = self.base_site(part, layer);
        let has = |sites: &[Site]| sites.iter().any(|s| s.base() == site);
        let watch = &self.watch;
        Want {
            capture: has(&watch.capture),
            edit: has(&watch.edit),
            gradient: has(&watch.gradient),
        }
    }

    /// Whether something is wanted of a part here.
    pub(super) fn wants(&self, part: Part, layer: usize) -> bool {
        self.want(part, layer).any()
    }

    /// Whether a part is changed here, or its gradient wanted.
    pub(super) fn acts(&self, part: Part, layer: usize) -> bool {
        self.want(part, layer).active()
    }

    /// A value passes a site: what the rest of the run reads instead of it.
    pub(super) fn tap(&mut self, part: Part, layer: usize, value: Value) -> Result<Value> {
        let want = self.want(part, layer);
        if !want.any() {
            return Ok(value);
        }
        let mut value = value;
        if want.active() {
            let slot = Shared::default();
            slot.lock().listens = want.gradient;
            value = self.push(Tap::new(self.tape.len(value), slot.clone())?, &[value], &[], &[])?;
            if want.gradient {
                self.tape.want_gradient(value);
            }
            self.seen.slots.push((self.base_site(part, layer), slot));
        }
        if want.capture {
            self.show(part, layer, value);
        }
        Ok(value)
    }

    /// Keeps a value that was computed beside the run for a site.
    pub(super) fn show(&mut self, part: Part, layer: usize, value: Value) {
        self.tape.keep(value);
        self.seen.values.push((self.base_site(part, layer), value));
    }

    /// Everything that was asked for has a place on the tape.
    ///
    /// # Errors
    /// A site that would not fire, by name and with the reason.
    pub(super) fn check_watch(&self) -> Result<()> {
        for site in self.watch.all() {
            let base = site.base();
            let fires = self.seen.values.iter().any(|(s, _)| *s == base)
                || self.seen.slots.iter().any(|(s, _)| *s == base);
            if fires {
                continue;
            }
            site.demand(self.config, "observe")?;
            let why = "this run does not compute it on its own: watch a run over the whole text";
            return site.silent("observe", why);
        }
        Ok(())
    }
}
