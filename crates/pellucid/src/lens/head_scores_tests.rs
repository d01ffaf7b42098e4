//! Heads that were built to do one thing are found to do it.

use super::*;
use crate::backend::cpu::pool::Pool;
use crate::lens::fixtures::induction_head;
use crate::lens::test_models;
use crate::model::weights::Weights;

fn texts() -> RandomTexts {
    RandomTexts { tokens: 6, repeats: 3, samples: 3, start: Some(0), ..RandomTexts::default() }
}

fn scores(config: &Config, weights: &Weights, texts: &RandomTexts) -> HeadScores {
    let pool = Pool::new(1);
    let subject = Subject { config, weights, pool: &pool };
    head_scores(subject, texts, &mut |_| Ok(())).unwrap()
}

#[test]
fn texts_are_different_tokens_over_and_over() {
    let config = Config { vocab: 30, ..Config::nano() };
    let rows = RandomTexts { start: Some(3), ..RandomTexts::default() }.draw(&config).unwrap();
    assert_eq!(rows.len(), 10);
    for row in &rows {
        assert_eq!((row.len(), row[0]), (101, 3));
        assert!((1..=75).all(|i| row[i] == row[i + 25] && row[i] != 3));
        let mut first = row[1..26].to_vec();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 25);
    }
    assert_ne!(rows[0], rows[1]);
    let few = Config { vocab: 20, ..Config::nano() };
    assert!(
        RandomTexts::default().draw(&few).unwrap_err().to_string().contains("of 25 of 20 tokens")
    );
    let short = Config { context: 50, ..config };
    assert!(RandomTexts::default().draw(&short).is_err());
}

#[test]
fn patterns_written_by_hand_have_the_scores_that_follow() {
    let ids = [7, 8, 7, 8, 7];
    let t = ids.len();
    let mut pattern = vec![0.0f32; t * t];
    let mut set = |i: usize, s: usize, a: f32| pattern[i * t + s] = a;
    // To the token before, at all but the first.
    (1..t).for_each(|i| set(i, i - 1, 1.0));
    let looks = of_pattern(&pattern, &ids);
    // In a text of two tokens the one before is what followed the last copy.
    assert_eq!(looks, Looks { previous: 1.0, duplicate: 0.0, induction: 1.0 });
    let mut pattern = vec![0.0f32; t * t];
    pattern[4 * t] = 0.5;
    pattern[4 * t + 2] = 0.25;
    // Of three repeated tokens one looks at copies.
    assert_eq!(of_pattern(&pattern, &ids).duplicate, 0.25);
}

#[test]
fn an_even_pattern_scores_what_counting_says() {
    let config = Config { window: Some(4), window_from: 1, ..Config::nano() };
    let ids: Vec<i32> = [1, 2, 3, 4].repeat(3);
    let all = of_pattern(&even(&config, 0, 12), &ids);
    let want: f64 = (1..12).map(|i| 1.0 / (i + 1) as f64).sum::<f64>() / 11.0;
    assert!((all.previous - want).abs() < 1e-6);
    let want: f64 = (4..12).map(|i| (i / 4) as f64 / (i + 1) as f64).sum::<f64>() / 8.0;
    assert!((all.induction - want).abs() < 1e-6 && (all.duplicate - want).abs() < 1e-6);
    // A window of four reaches what followed the last copy, but no copy.
    let near = of_pattern(&even(&config, 1, 12), &ids);
    assert_eq!(near.duplicate, 0.0);
    assert!(near.previous > all.previous && (near.induction - 0.25).abs() < 1e-6, "{near:?}");
}

#[test]
fn the_built_induction_head_matches_prefixes_and_copies() {
    let (config, weights) = induction_head(12, 24, 30.0).unwrap();
    let got = scores(&config, &weights, &texts());
    let [first, second] = got.scores[..] else { panic!("two heads") };
    assert!(first.previous.value > 0.95, "{first:?}");
    assert!(second.induction.value > 0.999, "{second:?}");
    assert!(second.previous.value < 0.2 && second.duplicate.value < 1e-3, "{second:?}");
    assert!(second.induction.value > got.chance[1].induction + 0.7);
    // The first head writes where nobody reads; the second says what it looks at. On the first copy it looks at
    // many tokens at once, so that it is far from 1, but above a head that raises all alike.
    let [a, b] = [first, second].map(|s| s.copying.unwrap().value);
    assert_eq!(a, -1.0);
    assert!(b > got.copying_chance + 0.1, "{b} {}", got.copying_chance);
}

#[test]
fn a_head_that_says_what_it_looks_at_copies_fully() {
    // Each position looks at one token and raises it alone; then another one.
    let (t, range) = (3, 0..3);
    let pattern = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0];
    let mut effects = [2.0, -1.0, -1.0, -1.0, 2.0, -1.0, 0.0, 3.0, -9.0];
    assert_eq!(copying_score(&pattern, t, &range, &effects), 1.0);
    effects.swap(0, 1);
    effects.swap(3, 4);
    effects.swap(6, 7);
    assert_eq!(copying_score(&pattern, t, &range, &effects), -1.0);
    assert!((copying_score(&pattern, t, &range, &[1.0; 9]) + 1.0 / 3.0).abs() < 1e-12);
}

#[test]
fn random_heads_stand_near_chance() {
    let (config, mut weights) = test_models::random(Config::llama(), 3);
    // Queries that want nothing look evenly.
    let columns = config.width;
    for layer in 0..2 {
        let qkv = weights.get_mut(&format!("blocks.{layer}.attn.qkv.weight")).unwrap();
        qkv[..config.heads * config.head_width * columns].fill(0.0);
    }
    let got = scores(&config, &weights, &texts());
    for (i, score) in got.scores.iter().enumerate() {
        let chance = got.chance[i / got.heads];
        assert!((score.previous.value - chance.previous).abs() < 1e-5);
        assert!((score.induction.value - chance.induction).abs() < 1e-5);
        assert!(score.copying.unwrap().value < 0.0);
    }
}

#[test]
fn a_model_without_looking_back_is_refused() {
    for config in [Config::bert(), Config::lstm()] {
        let weights = Weights::zeros(&Config { layers: 1, ..Config::nano() });
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        assert!(head_scores(subject, &texts(), &mut |_| Ok(())).is_err());
    }
}
