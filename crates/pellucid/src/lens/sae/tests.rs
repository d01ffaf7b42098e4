//! Autoencoders that are perfect by construction, gradients against differences, and directions that are found again.

use super::autoencoder::{Sae, to_unit};
use super::config::{Normalize, SaeConfig, SaeKind};
use super::evaluate::evaluate;
use super::gradient::{Wishes, gradient};
use super::train::{Recipe, Trainer};
use crate::backend::cpu::pool::Pool;
use crate::lens::subject::Subject;
use crate::lens::test_models;
use crate::model::config::Config;
use crate::model::site::{Part, Site};
use crate::tensor::random::Random;
use std::collections::BTreeMap;

fn config(kind: SaeKind, d: usize, m: usize, k: Option<usize>) -> SaeConfig {
    SaeConfig { k, ..SaeConfig::new(kind, d, m, "blocks.0.hook_resid_post") }
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(seed, 0);
    (0..n).map(|_| random.normal()).collect()
}

/// Orthogonal directions and their opposites: every vector is made again.
fn perfect(kind: SaeKind, d: usize) -> Sae {
    let mut sae = Sae::new(config(kind, d, 2 * d, Some(d)), 3).unwrap();
    let mut q = noise(4, d * d);
    for i in 0..d {
        for j in 0..i {
            let (before, row) = q.split_at_mut(i * d);
            let other = &before[j * d..][..d];
            let along: f32 = other.iter().zip(&row[..d]).map(|(a, b)| a * b).sum();
            row[..d].iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
        }
        to_unit(&mut q[i * d..][..d], d);
    }
    for (i, row) in q.chunks_exact(d).enumerate() {
        for (j, &x) in row.iter().enumerate() {
            for (at, x) in [(i, x), (d + i, -x)] {
                sae.w_dec[at * d + j] = x;
                sae.w_enc[j * 2 * d + at] = x;
            }
        }
    }
    sae
}

#[test]
fn an_orthogonal_dictionary_makes_everything_again_and_costs_the_model_nothing() {
    let (model, weights) = test_models::random(Config::gpt2(), 4);
    let pool = Pool::new(1);
    let subject = Subject { config: &model, weights: &weights, pool: &pool };
    let rows: Vec<Vec<i32>> =
        (0..4).map(|r| (0..16).map(|i| (r * 13 + i * 7) % 50).collect()).collect();
    for (kind, part) in [(SaeKind::Standard, Part::ResidPost), (SaeKind::TopK, Part::Z)] {
        let mut sae = perfect(kind, 32);
        let site = Site::block(0, part);
        let got = evaluate(subject, &sae, site, &rows, &mut |_| Ok(())).unwrap();
        assert!(got.explained_variance > 1.0 - 1e-5, "{got:?}");
        assert!((got.loss_recovered() - 1.0).abs() < 1e-3, "{} {got:?}", got.loss_recovered());
        assert!((got.zeroed - got.clean).abs() > 1e-3, "{got:?}");
        // Of a direction and its opposite one is active.
        assert!((got.l0 - 32.0).abs() < 0.1 && got.vectors == 64, "{got:?}");
        assert_eq!(got.dead, got.density.iter().filter(|d| **d == 0.0).count());
        assert!((got.density.iter().sum::<f64>() - got.l0).abs() < 1e-9);
        sae.w_dec.fill(0.0);
        let nothing = evaluate(subject, &sae, site, &rows, &mut |_| Ok(())).unwrap();
        assert_eq!(nothing.spliced, nothing.zeroed);
        assert!(nothing.explained_variance <= 0.0);
    }
    let sae = perfect(SaeKind::Standard, 16);
    let site = Site::block(0, Part::ResidPost);
    assert!(evaluate(subject, &sae, site, &rows, &mut |_| Ok(())).is_err());
    let sae = perfect(SaeKind::Standard, 32);
    assert!(
        evaluate(subject, &sae, Site::block(0, Part::Pattern), &rows, &mut |_| Ok(())).is_err()
    );
}

#[test]
fn activations_are_those_that_each_kind_keeps() {
    let pool = Pool::new(1);
    let x = [1.0, 3.0, -2.0, 0.5, 0.2, 0.4];
    let keep = |kind, k: Option<usize>, threshold: &[f32]| {
        let mut sae = Sae::new(config(kind, 3, 3, k), 1).unwrap();
        sae.w_enc = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        sae.threshold = threshold.to_vec();
        sae.encode(&pool, &x).unwrap()
    };
    assert_eq!(keep(SaeKind::Standard, None, &[]), [1.0, 3.0, 0.0, 0.5, 0.2, 0.4]);
    assert_eq!(keep(SaeKind::TopK, Some(1), &[]), [0.0, 3.0, 0.0, 0.5, 0.0, 0.0]);
    assert_eq!(keep(SaeKind::BatchTopK, Some(1), &[]), [1.0, 3.0, 0.0, 0.0, 0.0, 0.0]);
    let open = keep(SaeKind::JumpReLU, None, &[0.7, 0.2, 0.3]);
    assert_eq!(open, [1.0, 3.0, 0.0, 0.0, 0.0, 0.4]);
}

