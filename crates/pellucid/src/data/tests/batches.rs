use super::*;

/// Rows of a shard of 0, 1, 2, …: each id is one more than the last, and each target than its id.
fn follows(batch: &Batch, length: usize) -> bool {
    let rows = batch.ids.chunks(length).zip(batch.targets.chunks(length));
    rows.into_iter().all(|(ids, targets)| {
        ids.iter().zip(targets).all(|(&id, &target)| target == id + 1)
            && ids.windows(2).all(|w| w[1] == w[0] + 1)
    })
}

/// Whether the first ids of an epoch's rows are different multiples of `length`, all of them but
/// fewer than a batch.
fn covers(starts: &[i32], length: i32, windows: usize, rows: usize) -> bool {
    let set: BTreeSet<i32> = starts.iter().copied().collect();
    set.len() == starts.len()
        && starts.len() == windows / rows * rows
        && starts.iter().all(|start| start % length == 0 && *start < length * windows as i32)
}

#[test]
fn wrong_batches_are_caught() {
    let batch = |f: &dyn Fn(i32) -> (i32, i32)| {
        let (ids, targets) = (10..24).map(f).unzip();
        Batch { ids, targets }
    };
    assert!(follows(&batch(&|i| (i, i + 1)), 7));
    for (name, wrong) in [
        ("targets are the ids", batch(&|i| (i, i))),
        ("targets two ahead", batch(&|i| (i, i + 2))),
        ("last target is the first id", batch(&|i| (i, if i % 7 == 2 { i - 6 } else { i + 1 }))),
        ("one id again and again", batch(&|_| (5, 6))),
    ] {
        assert!(!follows(&wrong, 7), "{name}");
    }
    assert!(covers(&[14, 0, 7, 21], 7, 5, 4));
    for (name, wrong) in [
        ("a window twice", vec![14, 0, 7, 7]),
        ("windows that overlap", vec![14, 0, 7, 20]),
        ("past the end", vec![14, 0, 7, 35]),
        ("a row too few", vec![14, 0, 7]),
    ] {
        assert!(!covers(&wrong, 7, 5, 4), "{name}");
    }
}

fn counting(n: u32) -> Arc<Shard> {
    Arc::new(Shard::from_ids((0..n).collect(), n as usize).unwrap())
}

#[test]
fn random_rows_depend_on_seed_step_and_row_only() {
    let batches = |seed| Batches::new(counting(1000), 4, 7, Sampling::Random, seed).unwrap();
    let (a, b) = (batches(1), batches(1));
    let mut starts = BTreeSet::new();
    for step in (0..500).rev() {
        let batch = a.next(step).unwrap();
        assert_eq!(batch, b.next(step).unwrap());
        assert!(follows(&batch, 7));
        starts.extend(batch.ids.iter().step_by(7).copied());
    }
    assert!(starts.len() > 800, "{} different starts", starts.len());
    assert!(*starts.first().unwrap() < 10 && (980..=992).contains(starts.last().unwrap()));
    assert_ne!(a.next(0).unwrap(), batches(2).next(0).unwrap());
    // The least shard that works: T + 1 ids.
    let least = Batches::new(counting(8), 1, 7, Sampling::Random, 0).unwrap();
    assert_eq!(least.next(5).unwrap().targets, [1, 2, 3, 4, 5, 6, 7]);
    let error = Batches::new(counting(7), 1, 7, Sampling::Random, 0).unwrap_err().to_string();
    assert!(error.contains("T + 1"), "{error}");
    assert!(a.fill(0, &mut [0; 27], &mut [0; 28]).is_err());
}

#[test]
fn an_epoch_takes_every_window_once() {
    // 101 ids: 14 windows of 7; B = 4 makes 3 steps and leaves 2 windows out.
    let batches = Batches::new(counting(101), 4, 7, Sampling::Epochs, 3).unwrap();
    assert_eq!((batches.steps_per_epoch(), batches.tokens_per_step()), (3, 28));
    let epoch = |number: u64| -> Vec<i32> {
        let steps = number * 3..(number + 1) * 3;
        steps.flat_map(|s| batches.next(s).unwrap().ids.into_iter().step_by(7)).collect()
    };
    for number in 0..20 {
        assert!(covers(&epoch(number), 7, 14, 4));
    }
    assert_ne!(epoch(0), epoch(1));
    assert!(Batches::new(counting(101), 15, 7, Sampling::Epochs, 3).is_err());
}

#[test]
fn evaluation_counts_every_target_once() {
    for (n, rows, length) in [(101, 4, 7), (99, 4, 7), (2, 3, 5), (8, 1, 7), (9, 1, 7)] {
        let evaluation = Evaluation::all(counting(n), rows, length).unwrap();
        let (mut ids, mut targets) = (vec![0; rows * length], vec![0; rows * length]);
        let mut seen = vec![];
        for batch in 0..evaluation.batches() {
            let counted = evaluation.fill(batch, &mut ids, &mut targets).unwrap();
            let real = ids.iter().zip(&targets).filter(|&(_, &target)| target != IGNORE);
            let before = seen.len();
            seen.extend(real.map(|(&id, &target)| (id, target)));
            assert_eq!(seen.len() - before, counted);
        }
        assert!(seen.into_iter().eq((1..n as i32).map(|target| (target - 1, target))));
    }
    let some = Evaluation::some(counting(1001), 2, 10, 5).unwrap();
    assert_eq!(some.batches(), 3);
    let (mut ids, mut targets) = ([0; 20], [0; 20]);
    assert_eq!(some.fill(1, &mut ids, &mut targets).unwrap(), 20);
    assert_eq!((ids[0], ids[10]), (400, 600));
    assert_eq!(some.fill(2, &mut ids, &mut targets).unwrap(), 10);
    assert!(Evaluation::all(counting(1), 1, 1).is_err());
}

#[test]
fn examples_are_padded_and_prompts_are_not_learned() {
    let example = |ids: &[u32], prompt| Example { ids: ids.to_vec(), prompt };
    let examples = vec![example(&[1, 2, 3], 2), example(&[4, 5], 0), example(&[6, 7, 8, 9], 1)];
    let batches = ExampleBatches::new(examples.clone(), 3, 3, 0, 5).unwrap();
    assert_eq!(batches.steps_per_epoch(), 1);
    let batch = batches.next(4).unwrap();
    let rows = batch.ids.chunks(3).zip(batch.targets.chunks(3));
    let rows: BTreeSet<(Vec<i32>, Vec<i32>)> = rows.map(|(a, b)| (a.into(), b.into())).collect();
    let wanted = BTreeSet::from([
        (vec![1, 2, 0], vec![IGNORE, 3, IGNORE]),
        (vec![4, 0, 0], vec![5, IGNORE, IGNORE]),
        (vec![6, 7, 8], vec![7, 8, 9]),
    ]);
    assert_eq!(rows, wanted);
    assert!(ExampleBatches::new(examples, 1, 2, 0, 5).is_err());
    assert!(ExampleBatches::new(vec![example(&[1, 2], 2)], 1, 2, 0, 5).is_err());
    assert!(ExampleBatches::new(vec![], 1, 2, 0, 5).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_permutation_is_one(n in 1u64..300, key in any::<u64>()) {
        let seen: BTreeSet<u64> = (0..n).map(|i| permute(i, n, key)).collect();
        prop_assert_eq!(seen.len() as u64, n);
        prop_assert!(seen.iter().all(|&i| i < n));
    }
}
