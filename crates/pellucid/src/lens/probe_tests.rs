//! What is written is found, what is not is not.

use super::*;

/// One-hot positions with a little noise, and the positions.
fn positions(n: usize, k: usize, noise: f32) -> (Vec<f32>, Vec<usize>) {
    let mut random = Random::new(3, 9);
    let labels: Vec<usize> = (0..n).map(|_| random.below(k)).collect();
    let vector = |&label: &usize| (0..k).map(move |i| f32::from(u8::from(i == label)));
    let mut x: Vec<f32> = labels.iter().flat_map(vector).collect();
    x.iter_mut().for_each(|x| *x += noise * random.normal());
    (x, labels)
}

#[test]
fn positions_are_read_fully_and_shuffled_labels_by_chance() {
    let pool = Pool::new(1);
    let (x, labels) = positions(400, 5, 0.1);
    let options = ProbeOptions::default();
    let got = classify(&pool, (&x, 5), (&labels, 5), Control::Shuffled, &options).unwrap();
    assert_eq!((got.accuracy, got.train_accuracy, got.rows), (1.0, 1.0, (300, 100)));
    // 100 test rows of 5 classes: chance is 0.2, its deviation 0.04.
    assert!((0.05..0.4).contains(&got.control), "{got:?}");
    assert!((0.1..0.4).contains(&got.majority) && got.selectivity() > 0.6);
    let again = got.probe.scores(&pool, &x).unwrap();
    assert_eq!(accuracy(&again, &labels, 5), 1.0);
    assert!(got.probe.scores(&pool, &x[..3]).is_err());
    let same = classify(&pool, (&x, 5), (&labels, 5), Control::Shuffled, &options).unwrap();
    assert_eq!(same, got);
    let other = ProbeOptions { seed: 2, ..options };
    let other = classify(&pool, (&x, 5), (&labels, 5), Control::Shuffled, &other).unwrap();
    assert_ne!(other.probe, got.probe);
}

#[test]
fn noise_tells_nothing_and_types_can_be_known_by_heart() {
    let pool = Pool::new(1);
    let mut random = Random::new(8, 0);
    let noise: Vec<f32> = (0..400 * 6).map(|_| random.normal()).collect();
    let labels: Vec<usize> = (0..400).map(|_| random.below(2)).collect();
    let options = ProbeOptions::default();
    let got = classify(&pool, (&noise, 6), (&labels, 2), Control::Shuffled, &options).unwrap();
    assert!((0.3..0.7).contains(&got.accuracy), "{got:?}");
    assert!(got.train_accuracy < 0.75);
    // Vectors that say the type and nothing else: a label by type is read as well as one by meaning.
    let (x, types) = positions(400, 8, 0.05);
    let labels: Vec<usize> = types.iter().map(|t| t % 2).collect();
    let ids: Vec<i32> = types.iter().map(|&t| t as i32).collect();
    let by_type = Control::ByType(&ids);
    let got = classify(&pool, (&x, 8), (&labels, 2), by_type, &options).unwrap();
    assert_eq!((got.accuracy, got.control), (1.0, 1.0));
    let got = classify(&pool, (&x, 8), (&labels, 2), Control::Shuffled, &options).unwrap();
    assert!(got.selectivity() > 0.3, "{got:?}");
}

#[test]
fn the_search_ends_where_the_gradient_is_nothing() {
    let pool = Pool::new(1);
    let (x, labels) = positions(200, 3, 1.0);
    let all: Vec<usize> = (0..200).collect();
    let (mean, deviation) = moments(&x, 3, &all);
    let x = standardised(&x, &mean, &deviation);
    let options = ProbeOptions { l2: 0.05, steps: 400, ..ProbeOptions::default() };
    let (w, b) = fit(&pool, &x, (&labels, 3), &options);
    let loss = |w: &[f32], b: &[f32]| {
        let square: f64 = w.iter().map(|w| f64::from(*w).powi(2)).sum();
        residuals(&mut scores(&pool, &x, (w, b)), &labels, 3) + 0.025 * square
    };
    let least = loss(&w, &b);
    for i in 0..12 {
        for step in [-0.02f32, 0.02] {
            let (mut w, mut b) = (w.clone(), b.clone());
            if i < 9 {
                w[i] += step
            } else {
                b[i - 9] += step
            }
            assert!(loss(&w, &b) > least, "{i} {step}");
        }
    }
    assert!(least < 1.0 && w.iter().any(|w| w.abs() > 0.2));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let pool = Pool::new(1);
    let options = ProbeOptions::default();
    let ask = |x: &[f32], labels: &[usize], k, options: &ProbeOptions| {
        classify(&pool, (x, 2), (labels, k), Control::Shuffled, options).is_err()
    };
    assert!(!ask(&[0.0; 16], &[0, 1, 0, 1, 0, 1, 0, 1], 2, &options));
    assert!(ask(&[0.0; 15], &[0, 1, 0, 1, 0, 1, 0, 1], 2, &options));
    assert!(ask(&[0.0; 16], &[0, 1, 0, 1, 0, 1, 0, 2], 2, &options));
    assert!(ask(&[f32::NAN; 16], &[0, 1, 0, 1, 0, 1, 0, 1], 2, &options));
    assert!(ask(&[0.0; 4], &[0, 1], 2, &options));
    let all = ProbeOptions { test: 1.0, ..options };
    assert!(ask(&[0.0; 16], &[0, 1, 0, 1, 0, 1, 0, 1], 2, &all));
}
