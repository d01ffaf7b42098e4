//! Without learning it is the logit lens; with it, it is better; its gradient is what small changes say.

use super::*;
use crate::backend::cpu::pool::Pool;
use crate::lens::test_models;
use crate::model::observer::Text;
use crate::model::readout::Readout;
use crate::model::weights::Weights;
use crate::tensor::random::Random;

fn rows(seed: u64, n: usize) -> Vec<Vec<i32>> {
    let mut random = Random::new(seed, 0);
    (0..n).map(|_| (0..12).map(|_| random.below(50) as i32).collect()).collect()
}

/// A norm of each sort, a tied head and one of its own.
fn models() -> [(Config, Weights); 2] {
    [Config::gpt2(), Config::llama()].map(|base| test_models::random(base, 3))
}

#[test]
fn untrained_it_is_the_logit_lens() {
    let pool = Pool::new(1);
    for (config, weights) in models() {
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let lens = TunedLens::new(&config);
        for depth in evaluate(subject, &lens, &rows(1, 4)).unwrap() {
            assert_eq!(depth.logit_lens, depth.tuned_lens);
            assert!(depth.logit_lens > 1e-3, "{depth:?}");
        }
        let site = Site::block(1, Part::ResidPre);
        let seen = subject.observe(Text::of(&rows(1, 1)[0]), 1, &[site]).unwrap();
        let h = seen.value(site).unwrap();
        let want = Readout::new(&config, false, 1).unwrap().read(&pool, &weights, h).unwrap();
        let got = lens.read(subject, 1, h).unwrap();
        assert!(got.len() == want.len());
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs().max(1.0)));
        assert!(lens.read(subject, 2, h).is_err() && lens.read(subject, 1, &h[..5]).is_err());
    }
}

#[test]
fn trained_it_says_better_what_the_model_will_say_of_other_texts() {
    let pool = Pool::new(1);
    for (config, weights) in models() {
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let mut lens = TunedLens::new(&config);
        let recipe = Recipe { steps: 60, ..Recipe::default() };
        let mut seen = vec![];
        train(
            subject,
            &mut lens,
            &recipe,
            &mut |step| Ok(rows(100 + step as u64, 16)),
            &mut |step| {
                seen.push(step.divergence[1]);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen.len(), 60);
        for depth in evaluate(subject, &lens, &rows(7, 16)).unwrap() {
            assert!(depth.tuned_lens < 0.95 * depth.logit_lens, "{depth:?} {seen:?}");
        }
    }
}

#[test]
fn gradients_are_what_small_changes_say() {
    let pool = Pool::new(1);
    for (mut config, mut weights) in models() {
        config.scaled_head = config.gated;
        if config.gated {
            let mut with_bias = Weights::init(&Config { head_bias: true, ..config.clone() }, 3);
            config.head_bias = true;
            let mut random = Random::new(4, 0);
            with_bias.data_mut().iter_mut().for_each(|w| *w += 0.1 * random.normal());
            weights = with_bias;
        }
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let reader = Reader::new(subject).unwrap();
        let (c, n) = (config.width, 12);
        let mut random = Random::new(6, 0);
        let mut noise =
            |n: usize, by: f32| -> Vec<f32> { (0..n).map(|_| by * random.normal()).collect() };
        let map = Translator { matrix: noise(c * c, 0.05), bias: noise(c, 0.1) };
        let (h, last) = (noise(n * c, 1.0), noise(n * config.vocab, 1.0));
        let zero = || Translator { matrix: vec![0.0; c * c], bias: vec![0.0; c] };
        let mut g = zero();
        let sum = loss(subject, &reader, &map, (&h, &last), Some((&mut g, n)));
        assert!(sum > 0.0);
        // Along random directions, so that no slope is lost in rounding.
        for _ in 0..6 {
            let (along, along_b) = (noise(c * c, 1.0), noise(c, 1.0));
            let moved = |step: f32| {
                let shift =
                    |w: &[f32], d: &[f32]| w.iter().zip(d).map(|(w, d)| w + step * d).collect();
                let map = Translator {
                    matrix: shift(&map.matrix, &along),
                    bias: shift(&map.bias, &along_b),
                };
                loss(subject, &reader, &map, (&h, &last), None) / n as f64
            };
            let slope = (moved(2e-3) - moved(-2e-3)) / 4e-3;
            let dot =
                |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let got = dot(&g.matrix, &along) + dot(&g.bias, &along_b);
            assert!((got - slope).abs() < 0.02 * slope.abs().max(0.05), "{got} {slope}");
        }
    }
}

#[test]
fn other_models_and_lenses_are_refused() {
    let (config, weights) = test_models::random(Config::gpt2(), 3);
    let pool = Pool::new(1);
    let subject = Subject { config: &config, weights: &weights, pool: &pool };
    let short = TunedLens { translators: TunedLens::new(&config).translators[..1].to_vec() };
    assert!(evaluate(subject, &short, &rows(1, 2)).is_err());
    assert!(evaluate(subject, &TunedLens::new(&config), &[]).is_err());
    let bert = Config { layers: 1, ..Config::bert() };
    let subject = Subject { config: &bert, ..subject };
    assert!(evaluate(subject, &TunedLens::new(&bert), &rows(1, 2)).is_err());
}