#[test]
fn normalised_vectors_come_back_as_they_were() {
    let pool = Pool::new(1);
    let x: Vec<f32> = noise(9, 40).iter().map(|x| 5.0 * x + 2.0).collect();
    for normalize in [Normalize::ConstantNormRescale, Normalize::LayerNorm] {
        let mut sae = perfect(SaeKind::Standard, 8);
        sae.config.normalize_activations = normalize;
        let (active, out) = sae.reconstruct(&pool, &x).unwrap();
        assert!(out.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-3), "{out:?} {x:?}");
        let longer: Vec<f32> = x.iter().map(|x| 3.0 * x).collect();
        let again = sae.encode(&pool, &longer).unwrap();
        assert!(active.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}

/// A loss whose gradient is to be right.
fn loss(sae: &Sae, x: &[f32], wishes: Wishes<'_>) -> f64 {
    let g = gradient(sae, &Pool::new(1), x, wishes);
    g.reconstruction + g.sparsity
}

#[test]
fn gradients_are_what_small_changes_say() {
    let (d, m) = (5, 7);
    let x = noise(21, 6 * d);
    for (kind, k) in [
        (SaeKind::Standard, None),
        (SaeKind::TopK, Some(2)),
        (SaeKind::BatchTopK, Some(2)),
        (SaeKind::JumpReLU, None),
    ] {
        let mut sae = Sae::new(config(kind, d, m, k), 5).unwrap();
        sae.config.apply_b_dec_to_input = kind != SaeKind::TopK;
        sae.b_enc.copy_from_slice(&noise(6, m).iter().map(|x| 0.1 * x).collect::<Vec<_>>());
        sae.b_dec.copy_from_slice(&noise(7, d).iter().map(|x| 0.3 * x).collect::<Vec<_>>());
        sae.threshold.iter_mut().for_each(|t| *t = 0.2);
        let wishes = Wishes { sparsity: 0.3, bandwidth: 1e-6, auxiliary: 0.0, dead: &[] };
        let g = gradient(&sae, &Pool::new(1), &x, wishes);
        type Tensor = fn(&mut Sae) -> &mut Vec<f32>;
        let tensors: [(&str, Tensor, &[f32]); 4] = [
            ("W_enc", |s| &mut s.w_enc, &g.w_enc),
            ("b_enc", |s| &mut s.b_enc, &g.b_enc),
            ("W_dec", |s| &mut s.w_dec, &g.w_dec),
            ("b_dec", |s| &mut s.b_dec, &g.b_dec),
        ];
        for (name, tensor, gradient) in tensors {
            let mut wrong = 0;
            for (i, &g) in gradient.iter().enumerate() {
                let moved = |step: f32| {
                    let mut sae = sae.clone();
                    tensor(&mut sae)[i] += step;
                    loss(&sae, &x, wishes)
                };
                let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
                wrong +=
                    usize::from(!((slope - f64::from(g)).abs() <= 5e-3 * slope.abs().max(1.0)));
            }
            // Where a step changes who is active there is a jump, and no slope.
            assert!(wrong <= gradient.len() / 10, "{kind:?} {name}: {wrong} of {}", gradient.len());
        }
    }
}

#[test]
fn thresholds_learn_what_moving_them_by_the_window_would_say() {
    let (d, m, width) = (4, 6, 0.4f32);
    let x = noise(2, 50 * d);
    let mut sae = Sae::new(config(SaeKind::JumpReLU, d, m, None), 5).unwrap();
    sae.threshold.fill(0.5);
    let wishes = |sparsity| Wishes { sparsity, bandwidth: width, auxiliary: 0.0, dead: &[] };
    let [with, without] = [0.7, 0.0].map(|s| gradient(&sae, &Pool::new(1), &x, wishes(s)));
    for i in 0..m {
        let moved = |step: f32| {
            let mut sae = sae.clone();
            sae.threshold[i] += step;
            gradient(&sae, &Pool::new(1), &x, wishes(0.7)).sparsity
        };
        let slope = (moved(width / 2.0) - moved(-width / 2.0)) / f64::from(width);
        let got = f64::from(with.threshold[i] - without.threshold[i]);
        assert!((got - slope).abs() < 1e-4, "{got} {slope}");
        assert!(slope < 0.0, "a higher threshold leaves fewer active");
    }
}

#[test]
fn silent_directions_are_pulled_towards_the_error() {
    let (d, m) = (4, 6);
    let x = noise(12, 5 * d);
    let mut sae = Sae::new(config(SaeKind::TopK, d, m, Some(1)), 8).unwrap();
    // Never the largest, so that nothing but the auxiliary loss depends on it.
    sae.b_enc[2] = -20.0;
    let dead = [false, false, true, false, false, false];
    let wishes = Wishes { sparsity: 0.0, bandwidth: 0.1, auxiliary: 0.5, dead: &dead };
    let g = gradient(&sae, &Pool::new(1), &x, wishes);
    let moved = |step: f32| {
        let mut sae = sae.clone();
        sae.b_enc[2] += step;
        gradient(&sae, &Pool::new(1), &x, wishes).auxiliary
    };
    let slope = (moved(0.01) - moved(-0.01)) / 0.02;
    assert!((slope - f64::from(g.b_enc[2])).abs() < 1e-2 * slope.abs(), "{slope} {}", g.b_enc[2]);
    let none = gradient(&sae, &Pool::new(1), &x, Wishes { dead: &[], ..wishes });
    assert_eq!((none.b_enc[2], none.auxiliary), (0.0, 0.0));
}

/// Vectors that are sums of a few of `m` random directions, and the directions.
fn planted(seed: u64, (d, m): (usize, usize)) -> (Vec<f32>, impl FnMut(usize) -> Vec<f32>) {
    let mut directions = noise(seed, m * d);
    to_unit(&mut directions, d);
    let (mut random, kept) = (Random::new(seed, 1), directions.clone());
    let draw = move |n: usize| {
        let mut x = vec![0.0; n * d];
        for row in x.chunks_exact_mut(d) {
            for direction in directions.chunks_exact(d) {
                if random.uniform() < 0.12 {
                    let a = 1.0 + random.uniform();
                    row.iter_mut().zip(direction).for_each(|(x, v)| *x += a * v);
                }
            }
        }
        x
    };
    (kept, draw)
}

/// Of each planted direction the largest cosine with one that was found: their mean.
fn recovered(directions: &[f32], found: &[f32], d: usize) -> f64 {
    let mut found = found.to_vec();
    to_unit(&mut found, d);
    let best = |direction: &[f32]| {
        let cosine = |f: &[f32]| f.iter().zip(direction).map(|(a, b)| a * b).sum::<f32>();
        f64::from(found.chunks_exact(d).map(cosine).fold(-1.0, f32::max))
    };
    let all: Vec<f64> = directions.chunks_exact(d).map(best).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

#[test]
fn planted_directions_are_found_again() {
    let (d, m) = (12, 16);
    let pool = Pool::new(1);
    for (kind, k, sparsity) in [
        (SaeKind::BatchTopK, Some(2), 0.0),
        (SaeKind::TopK, Some(2), 0.0),
        (SaeKind::Standard, None, 1.2),
        (SaeKind::JumpReLU, None, 1.0),
    ] {
        let (directions, mut draw) = planted(31, (d, m));
        let (steps, rate) = (700, 1e-2);
        let recipe =
            Recipe { steps, rate, sparsity, threshold: 0.1, bandwidth: 0.3, ..Recipe::default() };
        let mut trainer = Trainer::new(config(kind, d, m, k), recipe).unwrap();
        let at_first = recovered(&directions, &trainer.sae().w_dec, d);
        let mut last = None;
        for _ in 0..steps {
            last = Some(trainer.step(&pool, &draw(64)).unwrap());
        }
        let sae = trainer.finish();
        let found = recovered(&directions, &sae.w_dec, d);
        // Thresholds learn slowly: a direction may stay shared in so few steps.
        let enough = if kind == SaeKind::JumpReLU { 0.8 } else { 0.9 };
        assert!(found > enough && at_first < 0.6, "{kind:?}: {at_first} {found} {last:?}");
        assert_ne!(sae.config.architecture, SaeKind::BatchTopK);
        // Vectors of the real length are made again.
        let x = draw(64);
        let (active, out) = sae.reconstruct(&pool, &x).unwrap();
        let (mut error, mut size) = (0.0f64, 0.0f64);
        for (a, b) in x.iter().zip(&out) {
            (error, size) = (error + f64::from(a - b).powi(2), size + f64::from(*a).powi(2));
        }
        assert!(error < 0.3 * size, "{kind:?}: {error} of {size}");
        let l0 = active.iter().filter(|a| **a > 0.0).count() as f64 / 64.0;
        assert!((0.5..5.0).contains(&l0), "{kind:?}: {l0}");
    }
}

#[test]
fn what_has_learnt_nothing_answers_the_mean_of_vectors_as_they_are() {
    let (pool, d) = (Pool::new(1), 4);
    let x: Vec<f32> = noise(5, 40 * d).iter().map(|x| 30.0 * x + 7.0).collect();
    let recipe = Recipe { rate: 0.0, ..Recipe::default() };
    let mut trainer = Trainer::new(config(SaeKind::TopK, d, 6, Some(1)), recipe).unwrap();
    let seen = trainer.step(&pool, &x).unwrap();
    let sae = trainer.finish();
    let none = sae.decode(&pool, &[0.0; 6]).unwrap();
    for (i, got) in none.iter().enumerate() {
        let mean = x.chunks(d).map(|row| row[i]).sum::<f32>() / 40.0;
        assert!((got - mean).abs() < 1e-3, "{got} {mean}");
    }
    // Scaled to a mean length of √d, what is left to explain is of order d.
    assert!(seen.reconstruction < d as f64 && seen.l0 <= 1.0 && seen.l0 > 0.5, "{seen:?}");
    assert!(Trainer::new(sae.config.clone(), Recipe { steps: 0, ..Recipe::default() }).is_err());
}

#[test]
fn files_are_saelens() {
    let written = config(SaeKind::TopK, 3, 4, Some(2)).to_json();
    for part in
        [r#""architecture": "topk""#, r#""k": 2"#, r#""hook_name": "blocks.0.hook_resid_post""#]
    {
        assert!(written.contains(part), "{written}");
    }
    assert_eq!(SaeConfig::from_json(&written).unwrap(), config(SaeKind::TopK, 3, 4, Some(2)));
    let old = r#"{"architecture": "standard", "d_in": 3, "d_sae": 4, "dtype": "float32", "device": "cpu",
        "model_name": "gpt2-small", "hook_name": "blocks.8.hook_resid_pre", "hook_layer": 8,
        "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}, "normalize_activations": "none"}"#;
    let read = SaeConfig::from_json(old).unwrap();
    assert_eq!((read.architecture, read.k), (SaeKind::TopK, Some(2)));
    assert_eq!(read.metadata.hook_name.as_deref(), Some("blocks.8.hook_resid_pre"));
    let scaled = old.replace("\"none\"", "true");
    assert!(SaeConfig::from_json(&scaled).unwrap_err().to_string().contains("factor"));
    assert!(SaeConfig::from_json(&old.replace("\"topk\"", "\"tanh\"")).is_err());
    assert!(
        SaeConfig::from_json(&old.replace("standard", "gated").replace("\"topk\"", "\"relu\""))
            .is_err()
    );
}

#[test]
fn tensors_come_back_and_lengths_are_folded() {
    let pool = Pool::new(1);
    let mut sae = Sae::new(config(SaeKind::JumpReLU, 3, 5, None), 2).unwrap();
    sae.threshold.copy_from_slice(&[0.1, 0.2, 0.0, 0.3, 0.1]);
    let read = |sae: &Sae, config: SaeConfig| {
        let tensors: BTreeMap<&str, (Vec<usize>, Vec<f32>)> =
            sae.tensors().into_iter().map(|(n, s, x)| (n, (s, x.to_vec()))).collect();
        Sae::from_tensors(config, &mut |name| Ok(tensors[name].clone()))
    };
    assert_eq!(read(&sae, sae.config.clone()).unwrap(), sae);
    let other = SaeConfig { d_sae: 6, ..sae.config.clone() };
    assert!(read(&sae, other).unwrap_err().to_string().contains("W_enc"));
    // Directions twice as long, of a file whose activations count by length: activations come out twice as large.
    let mut long = sae.clone();
    long.w_dec.iter_mut().for_each(|w| *w *= 2.0);
    let rescale = SaeConfig { rescale_acts_by_decoder_norm: true, ..sae.config.clone() };
    let folded = read(&long, rescale).unwrap();
    let x = noise(3, 12);
    let [a, b] = [&sae, &folded].map(|s| s.encode(&pool, &x).unwrap());
    assert!(a.iter().any(|a| *a > 0.0));
    assert!(a.iter().zip(&b).all(|(a, b)| (2.0 * a - b).abs() < 1e-5), "{a:?} {b:?}");
}
