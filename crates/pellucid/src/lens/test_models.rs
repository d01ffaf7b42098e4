//! Models whose weights are written down by hand (tests only).

use crate::model::config::{ActivationKind, Config, NormKind, Positions};
use crate::model::weights::Weights;
use crate::tensor::random::Random;

/// Its sizes; the feed-forward is silent.
fn induction_config(vocab: usize, context: usize) -> Config {
    let (v, p) = (vocab, context);
    let c = 3 * v + p;
    Config {
        layers: 2,
        width: c,
        heads: 1,
        kv_heads: 1,
        head_width: v.max(p),
        hidden: 4,
        vocab,
        context,
        positions: Positions::Learned,
        norm: NormKind::RmsNorm,
        bias: false,
        norm_bias: false,
        tied_head: false,
        attention_scale: Some(1.0),
        activation: ActivationKind::Relu,
        ..Config::gpt2()
    }
}

/// An induction head: the first block's head copies the token before, the second's attends to where the present token
/// was that, and says what stood there.
///
/// The stream is token | position | token before | answer, one-hot each; RMSNorm divides every position alike.
/// `sharp` is how much more a head wants what it looks for.
pub(super) fn induction(vocab: usize, context: usize, sharp: f32) -> (Config, Weights) {
    let config = induction_config(vocab, context);
    let (v, p, c) = (vocab, context, config.width);
    let mut weights = Weights::zeros(&config);
    let d = config.head_width;
    let (before, answer) = (v + p, 2 * v + p);
    let mut put = |name: &str, row: usize, column: usize, value: f32, columns: usize| {
        weights.get_mut(name).unwrap()[row * columns + column] = value;
    };
    for i in 0..v {
        put("embedding.token", i, i, 1.0, c);
        put("head.weight", i, answer + i, sharp, c);
    }
    for i in 0..p {
        put("embedding.position", i, v + i, 1.0, c);
    }
    for layer in 0..2 {
        let qkv = format!("blocks.{layer}.attn.qkv.weight");
        let out = format!("blocks.{layer}.attn.out.weight");
        for i in 0..v {
            // Values are tokens, without the norm's factor: √(C / 2), then √(C / 3).
            let factor = ((layer + 2) as f32 / c as f32).sqrt();
            put(&qkv, 2 * d + i, i, factor, c);
            put(&out, if layer == 0 { before + i } else { answer + i }, i, 1.0, d);
        }
        if layer == 0 {
            for i in 0..p {
                put(&qkv, d + i, v + i, 1.0, c);
                if i > 0 {
                    put(&qkv, i - 1, v + i, sharp, c);
                }
            }
        } else {
            for i in 0..v {
                put(&qkv, i, i, sharp, c);
                put(&qkv, d + i, before + i, 1.0, c);
            }
        }
    }
    for name in [
        "blocks.0.attn.norm",
        "blocks.1.attn.norm",
        "blocks.0.mlp.norm",
        "blocks.1.mlp.norm",
        "norm",
    ] {
        weights.get_mut(&format!("{name}.weight")).unwrap().fill(1.0);
    }
    (config, weights)
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
