//! What is shown is what the model computed.

use super::{attention_map, logit_lens};
use crate::backend::cpu::pool::Pool;
use crate::model::config::Config;
use crate::model::observer::Observer;
use crate::model::site::Site;
use crate::model::weights::Weights;

fn small(base: Config) -> Config {
    let kv_heads = if base.kv_heads == base.heads { 4 } else { 2 };
    let sizes = Config { layers: 2, width: 32, heads: 4, kv_heads, head_width: 8, ..base };
    Config { hidden: 64, context: 16, vocab: 50, ..sizes }
}

/// Observed values of one row of 11 tokens.
fn observe(config: &Config) -> (Observer, Weights) {
    let mut weights = Weights::init(config, 5);
    weights.data_mut().iter_mut().for_each(|w| *w *= 4.0);
    let sites = [Site::Qkv(1), Site::Heads(1), Site::Block(1), Site::Logits];
    let mut observer = Observer::new(config, 1, 11, &sites, 1).unwrap();
    let ids: Vec<i32> = (0..11).map(|i| (i * 7) % 50).collect();
    observer.run(&Pool::new(1), &weights, &ids).unwrap();
    (observer, weights)
}

#[test]
fn the_lens_after_the_last_block_reads_the_models_own_logits() {
    for base in [Config::gpt2(), Config::llama()] {
        let config = small(base);
        let (observer, weights) = observe(&config);
        let stream = observer.value(Site::Block(1)).unwrap();
        let logits = observer.value(Site::Logits).unwrap();
        for t in [0, 10] {
            let row = &stream[t * config.width..][..config.width];
            let read = logit_lens::read(&config, &weights, row).unwrap();
            for (a, b) in read.iter().zip(&logits[t * config.vocab..]) {
                let error = (a - b).abs();
                assert!(error <= 1e-3 * b.abs().max(1.0), "{a} {b}");
            }
        }
        assert!(logit_lens::read(&config, &weights, &stream[..5]).is_err());
    }
}

#[test]
fn patterns_are_causal_and_weigh_the_values_that_the_heads_read() {
    for base in [Config::gpt2(), Config::llama()] {
        let config = small(base);
        let (observer, _) = observe(&config);
        let qkv = observer.value(Site::Qkv(1)).unwrap();
        let heads = observer.value(Site::Heads(1)).unwrap();
        let (row, d, t) = (config.qkv_width(), config.head_width, 11);
        for head in 0..config.heads {
            let pattern = attention_map::pattern(&config, qkv, head).unwrap();
            let group = config.heads / config.kv_heads;
            let value = (config.heads + config.kv_heads + head / group) * d;
            for (i, p) in pattern.chunks(t).enumerate() {
                assert!(p[i + 1..].iter().all(|&x| x == 0.0), "query {i} sees the future");
                let mixed =
                    |c: usize| -> f32 { (0..t).map(|s| p[s] * qkv[s * row + value + c]).sum() };
                for c in 0..d {
                    let want = heads[i * config.heads * d + head * d + c];
                    let error = (mixed(c) - want).abs();
                    assert!(error <= 1e-3 * want.abs().max(1.0), "{} {want}", mixed(c));
                }
            }
        }
        assert!(attention_map::pattern(&config, qkv, 99).is_err());
        assert!(attention_map::pattern(&config, &qkv[1..], 0).is_err());
    }
}
