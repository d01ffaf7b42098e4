//! Models whose weights are written down, not learned: what a tool must find in them is known.

use crate::error::Result;
use crate::model::config::{Config, NormKind, NormPlacement, Positions};
use crate::model::weights::Weights;

/// An induction head (Olsson et al. 2022), built by hand: two blocks of one head each, no feed-forward, no norm.
///
/// The stream has four parts: which token (V), which position (P), which token before (V), and what to say (V). Head 0
/// looks at the position before and copies its token into the third part; head 1 looks for positions whose token before
/// is the one here, and copies what stands there into the fourth, which the head reads. `beta` multiplies both
/// attentions' scores: the larger, the nearer to looking at one position alone.
///
/// # Errors
/// Never for sizes above 0; the config is validated.
pub fn induction_head(vocab: usize, context: usize, beta: f32) -> Result<(Config, Weights)> {
    let width = 3 * vocab + context;
    let d = vocab.max(context);
    let config = Config {
        vocab,
        context,
        layers: 2,
        width,
        heads: 1,
        kv_heads: 1,
        head_width: d,
        hidden: 0,
        gated: false,
        positions: Positions::Learned,
        norm: NormKind::None,
        norm_placement: NormPlacement::Pre,
        norm_bias: false,
        bias: false,
        qkv_bias: None,
        tied_head: false,
        attention_scale: Some(1.0),
        dropout: 0.0,
        ..Config::gpt2()
    };
    config.validate()?;
    let mut weights = Weights::zeros(&config);
    let (token, position, before, say) = (0, vocab, vocab + context, 2 * vocab + context);
    let mut ones =
        |name: &str, columns: usize, all: &mut dyn Iterator<Item = (usize, usize, f32)>| {
            let matrix = weights.get_mut(name)?;
            all.for_each(|(row, column, value)| matrix[row * columns + column] = value);
            Ok::<(), crate::error::Error>(())
        };
    ones("embedding.token", width, &mut (0..vocab).map(|i| (i, token + i, 1.0)))?;
    ones("embedding.position", width, &mut (0..context).map(|i| (i, position + i, 1.0)))?;
    // Queries are rows 0..D, keys D..2D, values 2D..3D.
    let q0 = (1..context).map(|p| (p - 1, position + p, beta));
    let k0 = (0..context).map(|p| (d + p, position + p, 1.0));
    let v = |from: usize| (0..vocab).map(move |i| (2 * d + i, from + i, 1.0));
    ones("blocks.0.attn.qkv.weight", width, &mut q0.chain(k0).chain(v(token)))?;
    ones("blocks.0.attn.out.weight", d, &mut (0..vocab).map(|i| (before + i, i, 1.0)))?;
    let q1 = (0..vocab).map(|i| (i, token + i, beta));
    let k1 = (0..vocab).map(|i| (d + i, before + i, 1.0));
    ones("blocks.1.attn.qkv.weight", width, &mut q1.chain(k1).chain(v(token)))?;
    ones("blocks.1.attn.out.weight", d, &mut (0..vocab).map(|i| (say + i, i, 1.0)))?;
    ones("head.weight", width, &mut (0..vocab).map(|i| (i, say + i, beta)))?;
    Ok((config, weights))
}

/// `n` different tokens, twice, after token 0: what an induction head can continue.
#[must_use]
pub fn repeated(n: usize, seed: u64) -> Vec<i32> {
    let mut random = crate::tensor::random::Random::new(seed, 20);
    let mut once: Vec<i32> = (1..=n as i32).collect();
    for i in (1..n).rev() {
        once.swap(i, random.below(i + 1));
    }
    [&[0][..], &once, &once].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::attribution::{Grain, attribute};
    use crate::lens::metric::Metric;
    use crate::lens::subject::Subject;
    use crate::lens::sweep::{Cell, Patch, Sweep};
    use crate::model::observer::Text;
    use crate::model::site::{Part, Site};
    use crate::ops::tap::Change;

    #[test]
    fn the_induction_head_looks_where_it_must_and_says_what_follows() {
        let n = 12;
        let (config, weights) = induction_head(n + 1, 2 * n + 1, 30.0).unwrap();
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let ids = repeated(n, 7);
        let t = ids.len();
        let sites =
            [Site::block(0, Part::Pattern), Site::block(1, Part::Pattern), Site::logits(&config)];
        let seen = subject.observe(Text::of(&ids), 1, &sites).unwrap();
        let previous = seen.value(sites[0]).unwrap();
        let induction = seen.value(sites[1]).unwrap();
        let logits = seen.value(sites[2]).unwrap();
        for q in 1..t {
            assert!(previous[q * t + q - 1] > 0.999, "{q}: {}", previous[q * t + q - 1]);
        }
        // The second time, up to the last token, whose follower is not known.
        for q in n + 1..t - 1 {
            let follows = q - n + 1;
            assert!(induction[q * t + follows] > 0.999, "{q}: {}", induction[q * t + follows]);
            let p = Metric::Probability(ids[q + 1] as u32);
            let p = p.of(&logits[q * (n + 1)..][..n + 1]).unwrap();
            assert!(p > 0.999, "{q}: {p}");
        }
        // Without either head it guesses.
        let asked = &ids[..t - 1];
        let metric = Metric::Probability(ids[t - 1] as u32);
        let sweep = Sweep::new(subject, asked, 1, vec![]).unwrap();
        assert!(metric.of(sweep.scores()).unwrap() > 0.999);
        let cells: Vec<Cell> = (0..2)
            .map(|layer| {
                let site = Site::block(layer, Part::Z);
                let patches = vec![Patch { site, region: vec![], change: Change::Fill(0.0) }];
                Cell { base: 0, patches }
            })
            .collect();
        let chance = 1.0 / (n as f64 + 1.0);
        sweep
            .run(&cells, &mut |cell, scores| {
                let p = metric.of(scores).unwrap();
                assert!(p < 3.0 * chance, "without head {cell}: {p}");
                Ok(())
            })
            .unwrap();
        // Attribution names the second head alone.
        let direction = [(ids[t - 1] as u32, 1.0)];
        let found = attribute(subject, Text::of(asked), t - 2, &direction, Grain::Heads).unwrap();
        let of = |name: &str| found.shares.iter().find(|s| s.component == name).unwrap().value;
        assert!((of("blocks.1.attn head 0") - 30.0).abs() < 0.1, "{found:?}");
        assert!(of("blocks.0.attn head 0").abs() < 1e-6);
    }
}
