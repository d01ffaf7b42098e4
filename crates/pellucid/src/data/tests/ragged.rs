use super::*;

/// `n` examples whose lengths run from 1 to 40 on each side.
fn examples(n: u64) -> Vec<Ragged> {
    let side = |i, which| vec![7; 1 + random_below(40, 1, i, which) as usize];
    (0..n).map(|i| Ragged { source: side(i, 0), target: side(i, 1), ..Ragged::default() }).collect()
}

fn options(fill: Fill, order: Order) -> RaggedOptions {
    RaggedOptions { fill, order, longest: None, skip_long: false, seed: 3 }
}

/// What is wrong with the batches of the first three epochs.
fn faults(batches: &RaggedBatches, batch: impl Fn(u64) -> Vec<usize>, most: usize) -> Vec<String> {
    let (mut faults, mut orders) = (vec![], vec![]);
    for epoch in 0..3 {
        let mut seen = vec![];
        for step in batches.steps_in(epoch)..batches.steps_in(epoch + 1) {
            let rows = batch(step);
            let tokens: usize = rows.iter().map(|&i| batches.examples()[i].tokens()).sum();
            if rows.is_empty() || tokens > most {
                faults.push(format!("step {step}: {} rows, {tokens} tokens", rows.len()));
            }
            seen.extend(rows);
        }
        orders.push(seen.clone());
        seen.sort_unstable();
        if seen != (0..batches.len()).collect::<Vec<_>>() {
            faults.push(format!("epoch {epoch} does not take each example once"));
        }
    }
    if orders[0] == orders[1] || orders[1] == orders[2] {
        faults.push("two epochs in one order".into());
    }
    faults
}

#[test]
fn every_epoch_takes_each_example_once_in_full_batches() {
    for order in [Order::Random, Order::Bucketed] {
        let batches = RaggedBatches::new(examples(997), options(Fill::Tokens(500), order)).unwrap();
        assert_eq!(faults(&batches, |step| batches.batch(step), 500), [] as [&str; 0]);
        // Deliberately wrong plans are caught.
        let steps = batches.steps_in(1);
        assert!(!faults(&batches, |step| batches.batch(step % steps), 500).is_empty());
        assert!(!faults(&batches, |step| batches.batch(step + 1), 500).is_empty());
        assert!(!faults(&batches, |step| batches.batch(step)[1..].to_vec(), 500).is_empty());
        assert!(!faults(&batches, |step| batches.batch(step), 400).is_empty());
        // Full: the mean is near the limit.
        let tokens: usize = batches.examples().iter().map(Ragged::tokens).sum();
        assert!(tokens as u64 * 10 > steps * 500 * 9, "{tokens} tokens in {steps} steps");
    }
}

#[test]
fn a_resumed_run_takes_the_batches_of_an_uninterrupted_one() {
    for order in [Order::Random, Order::Bucketed] {
        let make = |seed| {
            let options = RaggedOptions { seed, ..options(Fill::Tokens(300), order) };
            RaggedBatches::new(examples(200), options).unwrap()
        };
        let whole = make(3);
        let all: Vec<_> = (0..200).map(|step| (whole.batch(step), whole.place(step))).collect();
        assert!(all[199].1.epoch >= 3, "{:?}", all[199].1);
        for step in [150, 3, 199, 0, 77] {
            let fresh = make(3);
            assert_eq!((fresh.batch(step), fresh.place(step)), all[step as usize]);
            assert_eq!((whole.batch(step), whole.place(step)), all[step as usize]);
        }
        assert_ne!(make(4).batch(0), all[0].0);
    }
}

#[test]
fn buckets_hold_examples_alike_in_length_and_are_shuffled() {
    let padding = |order| {
        let batches =
            RaggedBatches::new(examples(4000), options(Fill::Tokens(800), order)).unwrap();
        let mut padding = 0;
        let mut means = vec![];
        for step in 0..batches.steps_in(1) {
            let rows = batches.batch(step);
            let lengths = rows.iter().map(|&i| batches.examples()[i].target.len());
            let (longest, sum) = (lengths.clone().max().unwrap(), lengths.sum::<usize>());
            padding += longest * rows.len() - sum;
            means.push(sum / rows.len());
        }
        (padding, means)
    };
    let (random, _) = padding(Order::Random);
    let (bucketed, means) = padding(Order::Bucketed);
    assert!(bucketed * 20 < random, "{bucketed} against {random}");
    assert!(means.windows(2).filter(|pair| pair[0] > pair[1]).count() * 3 > means.len());
}

#[test]
fn rows_make_a_batch_where_they_should() {
    for order in [Order::Random, Order::Bucketed] {
        let batches = RaggedBatches::new(examples(10), options(Fill::Rows(4), order)).unwrap();
        assert_eq!(batches.steps_in(5), 15);
        let mut rows: Vec<_> = (3..6).map(|step| batches.batch(step).len()).collect();
        rows.sort_unstable();
        assert_eq!(rows, [2, 4, 4]);
        assert_eq!(batches.place(4), Place { epoch: 1, batch: 1, batches: 3 });
    }
}

#[test]
fn long_examples_are_refused_or_counted() {
    let mut all = examples(20);
    all[13].source = vec![1; 90];
    all[17].target = vec![1; 150];
    // As long as may be.
    all[14] = Ragged { source: vec![1; 80], target: vec![1; 20], ..Ragged::default() };
    let limited = RaggedOptions { longest: Some(80), ..options(Fill::Tokens(100), Order::Random) };
    let error = RaggedBatches::new(all.clone(), limited).unwrap_err().to_string();
    assert!(error.contains("example 13 has 90 source ids"), "{error}");
    assert!(error.contains("at most 80") && error.contains("skip_long"), "{error}");
    let skipping = RaggedOptions { skip_long: true, ..limited };
    let batches = RaggedBatches::new(all.clone(), skipping).unwrap();
    assert_eq!((batches.skipped(), batches.len()), (2, 18));
    assert!(
        (0..batches.steps_in(2))
            .all(|step| batches.batch(step).iter().all(|&i| i != 13 && i != 17))
    );
    let by_batch = RaggedOptions { longest: None, ..limited };
    let error = RaggedBatches::new(all, by_batch).unwrap_err().to_string();
    assert!(error.contains("a batch has 100 tokens"), "{error}");
    let none = RaggedOptions { longest: Some(0), ..skipping };
    for (examples, options, part) in [
        (vec![], limited, "no examples"),
        (examples(5), none, "all 5 examples are too long"),
        (vec![Ragged::default()], limited, "example 0: no target ids"),
        (examples(5), RaggedOptions { fill: Fill::Rows(0), ..limited }, "a batch of 0"),
    ] {
        let error = RaggedBatches::new(examples, options).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
