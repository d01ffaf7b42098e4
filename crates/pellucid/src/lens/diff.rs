//! Two checkpoints of one architecture on the same texts: where are their insides different, and does it show?
//!
//! ```text
//! relative   ‖b - a‖ / ‖a‖ of a site's values over all texts
//! cosine     of the two, all values as one vector: 1 where b is a but for a factor
//! pattern    mean over texts and queries of ½ Σ |a - b|: how much of a head's attention moved elsewhere, 0 to 1
//! KL         mean over positions of Σ a ln(a / b), of what the models say next
//! ```

use super::rows::{Runner, batches, divergence, losses, scores_site};
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Config, Output};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;

/// How far a site's values are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteChange {
    /// Its name.
    pub site: String,
    /// Length of the difference over that of the first.
    pub relative: f64,
    /// Between the two.
    pub cosine: f64,
}

/// How far a head's patterns are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadChange {
    /// Block.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// Share of its attention that moved, 0 to 1.
    pub moved: f64,
}

/// What two checkpoints differ in.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Largest relative change first.
    pub sites: Vec<SiteChange>,
    /// Most moved first.
    pub heads: Vec<HeadChange>,
    /// Mean divergence of the second's next tokens from the first's, in nats.
    pub divergence: f64,
    /// Share of positions at which both find the same token likeliest.
    pub agreement: f64,
    /// Mean loss of next tokens of each; none where a text has one token.
    pub losses: Option<(f64, f64)>,
    /// Positions that were compared.
    pub positions: usize,
}

/// Sums over a site's values.
#[derive(Clone, Copy, Default)]
struct Sums {
    aa: f64,
    ab: f64,
    bb: f64,
    dd: f64,
}

impl Sums {
    fn add(&mut self, a: &[f32], b: &[f32]) {
        for (&a, &b) in a.iter().zip(b) {
            let (a, b) = (f64::from(a), f64::from(b));
            self.aa += a * a;
            self.ab += a * b;
            self.bb += b * b;
            self.dd += (b - a).powi(2);
        }
    }

    /// Of two that are both zero nothing changed.
    fn change(&self, site: Site) -> SiteChange {
        let ratio = |x: f64, y: f64, none: f64| if y > 0.0 { x / y } else { none };
        let relative =
            if self.dd > 0.0 { ratio(self.dd.sqrt(), self.aa.sqrt(), f64::INFINITY) } else { 0.0 };
        let none = f64::from(u8::from(self.dd == 0.0));
        let cosine = ratio(self.ab, (self.aa * self.bb).sqrt(), none);
        SiteChange { site: site.to_string(), relative, cosine }
    }
}

/// The sites that are compared, in the order of the data flow.
fn sites(config: &Config) -> Vec<Site> {
    let parts = [Part::AttnOut, Part::MlpOut, Part::ResidPost];
    let block = |l| parts.map(|p| Site::block(l, p));
    let mut all = vec![Site::once(Part::Embed)];
    all.extend((0..config.layers).flat_map(block));
    all.push(scores_site());
    all.retain(|s| s.missing(config).is_none());
    all
}

fn demand_alike(a: &Config, b: &Config) -> Result<()> {
    let refuse = |message: &str| Error::new(Kind::Config, "diff", message);
    if a != b {
        return Err(refuse("the two checkpoints have different configs")
            .hint("compare checkpoints of one run, or before and after finetuning"));
    }
    if a.has_source() || a.output != Output::Tokens {
        return Err(refuse("models with one stack that score tokens are compared"));
    }
    Ok(())
}

/// Adds to each head (H) how much of the attention of patterns (B, H, T, T) moved.
fn add_moved(moved: &mut [f64], a: &[f32], b: &[f32], t: usize) {
    let heads = moved.len();
    for (i, (a, b)) in a.chunks_exact(t * t).zip(b.chunks_exact(t * t)).enumerate() {
        let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum();
        moved[i % heads] += 0.5 * sum;
    }
}

