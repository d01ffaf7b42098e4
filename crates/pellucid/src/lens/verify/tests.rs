//! Every law holds for models of every kind, and each has been seen to fail.

use super::{Law, Outcome, Texts, verify};
use crate::backend::cpu::pool::Pool;
use crate::lens::fixtures::induction_head;
use crate::lens::subject::Subject;
use crate::model::config::{Config, NormKind, NormPlacement, Output, Positions};
use crate::model::lies;
use crate::model::observer::Text;
use crate::model::site::Part;
use crate::model::weights::Weights;
use crate::tensor::random::Random;

fn small(base: Config) -> Config {
    let kv_heads = if base.kv_heads == base.heads { 4 } else { 2 };
    let sizes = Config { layers: 2, width: 32, heads: 4, kv_heads, head_width: 8, ..base };
    Config { hidden: 48, context: 16, vocab: 37, dropout: 0.0, ..sizes }
}

fn models() -> Vec<(&'static str, Config)> {
    let gpt2 = small(Config::gpt2());
    let bert = small(Config::preset("bert").unwrap());
    let seq = small(Config { decoder_layers: 2, ..Config::preset("transformer-tiny").unwrap() });
    let post = NormPlacement::Post;
    let none = Config { norm: NormKind::None, norm_bias: false, ..gpt2.clone() };
    let relative = Config { positions: Positions::Relative, ..gpt2.clone() };
    vec![
        ("llama", small(Config::llama())),
        ("post-norm", Config { norm_placement: post, ..gpt2.clone() }),
        ("relative", Config { relative_buckets: 8, relative_distance: 12, ..relative }),
        ("attention only", Config { hidden: 0, ..gpt2.clone() }),
        ("no norm", none),
        (
            "vectors",
            Config {
                output: Output::Vectors,
                head_bias: false,
                head_transform: false,
                ..bert.clone()
            },
        ),
        ("bert", bert),
        ("encoder-decoder", seq),
        ("gpt2", gpt2),
    ]
}

fn ids(n: usize, vocab: usize, seed: u64) -> Vec<i32> {
    let mut random = Random::new(seed, 8);
    (0..n).map(|_| random.below(vocab) as i32).collect()
}

fn laws(config: &Config, weights: &Weights) -> Vec<Law> {
    let pool = Pool::new(2);
    let subject = Subject { config, weights, pool: &pool };
    let first = ids(9, config.vocab, 1);
    let mut other = first.clone();
    other[4] = (other[4] + 1) % config.vocab as i32;
    let source = ids(if config.has_source() { 7 } else { 0 }, config.source_vocab(), 2);
    let text = |ids| Text { ids, source: &source, ..Text::default() };
    let mut heard = 0;
    let texts = Texts { text: text(&first), other: text(&other) };
    let laws = verify(subject, texts, &mut |_| {
        heard += 1;
        Ok(())
    });
    let laws = laws.unwrap();
    assert_eq!(heard, laws.len());
    laws
}

fn stirred(config: &Config) -> Weights {
    let mut weights = Weights::init(config, 3);
    let mut random = Random::new(4, 4);
    weights.data_mut().iter_mut().for_each(|w| *w = 2.0 * *w + 0.05 * random.normal());
    weights
}

#[test]
fn every_law_holds_or_says_why_not() {
    for (name, config) in models() {
        for law in laws(&config, &stirred(&config)) {
            assert_ne!(law.outcome.held(), Some(false), "{name}: {law:?}");
        }
    }
    let (config, weights) = induction_head(37, 16, 5.0).unwrap();
    for law in laws(&config, &weights) {
        assert_ne!(law.outcome.held(), Some(false), "induction: {law:?}");
    }
    // The plain one leaves none out.
    let (_, config) = models().pop().unwrap();
    for law in laws(&config, &stirred(&config)) {
        assert_eq!(law.outcome.held(), Some(true), "{law:?}");
    }
}

#[test]
fn every_law_has_been_seen_to_fail() {
    let (_, config) = models().pop().unwrap();
    let weights = stirred(&config);
    let wrong: [(usize, Part, f32); 19] = [
        (1, Part::UnembedOut, 1.000_001),
        (2, Part::MlpPre, f32::NAN),
        (3, Part::MlpOut, 1.01),
        (4, Part::Pattern, 1.01),
        (5, Part::AttnOut, 1.05),
        (6, Part::ResidPre, 1.05),
        (7, Part::Z, 1.05),
        (8, Part::Z, 1.2),
        (9, Part::MlpOut, -1.0),
        (10, Part::Result, 1.01),
        (11, Part::Embed, 1.5),
        (12, Part::Embed, 0.5),
        (13, Part::UnembedOut, 1.05),
        (14, Part::ResidPre, 1.01),
        (15, Part::UnembedOut, 1.01),
        (16, Part::Pattern, f32::NAN),
        (18, Part::ResidPre, 0.0),
        (19, Part::ResidPre, 0.5),
        (20, Part::UnembedOut, -1.0),
    ];
    for (number, part, factor) in wrong {
        lies::tell(Some(Box::new(move |site, captured, gradient, x| {
            // Of a run in which everything is seen, for the first law; of gradients, where the law is about them.
            let of_gradients = matches!(number, 9 | 12 | 14);
            let hit =
                site.part == part && (number != 1 || captured > 1) && gradient == of_gradients;
            if hit {
                x.iter_mut().for_each(|x| *x *= factor);
            }
        })));
        let found = laws(&config, &weights);
        lies::tell(None);
        let law = found.iter().find(|law| law.number == number).unwrap();
        assert_eq!(law.outcome.held(), Some(false), "law {number} was not failed: {law:?}");
    }
    // Law 17 reads weights alone: scores turned around by one token.
    let (config, mut weights) = induction_head(9, 17, 30.0).unwrap();
    weights.get_mut("head.weight").unwrap().rotate_right(config.width);
    let turned = super::tools::copies(&Pool::new(1), &config, &weights).unwrap();
    assert_eq!(turned.held(), Some(false), "{turned:?}");
    assert_eq!(Outcome::Measured { error: f64::NAN, limit: 1.0 }.held(), Some(false));
}
