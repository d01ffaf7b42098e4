//! The exact laws of a glass box, measured on somebody's own model: what must hold to the bit, or up to rounding, for
//! any weights. They are numbered as in DESIGN.md.

mod derivatives;
mod laws;
#[cfg(test)]
mod tests;
mod tools;

use super::metric::Metric;
use super::patching::Pair;
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::config::Architecture;
use crate::model::edit::Region;
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;
use crate::ops::tap::Change;

/// What came of a law.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its error, and the largest that is allowed.
    Measured {
        /// Largest error seen; NaN fails.
        error: f64,
        /// What rounding may make of it; 0: every bit.
        limit: f64,
    },
    /// It says nothing about this model, and why.
    DoesNotApply(String),
}

impl Outcome {
    /// Whether it held; none where it says nothing.
    #[must_use]
    pub fn held(&self) -> Option<bool> {
        match self {
            Self::Measured { error, limit } => Some(*error <= *limit),
            Self::DoesNotApply(_) => None,
        }
    }
}

/// A law and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Law {
    /// Its number.
    pub number: usize,
    /// What it says.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// A text of one row, and another of the same length that differs from it.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// The text.
    pub text: Text<'a>,
    /// The same length, other tokens from some position on.
    pub other: Text<'a>,
}

type Check = fn(&Case<'_>) -> Result<Outcome>;

/// Every law, in the order in which they are tried: about the model, or, named so, about the tools.
const LAWS: &[(usize, &str, Check)] = &[
    (1, "looking at every site changes no bit", laws::looking),
    (2, "every site of the list fires exactly once", laws::firing),
    (3, "the stream is the sum of what was written to it", laws::sums),
    (
        4,
        "patterns sum to 1, see nothing ahead, and weigh the values that heads read",
        laws::patterns,
    ),
    (5, "shares of a score add up to it", laws::shares),
    (
        6,
        "a clean stream restores the clean scores; before the first difference nothing changes",
        laws::restores,
    ),
    (7, "a run's own values change nothing", laws::own_values),
    (8, "patching every path out of a component is patching it", laws::paths),
    (9, "a small patch does what its gradient says", derivatives::gradients),
    (10, "with patterns held, ablating a head takes away what it wrote", laws::held_patterns),
    (11, "integrated gradients add up to what another text changes", derivatives::completeness),
    (12, "every parameter has a gradient, and the loss moves as it says", derivatives::training),
    (13, "the lens at the last block is the model", laws::lens),
    (14, "tools: on a linear model a gradient is the product of its blocks", tools::linear),
    (15, "reading with a cache is reading the whole", laws::cache),
    (16, "rolled-out attention sums to 1, and is nobody's where nothing is read", laws::rolled_out),
    (17, "tools: a head built to copy has the copying score 1", tools::copying),
    (18, "tools: a probe finds one-hot positions, and nothing in shuffled ones", tools::probes),
    (19, "tools: a perfect dictionary, spliced in, changes nothing", tools::dictionary),
    (20, "tools: an induction head built by hand is found, and needed", tools::induction_found),
];

/// A model, its texts and its plain run.
struct Case<'a> {
    subject: Subject<'a>,
    texts: Texts<'a>,
    end: Site,
}

impl Case<'_> {
    fn sites(&self) -> Vec<Site> {
        Site::all(self.subject.config)
    }

    fn observe(&self, sites: &[Site]) -> Result<Observer> {
        self.subject.observe(self.texts.text, 1, sites)
    }

    fn has(&self, part: Part) -> bool {
        self.end.with(part).missing(self.subject.config).is_none()
    }

    fn layers(&self) -> usize {
        self.subject.config.blocks_that_generate()
    }

    fn block(&self, layer: usize, part: Part) -> Site {
        Site { layer, part, ..self.end }
    }

    /// What the model ends with when a site is changed.
    fn changed(&self, site: Site, region: &Region, change: &Change) -> Result<Vec<f32>> {
        let watch = Watch { capture: vec![self.end], edit: vec![site], ..Watch::default() };
        let Subject { config, pool, weights } = self.subject;
        let sizes = self.subject.sizes(&self.texts.text, 1);
        let mut observer = Observer::new(config, sizes, watch, End::Sites, pool.threads())?;
        observer.change(site, region, change)?;
        observer.run(pool, weights, self.texts.text)?;
        observer.read(self.end)
    }

    /// A decoder of one stack with scores of tokens, or why not.
    fn sweepable(&self) -> std::result::Result<(Pair<'_>, Metric), String> {
        let config = self.subject.config;
        if config.architecture != Architecture::Decoder || config.outputs() != config.vocab {
            return Err("sweeps need a decoder that scores tokens".into());
        }
        let pair = Pair { clean: self.texts.text.ids, corrupted: self.texts.other.ids };
        let last = pair.clean[pair.clean.len() - 1] as u32;
        let wrong = (last + 1) % config.vocab as u32;
        Ok((pair, Metric::Difference { right: last, wrong }))
    }
}

/// Tries every law on a model. `each` hears of each one as it is done.
///
/// # Errors
/// Texts of another shape than one row each, of the same length; ids outside the vocabulary.
pub fn verify(
    subject: Subject<'_>,
    texts: Texts<'_>,
    each: &mut dyn FnMut(&Law) -> Result<()>,
) -> Result<Vec<Law>> {
    if texts.text.ids.len() != texts.other.ids.len() || texts.text.ids.len() < 3 {
        let message = "two texts of the same length are needed, of at least 3 tokens";
        return Err(Error::new(Kind::Input, "verify", message));
    }
    let logits = Site::logits(subject.config);
    let scores = logits.missing(subject.config).is_none();
    let end = if scores { logits } else { logits.with(Part::UnembedIn) };
    let case = Case { subject, texts, end };
    let mut laws = vec![];
    for &(number, name, check) in LAWS {
        let law = Law { number, name, outcome: check(&case)? };
        each(&law)?;
        laws.push(law);
    }
    Ok(laws)
}
