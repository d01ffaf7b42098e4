//! A model that is looked into.

use crate::backend::cpu::pool::Pool;
use crate::error::Result;
use crate::model::config::{Config, NormKind, NormPlacement, Output};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Site, Sizes};
use crate::model::watch::Watch;
use crate::model::weights::Weights;
use std::borrow::Cow;

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

impl<'a> Subject<'a> {
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

    /// The matrix (V, C) that scores are read with.
    pub(super) fn head(&self) -> Result<&'a [f32]> {
        self.weights.get(if self.config.tied_head { "embedding.token" } else { "head.weight" })
    }

    /// The last norm's weights (C): all 1 where there is no norm.
    pub(super) fn last_norm(&self) -> Result<Cow<'a, [f32]>> {
        if self.config.norm == NormKind::None {
            return Ok(vec![1.0; self.config.width].into());
        }
        let prefix = if self.config.has_source() { "decoder." } else { "" };
        Ok(self.weights.get(&format!("{prefix}norm.weight"))?.into())
    }

    /// Whether scores are, up to a factor at each position, linear in the stream at its end.
    pub(super) fn reads_linearly(&self) -> bool {
        self.config.norm_placement == NormPlacement::Pre
            && self.config.output == Output::Tokens
            && !self.config.head_transform
    }
}
