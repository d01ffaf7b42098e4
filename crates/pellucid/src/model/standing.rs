//! Changes that hold at every position of every row, while a model generates or learns: a head that is silent, a
//! direction that is added (steering, Turner et al. 2023).

use super::builder::Builder;
use super::config::Config;
use super::decoder::Decoder;
use super::edit::{Pick, Region};
use super::site::{Site, Sizes};
use super::train_graph::TrainGraph;
use super::watch::Seen;
use crate::error::{Error, Kind, Result};
use crate::ops::tap::Change;

/// A change at every position.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Where; a site with positions.
    pub site: Site,
    /// What is picked along the axes but B and T.
    pub picks: Vec<Pick>,
    /// What becomes of it; values are those of one position, and scores and patterns, which grow, take none.
    pub change: Change,
}

/// Names the sites to a tape that is about to be recorded.
pub(super) fn watch(m: &mut Builder<'_>, all: &[Standing]) {
    m.watch.edit = all.iter().map(|s| s.site).collect();
}

/// Puts the changes into the slots of a tape that was recorded; one that extends texts looks at `capacity` keys.
pub(super) fn put(
    seen: &Seen,
    config: &Config,
    (sizes, capacity): (Sizes, Option<usize>),
    all: &[Standing],
) -> Result<()> {
    for Standing { site, picks, change } in all {
        let refuse = |message: String, hint: &str| {
            Err(Error::new(Kind::Input, "standing change", message).hint(hint))
        };
        let region = match site.part.axes() {
            axes if axes.starts_with("BT") => Region::behind(2, picks),
            "BHTS" if matches!(change, Change::Set(_) | Change::Add(_)) => {
                let hint = "fill or scale it: zero, x0.5";
                return refuse(format!("{site} grows with the text and takes no values"), hint);
            }
            "BHTS" => {
                let mut picks = picks.iter().cloned();
                let head = picks.next().unwrap_or_default();
                Region([Pick::All, head, Pick::All].into_iter().chain(picks).collect())
            }
            _ => {
                let hint =
                    "hook_z, a pattern, a stream or a neuron can be changed at every position";
                return refuse(format!("{site} is not of single positions"), hint);
            }
        };
        let view = match capacity {
            Some(capacity) => site.grown(config, sizes, capacity),
            None => site.view(config, sizes),
        };
        let edits = view.edits(&site.to_string(), &region, change)?;
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
        let before = std::mem::replace(&mut self.standing, changes.to_vec());
        self.plan_anew().inspect_err(|_| self.standing = before)
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
