//! A model that is looked into.

use crate::backend::cpu::pool::Pool;
use crate::error::Result;
use crate::model::config::Config;
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Site, Sizes};
use crate::model::watch::Watch;
use crate::model::weights::Weights;

/// Sizes, weights and the threads that compute.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its sizes.
    pub config: &'a Config,
    /// Its weights.
    pub weights: &'a Weights,
    /// Who computes.
    pub pool: &'a Pool,
}

impl Subject<'_> {
    /// Sizes of `b` rows as long as `text` has them.
    #[must_use]
    pub fn sizes(&self, text: &Text<'_>, b: usize) -> Sizes {
        let b = b.max(1);
        Sizes { b, t: text.ids.len() / b, s: text.source.len() / b }
    }

    /// Runs `b` rows and shows `sites`.
    ///
    /// # Errors
    /// A site that would not fire; ids outside the vocabulary.
    pub fn observe(&self, text: Text<'_>, b: usize, sites: &[Site]) -> Result<Observer> {
        self.run(text, b, Watch::capture(sites), End::Sites)
    }

    /// Runs `b` rows, watched so, to such an end.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub fn run(&self, text: Text<'_>, b: usize, watch: Watch, end: End) -> Result<Observer> {
        let sizes = self.sizes(&text, b);
        let mut observer = Observer::new(self.config, sizes, watch, end, self.pool.threads())?;
        observer.run(self.pool, self.weights, text)?;
        Ok(observer)
    }
}
