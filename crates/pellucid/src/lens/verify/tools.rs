//! Laws about the tools: models written by hand, in which what must be found is known. They are the same for every
//! model that is verified; they say whether this program, on this machine, can be believed.

use super::laws::{measured, worse};
use super::{Case, Outcome};
use crate::backend::cpu::pool::Pool;
use crate::error::Result;
use crate::lens::circuits::circuits;
use crate::lens::fixtures::{induction_head, repeated};
use crate::lens::head_scores::{RandomTexts, head_scores};
use crate::lens::metric::Metric;
use crate::lens::probe::{Control, ProbeOptions, classify};
use crate::lens::sae::autoencoder::Sae;
use crate::lens::sae::config::{SaeConfig, SaeKind};
use crate::lens::sae::evaluate::evaluate;
use crate::lens::subject::Subject;
use crate::model::config::{Config, NormKind, Positions};
use crate::model::edit::Region;
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;
use crate::model::weights::Weights;
use crate::ops::objective::{Of, Term};
use crate::ops::tap::Change;
use crate::tensor::random::Random;

/// Different tokens of a text that an induction head continues; token 0 comes before them.
const TOKENS: usize = 8;
/// How sharply it looks.
const BETA: f32 = 30.0;

fn induction(beta: f32) -> Result<(Config, Weights)> {
    induction_head(TOKENS + 1, 2 * TOKENS + 1, beta)
}

/// With one token, no norm and no feed-forward a block multiplies the stream with `I + O V`.
pub(super) fn linear(case: &Case<'_>) -> Result<Outcome> {
    let (c, layers) = (8, 3);
    let config = Config {
        layers,
        width: c,
        heads: 2,
        kv_heads: 2,
        head_width: 4,
        hidden: 0,
        vocab: 6,
        context: 4,
        positions: Positions::Alibi,
        norm: NormKind::None,
        norm_bias: false,
        tied_head: false,
        dropout: 0.0,
        ..Config::gpt2()
    };
    let mut weights = Weights::init(&config, 1);
    let mut random = Random::new(2, 5);
    weights.data_mut().iter_mut().for_each(|w| *w = 0.4 * random.normal());
    let site = Site::block(0, Part::ResidPre);
    let watch = Watch { gradient: vec![site], capture: vec![site], edit: vec![] };
    let pool = case.subject.pool;
    let subject = Subject { config: &config, weights: &weights, pool };
    let text = Text::of(&[3]);
    let mut run =
        Observer::new(&config, subject.sizes(&text, 1), watch, End::Objective, pool.threads())?;
    let mut worst = 0.0f64;
    for id in 0..config.vocab {
        run.ask(vec![Term { row: 0, id, of: Of::Score, weight: 1.0 }]);
        run.run(pool, &weights, Text::of(&[3]))?;
        let row = &weights.get("head.weight")?[id * c..][..c];
        let mut want: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
        for layer in (0..layers).rev() {
            let out = weights.get(&format!("blocks.{layer}.attn.out.weight"))?;
            let v = &weights.get(&format!("blocks.{layer}.attn.qkv.weight"))?[2 * c * c..];
            let through = times(&times(&want, out), v);
            want.iter_mut().zip(through).for_each(|(w, x)| *w += x);
        }
        for (got, want) in run.gradient(site)?.iter().zip(&want) {
            worst = worse(worst, (f64::from(*got) - want).abs());
        }
    }
    measured(worst, 1e-5)
}

/// A row times a square matrix.
fn times(row: &[f64], matrix: &[f32]) -> Vec<f64> {
    let n = row.len();
    let column =
        |j: usize| row.iter().enumerate().map(move |(i, r)| r * f64::from(matrix[i * n + j]));
    (0..n).map(|j| column(j).sum()).collect()
}

pub(super) fn copying(case: &Case<'_>) -> Result<Outcome> {
    let (config, weights) = induction(BETA)?;
    copies(case.subject.pool, &config, &weights)
}

/// How far the second head of such a model is from copying every token.
pub(super) fn copies(pool: &Pool, config: &Config, weights: &Weights) -> Result<Outcome> {
    let found = circuits(Subject { config, weights, pool }, &mut |_| Ok(()))?;
    let score = found.copying.map_or(f64::NAN, |all| all[1]);
    measured((1.0 - score).abs(), 1e-9)
}

