use super::markov::{dirichlet, stationary};
use super::*;

fn sizes(symbols: usize, time: usize, held_out: f64) -> Sizes {
    Sizes { symbols, time, held_out, seed: 5 }
}

#[test]
fn rows_of_transitions_are_uniform_on_the_simplex() {
    let mut random = Random::new(1, 0);
    let (k, n) = (4, 20_000);
    let (mut sum, mut square, mut product) = (0.0, 0.0, 0.0);
    for _ in 0..n {
        let p = dirichlet(k, &mut random);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|&p| p >= 0.0));
        sum += p[2];
        square += p[2] * p[2];
        product += p[0] * p[3];
    }
    // Of Dirichlet(1): mean 1/k, E p² = 2 / k(k+1), E pq = 1 / k(k+1).
    let mean = |x: f64| x / f64::from(n);
    assert!((mean(sum) - 0.25).abs() < 0.004, "{}", mean(sum));
    assert!((mean(square) - 0.1).abs() < 0.003, "{}", mean(square));
    assert!((mean(product) - 0.05).abs() < 0.002, "{}", mean(product));
}

#[test]
fn the_stationary_law_is_left_as_it_is() {
    let mut random = Random::new(2, 0);
    for k in [2, 3, 7] {
        let p: Vec<f64> = (0..k).flat_map(|_| dirichlet(k, &mut random)).collect();
        let law = stationary(&p, k);
        assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        for j in 0..k {
            let next: f64 = (0..k).map(|i| law[i] * p[i * k + j]).sum();
            assert!((next - law[j]).abs() < 1e-12, "{k}: {next} {}", law[j]);
        }
    }
    let law = stationary(&[0.9, 0.1, 0.3, 0.7], 2);
    assert!((law[0] - 0.75).abs() < 1e-12, "{law:?}");
}

/// The published targets: nats per token for k = 3 and T = 100 states.
#[test]
fn predictors_of_chains_lose_what_they_must() {
    let law = Markov::new(sizes(3, 99, 0.0)).unwrap();
    let (mut sums, n) = ([0.0; 3], 1500);
    for number in 0..n {
        let row = law.row(Part::HeldOut, number);
        assert_eq!((row.tokens.len(), row.asked.clone()), (100, 1..100));
        let found = law.yardsticks(&row);
        sums.iter_mut().zip(found).for_each(|(sum, (_, nats))| *sum += nats / 99.0);
    }
    for (sum, want) in sums.into_iter().zip([1.0986, 1.007, 0.889]) {
        let mean = sum / n as f64;
        assert!((mean - want).abs() < 0.012, "{mean} and not {want}");
    }
}

#[test]
fn a_row_is_a_function_of_seed_part_and_number() {
    let laws = |seed| -> Vec<Box<dyn Law>> {
        let of = |symbols, time, held_out| Sizes { seed, ..sizes(symbols, time, held_out) };
        vec![
            Box::new(Markov::new(of(3, 20, 0.1)).unwrap()),
            Box::new(Repeat::new(of(16, 32, 0.25)).unwrap()),
            Box::new(Sort::new(of(3, 11, 0.25)).unwrap()),
            Box::new(Modular::new(of(11, 3, 0.5)).unwrap()),
        ]
    };
    let rows = |law: &dyn Law, part| (0..8).map(|n| law.row(part, n)).collect::<Vec<_>>();
    for ((law, same), other) in laws(1).iter().zip(laws(1)).zip(laws(2)) {
        let train = rows(&**law, Part::Train);
        assert_eq!(train, rows(&*same, Part::Train), "{law:?}");
        assert_ne!(train, rows(&*other, Part::Train), "{law:?}");
        assert_ne!(train, rows(&**law, Part::HeldOut), "{law:?}");
        for row in train {
            let n = row.tokens.len();
            assert!(row.learned.start > 0 && row.learned.end == n && row.asked.end == n);
        }
    }
}

