//! What is shown is what the model computed.

use super::logit_lens;
use crate::backend::cpu::pool::Pool;
use crate::model::config::Config;
use crate::model::observer::{Observer, Text};
use crate::model::readout::Readout;
use crate::model::site::{Part, Site, Sizes};
use crate::model::weights::Weights;

const T: usize = 11;
const SITES: [Site; 3] = [
    Site { side: crate::model::site::Side::Only, layer: 1, part: Part::ResidPost },
    Site { side: crate::model::site::Side::Only, layer: 0, part: Part::UnembedIn },
    Site { side: crate::model::site::Side::Only, layer: 0, part: Part::UnembedOut },
];

fn small(base: Config) -> Config {
    let kv_heads = if base.kv_heads == base.heads { 4 } else { 2 };
    let sizes = Config { layers: 2, width: 32, heads: 4, kv_heads, head_width: 8, ..base };
    Config { hidden: 64, context: 16, vocab: 50, ..sizes }
}

/// Observed values of one row of 11 tokens.
fn observe(config: &Config) -> (Observer, Weights) {
    let mut weights = Weights::init(config, 5);
    weights.data_mut().iter_mut().for_each(|w| *w *= 4.0);
    let mut observer = Observer::reading(config, Sizes { b: 1, t: T, s: 0 }, &SITES, 1).unwrap();
    let ids: Vec<i32> = (0..T as i32).map(|i| (i * 7) % 50).collect();
    observer.run(&Pool::new(1), &weights, Text::of(&ids)).unwrap();
    (observer, weights)
}

fn close(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    for (a, b) in got.iter().zip(want) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} {b}");
    }
}

#[test]
fn the_lens_after_the_last_block_reads_the_models_own_logits() {
    for base in [Config::gpt2(), Config::llama()] {
        let config = small(base);
        let (observer, weights) = observe(&config);
        let (stream, logits) =
            (observer.value(SITES[0]).unwrap(), observer.value(SITES[2]).unwrap());
        for t in [0, 10] {
            let row = &stream[t * config.width..][..config.width];
            let read = logit_lens::read(&config, &weights, row).unwrap();
            close(&read, &logits[t * config.vocab..][..config.vocab], 1e-3);
        }
        let pool = Pool::new(2);
        let mut readout = Readout::new(&config, false, 2).unwrap();
        close(&readout.read(&pool, &weights, stream).unwrap(), logits, 1e-4);
        let normed = observer.value(SITES[1]).unwrap();
        let mut readout = Readout::new(&config, true, 2).unwrap();
        close(&readout.read(&pool, &weights, normed).unwrap(), logits, 1e-4);
        assert!(logit_lens::read(&config, &weights, &stream[..5]).is_err());
    }
}
