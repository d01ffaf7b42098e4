//! Telling weights apart.

use crate::files::Fnv;
use crate::model::weights::Weights;

/// Equal for equal bits of all weights.
#[must_use]
pub fn fingerprint(weights: &Weights) -> String {
    let mut hash = Fnv::new();
    weights.data().iter().for_each(|w| hash.add_word(w.to_bits()));
    hash.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;

    #[test]
    fn one_bit_makes_other_weights() {
        let config = Config { layers: 1, ..Config::nano() };
        let (a, mut b) = (Weights::init(&config, 1), Weights::init(&config, 1));
        assert_eq!(fingerprint(&a), fingerprint(&b));
        let w = &mut b.data_mut()[7];
        *w = f32::from_bits(w.to_bits() ^ 1);
        assert_ne!(fingerprint(&a), fingerprint(&b));
    }
}
