//! Models for tests: random ones, and those of [`super::fixtures`] with more in them.

use crate::model::config::Config;
use crate::model::weights::Weights;
use crate::tensor::random::Random;

/// A model's weights in one that has more: what is new is 0, in norms 1.
pub(super) fn grown(weights: &Weights, config: Config) -> (Config, Weights) {
    let mut all = Weights::zeros(&config);
    for spec in all.specs().to_vec() {
        let values = &mut all.data_mut()[spec.range()];
        match weights.get(&spec.name) {
            Ok(known) => values.copy_from_slice(known),
            Err(_) if spec.name.ends_with("norm.weight") => values.fill(1.0),
            Err(_) => {}
        }
    }
    (config, all)
}

/// Random weights, matrices larger than they start, so that everything depends on everything.
pub(super) fn random(base: Config, seed: u64) -> (Config, Weights) {
    let kv_heads = if base.kv_heads == base.heads { 4 } else { 2 };
    let config = Config {
        layers: 2,
        width: 32,
        heads: 4,
        kv_heads,
        head_width: 8,
        hidden: 64,
        context: 32,
        vocab: 50,
        ..base
    };
    let mut weights = Weights::init(&config, seed);
    let mut random = Random::new(seed, 99);
    for spec in weights.specs().to_vec() {
        let factor = if spec.decay { 4.0 } else { 1.0 };
        let values = &mut weights.data_mut()[spec.range()];
        values.iter_mut().for_each(|w| *w = factor * *w + 0.02 * random.normal());
    }
    (config, weights)
}