#[test]
fn segments_repeat_at_distances_of_their_part() {
    let law = Repeat::new(sizes(32, 64, 0.25)).unwrap();
    let (train, held) = (law.distances(Part::Train), law.distances(Part::HeldOut));
    assert!(train.len() + held.len() == 25 && held.len() == 6);
    assert!(held.iter().all(|d| !train.contains(d)), "{held:?} {train:?}");
    for (part, distances) in [(Part::Train, train), (Part::HeldOut, held)] {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..400 {
            let row = law.row(part, number);
            let distance = row.asked.start - 2;
            seen.insert(distance);
            assert_eq!((row.tokens.len(), row.tokens[0]), (65, 32));
            let segment = &row.tokens[1..=distance];
            let different: std::collections::BTreeSet<_> = segment.iter().collect();
            assert!(different.len() == distance && segment.iter().all(|&id| id < 32));
            let repeats = (1 + distance..65).all(|i| row.tokens[i] == row.tokens[i - distance]);
            assert!(repeats, "{row:?}");
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), distances);
    }
}

#[test]
fn digits_are_sorted_and_no_input_is_in_both_parts() {
    let law = Sort::new(sizes(3, 11, 0.25)).unwrap();
    let inputs = |part| -> std::collections::BTreeSet<Vec<i32>> {
        let rows = (0..4000).map(|n| law.row(part, n));
        rows.map(|row| {
            let (input, answer) = row.tokens.split_at(6);
            let mut sorted = input.to_vec();
            sorted.sort_unstable();
            assert_eq!((sorted, row.learned), (answer.to_vec(), 6..12));
            input.to_vec()
        })
        .collect()
    };
    let (train, held) = (inputs(Part::Train), inputs(Part::HeldOut));
    assert!(train.is_disjoint(&held));
    // All of the 3⁶ = 729 inputs, about a quarter of them held out.
    assert!(train.len() + held.len() > 720 && (140..225).contains(&held.len()), "{}", held.len());
    // With ten digits, inputs with more than three different ones lose half of their draws.
    let wide = Sort::new(sizes(10, 11, 0.25)).unwrap();
    let few = (0..4000).filter(|&n| {
        let input = wide.row(Part::Train, n).tokens[..6].to_vec();
        input.into_iter().collect::<std::collections::BTreeSet<_>>().len() <= 3
    });
    // 7.4 % of all draws, so 13.7 % after it.
    assert!((440..660).contains(&few.count()));
}

#[test]
fn each_sum_is_in_one_part_once() {
    let law = Modular::new(sizes(11, 3, 0.7)).unwrap();
    let (train, held) = (law.count(Part::Train).unwrap(), law.count(Part::HeldOut).unwrap());
    assert_eq!((train, held), (36, 85));
    let mut seen = std::collections::BTreeSet::new();
    for (part, count) in [(Part::Train, train), (Part::HeldOut, held)] {
        for number in 0..count {
            let row = law.row(part, number);
            let [a, b, equals, c] = row.tokens[..] else { panic!("{row:?}") };
            assert!(equals == 11 && c == (a + b) % 11 && row.learned == (3..4));
            assert!(seen.insert((a, b)), "{row:?} stands in both parts or twice");
        }
        assert_eq!(law.row(part, count), law.row(part, 0));
    }
    // 3830 of 12,769, as published.
    assert_eq!(Modular::new(sizes(113, 3, 0.7)).unwrap().count(Part::Train), Some(3830));
}

#[test]
fn sizes_that_a_law_does_not_have_are_refused_with_a_way_out() {
    let faults = [
        Markov::new(sizes(1, 9, 0.0)).unwrap_err(),
        Repeat::new(sizes(8, 64, 0.25)).unwrap_err(),
        Repeat::new(sizes(64, 64, 0.0)).unwrap_err(),
        Repeat::new(sizes(64, 5, 0.25)).unwrap_err(),
        Sort::new(sizes(3, 12, 0.25)).unwrap_err(),
        Sort::new(sizes(3, 11, 0.0)).unwrap_err(),
        Modular::new(sizes(113, 4, 0.7)).unwrap_err(),
        Modular::new(sizes(113, 3, 0.0)).unwrap_err(),
    ];
    for fault in faults {
        let text = fault.to_string();
        assert!(text.contains("symbols = ") && text.contains("hint: "), "{text}");
    }
}
