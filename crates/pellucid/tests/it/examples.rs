//! Every kind of model with weights and a text, for looking inside.

use crate::support::{families, ids, zoo};
use pellucid::model::config::{Config, Output};
use pellucid::model::observer::Text;
use pellucid::model::site::Sizes;
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;

/// A model and two rows, the second shorter.
#[derive(Clone)]
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) weights: Weights,
    pub(crate) sizes: Sizes,
    ids: Vec<i32>,
    source: Vec<i32>,
    segments: Vec<i32>,
}

impl Example {
    /// Random weights, none of which is as it starts.
    pub(crate) fn new(name: &str, config: Config, seed: u64) -> Self {
        let mut weights = Weights::init(&config, seed);
        let mut random = Random::new(seed, 5);
        weights.data_mut().iter_mut().for_each(|w| *w += 0.1 * random.normal());
        let sizes = Sizes { b: 2, t: 9, s: if config.has_source() { 7 } else { 0 } };
        let n = sizes.b * sizes.t;
        let source = ids(seed + 1, sizes.b * sizes.s, config.source_vocab());
        let segments = match config.segments {
            0 => vec![],
            kinds => (0..n).map(|i| (i % sizes.t / 5 % kinds) as i32).collect(),
        };
        let ids = ids(seed, n, config.vocab);
        Self { name: name.into(), config, weights, sizes, ids, source, segments }
    }

    /// The second row is shorter.
    pub(crate) fn text(&self) -> Text<'_> {
        let source_lengths: &[usize] = if self.sizes.s > 0 { &[7, 4] } else { &[] };
        Text {
            ids: &self.ids,
            lengths: &[9, 6],
            segments: &self.segments,
            source: &self.source,
            source_lengths,
        }
    }

    /// Rows of scores.
    pub(crate) fn rows(&self) -> usize {
        match self.config.output {
            Output::Sequence => self.sizes.b,
            _ => self.sizes.b * self.sizes.t,
        }
    }
}

/// One of every kind.
pub(crate) fn examples() -> Vec<Example> {
    let all = zoo().into_iter().chain(families());
    all.zip(11..).map(|((name, config), seed)| Example::new(name, config, seed)).collect()
}