pub(super) fn probes(case: &Case<'_>) -> Result<Outcome> {
    let pool = case.subject.pool;
    let (config, weights) = induction(BETA)?;
    let (texts, t) = (40, 2 * TOKENS + 1);
    let ids: Vec<i32> = (0..texts).flat_map(|seed| repeated(TOKENS, seed)).collect();
    let site = Site::block(0, Part::ResidPre);
    let subject = Subject { config: &config, weights: &weights, pool };
    let x = subject.observe(Text::of(&ids), texts as usize, &[site])?.read(site)?;
    let positions: Vec<usize> = (0..ids.len()).map(|i| i % t).collect();
    let options = ProbeOptions::default();
    let found = classify(pool, (&x, config.width), (&positions, t), Control::Shuffled, &options)?;
    // Labels without meaning are guessed: four standard errors of a share.
    let (chance, n) = (1.0 / t as f64, found.rows.1 as f64);
    let luck = chance + 4.0 * (chance * (1.0 - chance) / n).sqrt();
    measured((1.0 - found.accuracy).max(if found.control <= luck { 0.0 } else { 1.0 }), 0.0)
}

pub(super) fn dictionary(case: &Case<'_>) -> Result<Outcome> {
    let pool = case.subject.pool;
    let (config, weights) = induction(BETA)?;
    let (c, site) = (config.width, Site::block(0, Part::ResidPre));
    // The stream there is one-hot parts: each of its axes is a direction.
    let names = SaeConfig::new(SaeKind::JumpReLU, c, c, &site.to_string());
    let sae = Sae::from_tensors(names, &mut |name| {
        let identity = || (0..c * c).map(|i| if i % (c + 1) == 0 { 1.0 } else { 0.0 }).collect();
        Ok(match name {
            "W_enc" | "W_dec" => (vec![c, c], identity()),
            _ => (vec![c], vec![0.0; c]),
        })
    })?;
    let rows: Vec<Vec<i32>> = (0..4).map(|seed| repeated(TOKENS, seed)).collect();
    let subject = Subject { config: &config, weights: &weights, pool };
    let found = evaluate(subject, &sae, site, &rows, &mut |_| Ok(()))?;
    let errors = [
        1.0 - found.explained_variance,
        1.0 - found.loss_recovered(),
        found.spliced - found.clean,
        // A token and a position.
        found.l0 - 2.0,
    ];
    measured(errors.iter().fold(0.0, |m, e| worse(m, e.abs())), 1e-6)
}

pub(super) fn induction_found(case: &Case<'_>) -> Result<Outcome> {
    let pool = case.subject.pool;
    let texts = RandomTexts {
        tokens: TOKENS,
        repeats: 2,
        samples: 4,
        start: Some(0),
        ..RandomTexts::default()
    };
    let (config, weights) = induction(BETA)?;
    let subject = Subject { config: &config, weights: &weights, pool };
    let heads = head_scores(subject, &texts, &mut |_| Ok(()))?;
    let mut worst = 1.0 - heads.scores[0].previous.value;
    let mut add = |e: f64| worst = worse(worst, e);
    add(1.0 - heads.scores[1].induction.value);
    let (loss, right) = second_copy(subject, None)?;
    add(loss);
    add(1.0 - right);
    let chance = (config.vocab as f64).ln();
    // Blunt heads are worse; without either head it guesses.
    let (config, blunt) = induction(BETA / 10.0)?;
    let blunt = Subject { config: &config, weights: &blunt, pool };
    add(if second_copy(blunt, None)?.0 > 10.0 * loss { 0.0 } else { 1.0 });
    for layer in 0..2 {
        let (loss, _) = second_copy(subject, Some(layer))?;
        add(if loss > 0.5 * chance { 0.0 } else { 1.0 });
    }
    measured(worst, 1e-3)
}

/// Mean loss and share of right guesses over the second copy's tokens but the first; without the head of a block.
fn second_copy(subject: Subject<'_>, without: Option<usize>) -> Result<(f64, f64)> {
    let ids = repeated(TOKENS, 7);
    let text = Text::of(&ids);
    let end = Site::logits(subject.config);
    let silent = without.map(|layer| Site::block(layer, Part::Z));
    let watch = Watch { capture: vec![end], edit: silent.into_iter().collect(), gradient: vec![] };
    let threads = subject.pool.threads();
    let sizes = subject.sizes(&text, 1);
    let mut run = Observer::new(subject.config, sizes, watch, End::Sites, threads)?;
    if let Some(site) = silent {
        run.change(site, &Region::all(), &Change::Fill(0.0))?;
    }
    run.run(subject.pool, subject.weights, text)?;
    let (scores, v) = (run.read(end)?, subject.config.vocab);
    let (mut loss, mut right) = (0.0, 0.0);
    let asked = TOKENS + 1..2 * TOKENS;
    for at in asked.clone() {
        let row = &scores[at * v..][..v];
        let next = ids[at + 1] as u32;
        loss -= Metric::LogProbability(next).of(row)?;
        let first = (0..v).all(|i| i == next as usize || row[i] < row[next as usize]);
        right += f64::from(u8::from(first));
    }
    Ok((loss / asked.len() as f64, right / asked.len() as f64))
}
