//! Looking changes nothing.

use crate::support::{ids, zoo};
use pellucid::backend::cpu::pool::Pool;
use pellucid::model::config::Core;
use pellucid::model::observer::Observer;
use pellucid::model::site::Site;
use pellucid::model::weights::Weights;

#[test]
fn observed_and_unobserved_runs_agree_bit_for_bit() {
    let pool = Pool::new(2);
    for (name, config) in zoo() {
        let weights = Weights::init(&config, 4);
        let row = ids(8, 2 * 9, config.vocab);
        let recurrent = config.core == Core::Lstm;
        let of_lstm =
            |s: &Site| matches!(s, Site::Embedding | Site::Block(_) | Site::Final | Site::Logits);
        let all = Site::all(config.layers);
        let all: Vec<Site> = all.into_iter().filter(|s| !recurrent || of_lstm(s)).collect();
        let there = |s: &Site| config.has_feed_forward() || !matches!(s, Site::Hidden(_));
        let all: Vec<Site> = all.into_iter().filter(there).collect();
        let mut seen = Observer::new(&config, 2, 9, &all, 2).unwrap();
        seen.run(&pool, &weights, &row).unwrap();
        let mut unseen = Observer::new(&config, 2, 9, &[Site::Logits], 2).unwrap();
        unseen.run(&pool, &weights, &row).unwrap();
        assert_eq!(
            seen.value(Site::Logits).unwrap(),
            unseen.value(Site::Logits).unwrap(),
            "{name}"
        );
        for site in all {
            let n = 2 * 9;
            let width = match site {
                Site::Qkv(_) => config.qkv_width(),
                Site::Heads(_) => config.heads * config.head_width,
                Site::Hidden(_) => config.hidden,
                Site::Logits => config.vocab,
                _ => config.width,
            };
            assert_eq!(seen.value(site).unwrap().len(), n * width, "{name} {site}");
        }
    }
}

#[test]
fn a_site_that_does_not_exist_is_named() {
    let (_, config) = zoo().remove(0);
    let error = Observer::new(&config, 1, 2, &[Site::Block(7)], 1).unwrap_err().to_string();
    assert!(error.contains("blocks.7.out"), "{error}");
}
