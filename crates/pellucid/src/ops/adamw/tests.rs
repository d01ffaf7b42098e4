use super::*;
use crate::tensor::random::Random;
use serde_json::Value;

fn normal(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.normal()).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Largest error relative to the largest magnitude (at least 1); NaN if any is.
fn error(got: &[f32], want: &[f64]) -> f64 {
    let worst = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
    let worst = worst.fold(0.0, |m: f64, e| if e <= m { m } else { e });
    worst / want.iter().fold(1.0, |m: f64, w| m.max(w.abs()))
}

type Update<'a> = &'a dyn Fn(&AdamW, Step, &mut [f32], &[f32], &mut [f32], &mut [f32]);

/// Ten steps with changing rates against the f64 reference: the largest error in `p`, `m`, `v`.
fn judge(n: usize, update: Update<'_>) -> f64 {
    let mut random = Random::new(31, n as u64);
    let adamw = AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-3 };
    let mut p = normal(&mut random, n);
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    let (mut p64, mut m64, mut v64) = (wide(&p), wide(&m), wide(&v));
    for step in 1..=10 {
        let g = normal(&mut random, n);
        let step = Step { lr: 0.03 / step as f64, weight_decay: 0.4, step, multiplier: 0.7 };
        update(&adamw, step, &mut p, &g, &mut m, &mut v);
        reference::update(adamw, step, &mut p64, &wide(&g), &mut m64, &mut v64);
    }
    error(&p, &p64).max(error(&m, &m64)).max(error(&v, &v64))
}

#[test]
fn agrees_with_the_reference_whatever_the_thread_count() {
    for n in [1, 2, 17, 4097, 20_011] {
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads);
            let e = judge(n, &|a, s, p, g, m, v| a.update(&pool, s, p, g, m, v).unwrap());
            assert!(e <= 2e-6, "{n} elements: {e:e}");
        }
    }
}

#[test]
fn wrong_kernels_are_caught() {
    let pool = Pool::new(1);
    let wrong: [(&str, Update<'_>); 7] = [
        ("no bias correction", &|a, s, p, g, m, v| {
            a.update(&pool, Step { step: 1000, ..s }, p, g, m, v).unwrap();
        }),
        ("no decay", &|a, s, p, g, m, v| {
            a.update(&pool, Step { weight_decay: 0.0, ..s }, p, g, m, v).unwrap();
        }),
        ("decay through the gradient", &|a, s, p, g, m, v| {
            let g: Vec<f32> = g.iter().zip(&*p).map(|(g, p)| g + 0.4 * p).collect();
            a.update(&pool, Step { weight_decay: 0.0, ..s }, p, &g, m, v).unwrap();
        }),
        ("multiplier forgotten", &|a, s, p, g, m, v| {
            a.update(&pool, Step { multiplier: 1.0, ..s }, p, g, m, v).unwrap();
        }),
        ("ascent", &|a, s, p, g, m, v| {
            a.update(&pool, Step { lr: -s.lr, weight_decay: -s.weight_decay, ..s }, p, g, m, v)
                .unwrap();
        }),
        ("betas swapped", &|a, s, p, g, m, v| {
            let a = AdamW { beta1: a.beta2, beta2: a.beta1, ..*a };
            a.update(&pool, s, p, g, m, v).unwrap();
        }),
        ("NaN", &|_, _, p, _, _, _| p[0] = f32::NAN),
    ];
    for (name, update) in wrong {
        let e = judge(50, update);
        assert!(e.is_nan() || e > 1e-4, "\"{name}\" was not caught");
    }
}

#[test]
fn agrees_with_pytorch() {
    let golden: Value =
        serde_json::from_str(include_str!("../../../tests/golden/adamw.json")).unwrap();
    let list = |v: &Value| -> Vec<f64> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let narrow = |v: &Value| -> Vec<f32> { list(v).into_iter().map(|x| x as f32).collect() };
    let number = |name: &str| golden[name].as_f64().unwrap();
    let adamw = AdamW { beta1: number("beta1"), beta2: number("beta2"), eps: number("eps") };
    let pool = Pool::new(2);
    let mut p = narrow(&golden["p"]);
    let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
    for (i, step) in golden["steps"].as_array().unwrap().iter().enumerate() {
        let (lr, weight_decay) = (step["lr"].as_f64().unwrap(), number("weight_decay"));
        let now = Step { lr, weight_decay, step: i as u64 + 1, multiplier: 1.0 };
        adamw.update(&pool, now, &mut p, &narrow(&step["g"]), &mut m, &mut v).unwrap();
        for (got, want) in [(&p, "p"), (&m, "m"), (&v, "v")] {
            let e = error(got, &list(&step[want]));
            assert!(e <= 2e-6, "{want} after step {}: {e:e}", i + 1);
        }
    }
}

#[test]
fn the_norm_is_right_and_its_bits_do_not_depend_on_threads() {
    let mut random = Random::new(8, 0);
    let lists: Vec<Vec<f32>> =
        [0, 1, 5, 40_000, 17, 100_003].iter().map(|&n| normal(&mut random, n)).collect();
    let views: Vec<&[f32]> = lists.iter().map(Vec::as_slice).collect();
    let want_lists: Vec<Vec<f64>> = lists.iter().map(|l| wide(l)).collect();
    let want = reference::global_norm(&want_lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let one = global_norm(&Pool::new(1), &views);
    assert!((one - want).abs() <= 1e-12 * want, "{one} {want}");
    for threads in [2, 3, 7] {
        assert_eq!(one.to_bits(), global_norm(&Pool::new(threads), &views).to_bits());
    }
    assert_eq!(global_norm(&Pool::new(2), &[]), 0.0);
    let large = global_norm(&Pool::new(1), &[&[3e38, 3e38]]);
    assert!((large / 1e38 - 18f64.sqrt()).abs() < 1e-6, "squares overflow in f32 only: {large}");
    assert!(global_norm(&Pool::new(2), &[&[1.0, f32::NAN], &[2.0]]).is_nan());
    assert_eq!(global_norm(&Pool::new(2), &[&[1.0], &[f32::NEG_INFINITY]]), f64::INFINITY);
}

#[test]
fn slices_of_different_lengths_and_step_0_are_refused() {
    let step = Step { lr: 0.1, weight_decay: 0.0, step: 1, multiplier: 1.0 };
    let pool = Pool::new(1);
    let run = |step, n: usize| {
        AdamW::default().update(
            &pool,
            step,
            &mut [0.0; 2],
            &vec![0.0; n],
            &mut [0.0; 2],
            &mut [0.0; 2],
        )
    };
    assert!(run(step, 2).is_ok());
    assert!(run(step, 3).is_err());
    assert!(run(Step { step: 0, ..step }, 2).is_err());
}
