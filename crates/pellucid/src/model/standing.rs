//! Changes that hold at every position of every row, while a model generates or learns: a head that is silent, a
//! direction that is added (steering, Turner et al. 2023).

use super::builder::Builder;
use super::config::Config;
use super::decoder::Decoder;
use super::edit::{Pick, Region};
use super::site::{Site, Sizes};
use super::train_graph::TrainGraph;
use super::watch::{Seen, Watch};
use crate::error::{Error, Kind, Result};
use crate::ops::tap::Change;

/// A change at every position.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Where; a site with positions.
    pub site: Site,
    /// What is picked along the axes after B and T.
    pub picks: Vec<Pick>,
    /// What becomes of it; values are those of one position.
    pub change: Change,
}

/// Names the sites to a tape that is about to be recorded.
pub(super) fn watch(m: &mut Builder<'_>, all: &[Standing]) {
    m.watch = Watch { edit: all.iter().map(|s| s.site).collect(), ..Watch::default() };
}

/// Puts the changes into the slots of a tape that was recorded.
pub(super) fn put(seen: &Seen, config: &Config, sizes: Sizes, all: &[Standing]) -> Result<()> {
    for Standing { site, picks, change } in all {
        if !site.part.axes().starts_with("BT") {
            let message = format!("{site} is not of single positions");
            return Err(Error::new(Kind::Input, "standing change", message)
                .hint("hook_z, a stream or a neuron can be changed at every position"));
        }
        let view = site.view(config, sizes);
        let edits = view.edits(&site.to_string(), &Region::behind(2, picks), change)?;
        let slot = seen.slots.iter().find(|(s, _)| *s == site.base());
        let Some((_, slot)) = slot else {
            let message = format!("{site} would not fire in such a run");
            return Err(Error::new(Kind::Input, "standing change", message));
        };
        slot.lock().edits.extend(edits);
    }
    Ok(())
}

impl Decoder {
    /// From here on every token is read with these changes; what was read before stays as it was read.
    ///
    /// # Errors
    /// A site that the model lacks or that has no positions; the old changes then stay.
    pub fn hold(&mut self, changes: &[Standing]) -> Result<()> {
        let (chunks, before) = (
            std::mem::take(&mut self.chunks),
            std::mem::replace(&mut self.standing, changes.to_vec()),
        );
        // Made at once, so that a fault is found now.
        if let Err(error) = self.chunk(1, false) {
            (self.chunks, self.standing) = (chunks, before);
            return Err(error);
        }
        Ok(())
    }
}

impl TrainGraph {
    /// From here on batches are learned, and evaluated, with these changes; a value that is set passes no gradient.
    ///
    /// # Errors
    /// Found when the next batch is planned: a site that the model lacks or that has no positions.
    pub fn hold(&mut self, changes: &[Standing]) {
        self.standing = changes.to_vec();
        self.forget_plans();
    }
}
