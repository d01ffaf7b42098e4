//! Changes that hold while a model generates or learns.

use crate::support::{distance, ids, logits, tiny};
use pellucid::autograd::RunInfo;
use pellucid::backend::cpu::pool::Pool;
use pellucid::model::config::Config;
use pellucid::model::decoder::Decoder;
use pellucid::model::edit::Pick;
use pellucid::model::site::{Part, Site};
use pellucid::model::standing::Standing;
use pellucid::model::train_graph::{Batch, TrainGraph, TrainOptions};
use pellucid::model::weights::Weights;
use pellucid::ops::tap::Change;

fn silent_head() -> Standing {
    let site = Site::block(1, Part::Z);
    Standing { site, picks: vec![Pick::one(2)], change: Change::Fill(0.0) }
}

/// Weights whose second block does not read head 2.
fn without(config: &Config, weights: &Weights) -> Weights {
    let mut other = weights.clone();
    let d = config.head_width;
    let out = other.get_mut("blocks.1.attn.out.weight").unwrap();
    out.chunks_exact_mut(config.heads * d).for_each(|row| row[2 * d..3 * d].fill(0.0));
    other
}

#[test]
fn a_head_is_silent_while_a_model_generates() {
    let pool = Pool::new(2);
    for preset in ["gpt2", "llama"] {
        let config = tiny(preset);
        let weights = Weights::init(&config, 3);
        let row = ids(1, 12, config.vocab);
        let mut decoder = Decoder::new(&config, 1, 16, 2).unwrap();
        let whole = decoder.extend(&pool, &weights, &row, 12, &[12]).unwrap().to_vec();
        decoder.reset();
        decoder.hold(&[silent_head()]).unwrap();
        // A prompt, then token by token.
        decoder.extend(&pool, &weights, &row[..9], 9, &[9]).unwrap();
        let mut got = vec![];
        for id in &row[9..] {
            got = decoder.extend(&pool, &weights, &[*id], 1, &[1]).unwrap().to_vec();
        }
        let want = logits(&config, &without(&config, &weights), 1, &row);
        let want = &want[11 * config.vocab..];
        assert!(distance(&got, want) < 1e-4, "{preset}");
        assert!(distance(&got, &whole) > 1e-3, "{preset}: the head did nothing");
        let missing = Standing { site: Site::block(7, Part::Z), ..silent_head() };
        assert!(decoder.hold(&[missing]).is_err());
        let values = Change::Add(std::sync::Arc::from([1.0]));
        let pattern =
            Standing { site: Site::block(0, Part::Pattern), picks: vec![], change: values };
        assert!(decoder.hold(&[pattern]).is_err(), "it grows");
    }
}

#[test]
fn a_head_is_silent_while_a_model_learns_and_learns_nothing() {
    let pool = Pool::new(2);
    let config = Config { dropout: 0.0, ..tiny("gpt2") };
    let weights = Weights::init(&config, 3);
    let (b, t) = (3, 8);
    let batch = Batch::of(b, &ids(1, b * t, config.vocab), &ids(2, b * t, config.vocab));
    let step = |graph: &mut TrainGraph, weights: &Weights| {
        let mut grads = vec![0.0; weights.data().len()];
        let run = RunInfo { training: true, grad_scale: 1.0, ..RunInfo::default() };
        let loss = graph.step(&pool, weights, &mut grads, true, &batch, run).unwrap();
        (loss, grads)
    };
    let mut held = TrainGraph::new(&config, TrainOptions::new(b, t), 2).unwrap();
    let (plain, _) = step(&mut held, &weights);
    held.hold(&[silent_head()]);
    let (loss, grads) = step(&mut held, &weights);
    let other = without(&config, &weights);
    let (want, _) =
        step(&mut TrainGraph::new(&config, TrainOptions::new(b, t), 2).unwrap(), &other);
    assert!((loss - want).abs() < 1e-5 && (loss - plain).abs() > 1e-5, "{loss} {want} {plain}");
    let (evaluated, _) = held.evaluate(&pool, &weights, &batch).unwrap();
    assert!((evaluated - want).abs() < 1e-5);
    // Its values feed nothing but itself, so their rows get no gradient.
    let spec = weights.specs().iter().find(|s| s.name == "blocks.1.attn.qkv.weight").unwrap();
    let (c, d, h) = (config.width, config.head_width, config.heads);
    let rows = &grads[spec.range()][(2 * h + 2) * d * c..(2 * h + 3) * d * c];
    assert!(rows.iter().all(|g| *g == 0.0));
    assert!(grads[spec.range()].iter().any(|g| *g != 0.0));
}
