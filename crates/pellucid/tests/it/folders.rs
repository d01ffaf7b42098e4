//! What is saved loads back with the same logits, whatever the architecture.

use crate::support::logits;
use crate::support::{ids, zoo};
use pellucid::checkpoint::{GenerationConfig, StoredType, load, save};
use pellucid::model::weights::Weights;

#[test]
fn every_architecture_comes_back_bit_for_bit() {
    for (name, config) in zoo() {
        let mut weights = Weights::init(&config, 5);
        let noise = Weights::init(&config, 6);
        for spec in weights.specs().to_vec() {
            // A model without biases is stored with zero ones; nothing else is zero here.
            for (j, x) in weights.data_mut()[spec.range()].iter_mut().enumerate() {
                *x = *x * 6.0f32.min(1.0 + 5.0 * f32::from(spec.decay)) + noise.data()[j] * 3.0;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let generation = GenerationConfig::default();
        save(folder.path(), &config, &weights, None, &generation, StoredType::F32).unwrap();
        let back = load(folder.path()).unwrap();
        assert_eq!(back.config, config, "{name}");
        let row = ids(9, 22, config.vocab);
        let found = logits(&config, &weights, 2, &row);
        assert_eq!(found, logits(&back.config, &back.weights, 2, &row), "{name}");
    }
}