/// Compares `b` with `a` over texts. `each` hears how many rows are done.
///
/// # Errors
/// Checkpoints of different architectures, one with two stacks or without tokens' scores; no texts; whatever `each`
/// gives.
pub fn compare(
    a: Subject<'_>,
    b: Subject<'_>,
    rows: &[Vec<i32>],
    each: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Difference> {
    let config = a.config;
    demand_alike(config, b.config)?;
    let (sites, scores) = (sites(config), scores_site());
    let patterns: Vec<Site> = (0..config.layers)
        .map(|l| Site::block(l, Part::Pattern))
        .filter(|s| s.missing(config).is_none())
        .collect();
    let watched: Vec<Site> = sites.iter().chain(&patterns).copied().collect();
    let mut runners = [a, b].map(|s| Runner::new(s, Watch::capture(&watched)));
    let mut sums = vec![Sums::default(); sites.len()];
    let mut moved = vec![0.0f64; patterns.len() * config.heads];
    let mut said = Said::default();
    let mut single = false;
    for range in batches("diff", rows)? {
        let (some, t) = (&rows[range.clone()], rows[range.start].len());
        let [first, second] = &mut runners;
        let (a, b) = (first.run(some, &mut |_| Ok(()))?, second.run(some, &mut |_| Ok(()))?);
        for (sum, &site) in sums.iter_mut().zip(&sites) {
            sum.add(a.value(site)?, b.value(site)?);
        }
        for (moved, &site) in moved.chunks_exact_mut(config.heads).zip(&patterns) {
            add_moved(moved, a.value(site)?, b.value(site)?, t);
        }
        let (a, b) = (a.value(scores)?, b.value(scores)?);
        let size = a.len() / some.len();
        for (ids, (a, b)) in some.iter().zip(a.chunks_exact(size).zip(b.chunks_exact(size))) {
            said.add(ids, a, b);
        }
        single |= t == 1;
        each(range.end)?;
    }
    let n = said.n as f64;
    let mut sites: Vec<SiteChange> =
        sums.iter().zip(&sites).map(|(s, &site)| s.change(site)).collect();
    sites.sort_by(|a, b| b.relative.total_cmp(&a.relative));
    let head = |(i, moved): (usize, &f64)| HeadChange {
        layer: i / config.heads,
        head: i % config.heads,
        moved: moved / n,
    };
    let mut heads: Vec<HeadChange> = moved.iter().enumerate().map(head).collect();
    heads.sort_by(|a, b| b.moved.total_cmp(&a.moved));
    Ok(Difference {
        sites,
        heads,
        divergence: said.divergence / n,
        agreement: said.agree as f64 / n,
        losses: (!single).then(|| {
            let n = (said.n - rows.len()) as f64;
            (said.losses.0 / n, said.losses.1 / n)
        }),
        positions: said.n,
    })
}

/// Sums over what the models say.
#[derive(Default)]
struct Said {
    divergence: f64,
    agree: usize,
    losses: (f64, f64),
    n: usize,
}

impl Said {
    fn add(&mut self, ids: &[i32], a: &[f32], b: &[f32]) {
        let v = a.len() / ids.len();
        let best = |s: &[f32]| (0..v).fold(0, |m, i| if s[i] > s[m] { i } else { m });
        for (a, b) in a.chunks_exact(v).zip(b.chunks_exact(v)) {
            self.divergence += divergence(a, b);
            self.agree += usize::from(best(a) == best(b));
            self.n += 1;
        }
        self.losses.0 += losses(a, ids).iter().sum::<f64>();
        self.losses.1 += losses(b, ids).iter().sum::<f64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::rows::all_losses;
    use crate::lens::test_models;
    use crate::model::weights::Weights;

    fn rows() -> Vec<Vec<i32>> {
        (0..5).map(|r| (0..7 + r % 2).map(|i| (r * 11 + i * 7) % 50).collect()).collect()
    }

    fn compared(config: &Config, a: &Weights, b: &Weights) -> Difference {
        let pool = Pool::new(1);
        let subject = Subject { config, weights: a, pool: &pool };
        compare(subject, Subject { weights: b, ..subject }, &rows(), &mut |_| Ok(())).unwrap()
    }

    #[test]
    fn a_checkpoint_does_not_differ_from_itself() {
        let (config, weights) = test_models::random(Config::llama(), 2);
        let got = compared(&config, &weights, &weights);
        assert!(got.sites.iter().all(|s| s.relative == 0.0 && (s.cosine - 1.0).abs() < 1e-12));
        assert!(got.heads.iter().all(|h| h.moved == 0.0) && got.heads.len() == 8);
        assert!(got.divergence.abs() < 1e-12 && got.agreement == 1.0);
        assert_eq!((got.sites.len(), got.positions), (8, 37));
        let (a, b) = got.losses.unwrap();
        assert_eq!(a, b);
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let all = all_losses(subject, "test", &rows()).unwrap().concat();
        assert!((a - all.iter().sum::<f64>() / all.len() as f64).abs() < 1e-12);
    }

    #[test]
    fn what_was_changed_comes_first_and_what_is_before_it_is_the_same() {
        let (config, weights) = test_models::random(Config::gpt2(), 2);
        let mut other = weights.clone();
        other.get_mut("blocks.1.mlp.out.weight").unwrap().iter_mut().for_each(|w| *w *= -3.0);
        let got = compared(&config, &weights, &other);
        assert_eq!(got.sites[0].site, "blocks.1.hook_mlp_out");
        assert!((got.sites[0].relative - 4.0).abs() < 0.2 && got.sites[0].cosine < -0.9, "{got:?}");
        let still = ["hook_embed", "blocks.0.hook_resid_post", "blocks.1.hook_attn_out"];
        for site in still {
            let change = got.sites.iter().find(|s| s.site == site).unwrap();
            assert_eq!((change.relative, got.heads[0].moved), (0.0, 0.0), "{site}");
        }
        assert!(got.divergence > 1e-4);
        // Queries of one head of the second block alone.
        let mut other = weights.clone();
        let (d, c) = (config.head_width, config.width);
        let qkv = other.get_mut("blocks.1.attn.qkv.weight").unwrap();
        qkv[2 * d * c..3 * d * c].iter_mut().for_each(|w| *w *= -4.0);
        let got = compared(&config, &weights, &other);
        assert_eq!((got.heads[0].layer, got.heads[0].head), (1, 2));
        assert!(got.heads[0].moved > 0.01 && got.heads[0].moved <= 1.0);
        assert!(got.heads[1..].iter().all(|h| h.moved == 0.0), "{:?}", got.heads);
    }

    #[test]
    fn the_divergence_is_of_the_second_from_the_first() {
        let (config, weights) = test_models::random(Config::gpt2(), 2);
        // A head of zeros says nothing: its divergence from p is ln V - entropy of p.
        let mut silent = weights.clone();
        silent.get_mut("norm.weight").unwrap().fill(0.0);
        silent.get_mut("norm.bias").unwrap().fill(0.0);
        let there = compared(&config, &weights, &silent).divergence;
        let back = compared(&config, &silent, &weights).divergence;
        assert!(there > 0.0 && back > 0.0 && (there - back).abs() > 1e-3, "{there} {back}");
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let (mut want, mut n) = (0.0, 0.0);
        for row in rows() {
            let seen = subject
                .observe(crate::model::observer::Text::of(&row), 1, &[scores_site()])
                .unwrap();
            for scores in seen.value(scores_site()).unwrap().chunks_exact(50) {
                let sum: f64 = scores.iter().map(|&s| f64::from(s).exp()).sum();
                let p = scores.iter().map(|&s| f64::from(s).exp() / sum);
                want += 50f64.ln() + p.map(|p| p * p.ln()).sum::<f64>();
                n += 1.0;
            }
        }
        assert!((there - want / n).abs() < 1e-5, "{there} {}", want / n);
    }

    #[test]
    fn other_architectures_are_refused() {
        let (config, weights) = test_models::random(Config::gpt2(), 2);
        let (other, others) = test_models::random(Config::llama(), 2);
        let pool = Pool::new(1);
        let a = Subject { config: &config, weights: &weights, pool: &pool };
        let b = Subject { config: &other, weights: &others, pool: &pool };
        assert!(compare(a, b, &rows(), &mut |_| Ok(())).is_err());
        assert!(compare(a, a, &[], &mut |_| Ok(())).is_err());
    }
}
