//! The KV cache changes nothing, and neither does the company in a batch.

use crate::support::{distance, ids, logits, shared, zoo};
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::import_llama2c;
use pellucid::generate::{
    Costs, DraftModel, Event, Flow, GenerateOptions, NGram, Sampling, WithModel, generate,
    speculate,
};
use pellucid::model::config::Config;
use pellucid::model::decoder::Decoder;
use pellucid::model::verified::MOST_VERIFIED;
use pellucid::model::weights::Weights;

const T: usize = 20;

/// Logits (T, V) of one row without any cache.
fn whole(config: &Config, weights: &Weights, row: &[i32]) -> Vec<f32> {
    logits(config, weights, 1, row)
}

#[test]
fn token_by_token_equals_all_at_once() {
    let pool = Pool::new(2);
    for (name, config) in zoo() {
        let weights = Weights::init(&config, 21);
        let row = ids(3, T, config.vocab);
        let expected = whole(&config, &weights, &row);
        let mut decoder = Decoder::new(&config, 1, config.context, 2).unwrap();
        for (t, id) in row.iter().enumerate() {
            let logits = decoder.extend(&pool, &weights, &[*id], 1, &[1]).unwrap();
            let far = distance(logits, &expected[t * config.vocab..][..config.vocab]);
            assert!(far <= 2e-5, "{name} position {t}: {far}");
        }
        // A prompt at once, then the rest in uneven pieces.
        decoder.reset();
        let mut at = 0;
        for piece in [13, 1, 4, 2] {
            let logits =
                decoder.extend(&pool, &weights, &row[at..at + piece], piece, &[piece]).unwrap();
            at += piece;
            let far = distance(logits, &expected[(at - 1) * config.vocab..][..config.vocab]);
            assert!(far <= 2e-5, "{name} after {at}: {far}");
        }
    }
}

#[test]
fn rows_of_different_lengths_do_not_disturb_each_other() {
    let pool = Pool::new(2);
    for (name, config) in zoo() {
        let weights = Weights::init(&config, 22);
        let lengths = [3, 17, 9];
        let rows: Vec<Vec<i32>> =
            lengths.iter().enumerate().map(|(i, n)| ids(i as u64, n + 2, config.vocab)).collect();
        let mut decoder = Decoder::new(&config, 3, config.context, 2).unwrap();
        let mut prompt = vec![0; 3 * 17];
        for (i, row) in rows.iter().enumerate() {
            prompt[i * 17..][..lengths[i]].copy_from_slice(&row[..lengths[i]]);
        }
        let v = config.vocab;
        let check = |logits: &[f32], extra: usize, live: [bool; 3]| {
            for (i, row) in rows.iter().enumerate().filter(|(i, _)| live[*i]) {
                let n = lengths[i] + extra;
                let expected = whole(&config, &weights, &row[..n]);
                let far = distance(&logits[i * v..][..v], &expected[(n - 1) * v..]);
                assert!(far <= 2e-5, "{name} row {i} + {extra}: {far}");
            }
        };
        check(decoder.extend(&pool, &weights, &prompt, 17, &lengths).unwrap(), 0, [true; 3]);
        let next: Vec<i32> = rows.iter().zip(lengths).map(|(r, n)| r[n]).collect();
        check(decoder.extend(&pool, &weights, &next, 1, &[1; 3]).unwrap(), 1, [true; 3]);
        // Row 1 rests while the others go on.
        let next: Vec<i32> = rows.iter().zip(lengths).map(|(r, n)| r[n + 1]).collect();
        check(
            decoder.extend(&pool, &weights, &next, 1, &[1, 0, 1]).unwrap(),
            2,
            [true, false, true],
        );
        assert_eq!(decoder.past(), [5, 18, 11]);
    }
}

#[test]
fn a_full_cache_is_an_error_and_changes_nothing() {
    let (_, config) = zoo().remove(0);
    let weights = Weights::init(&config, 1);
    let pool = Pool::new(1);
    let mut decoder = Decoder::new(&config, 1, 4, 1).unwrap();
    decoder.extend(&pool, &weights, &[1, 2, 3], 3, &[3]).unwrap();
    let error = decoder.extend(&pool, &weights, &[1, 2], 2, &[2]).unwrap_err().to_string();
    assert!(error.contains("3 + 2") && error.contains("room for 4"), "{error}");
    assert_eq!(decoder.past(), [3]);
    assert!(Decoder::new(&config, 1, config.context + 1, 1).is_err());
}

/// Verification relies on this: several positions in one call have the bits they have one by one.
#[test]
fn all_at_once_has_the_bits_of_token_by_token() {
    let pool = Pool::new(2);
    for (name, config) in zoo() {
        // Widths that leave tails in every kernel.
        let odd = Config { hidden: config.hidden.min(46), vocab: 35, ..config };
        let weights = Weights::init(&odd, 23);
        let row = ids(5, T, odd.vocab);
        let mut decoder = Decoder::new(&odd, 1, odd.context, 2).unwrap();
        let mut single: Vec<f32> = vec![];
        for id in &row {
            single.extend(decoder.extend(&pool, &weights, &[*id], 1, &[1]).unwrap());
        }
        for t in 1..=MOST_VERIFIED {
            decoder.reset();
            let mut at = 0;
            for piece in row.chunks(t) {
                let all = decoder.extend_all(&pool, &weights, piece).unwrap();
                let v = odd.vocab;
                let same =
                    all.iter().zip(&single[at * v..]).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && all.len() == piece.len() * v, "{name}: {t} at a time, from {at}");
                at += piece.len();
            }
            if name == "lstm" {
                let error = decoder.truncate(0, T - t).unwrap_err().to_string();
                assert!(error.contains("cannot forget"), "{error}");
                continue;
            }
            // Forgetting and reading again changes nothing.
            decoder.truncate(0, T - t).unwrap();
            let again = decoder.extend_all(&pool, &weights, &row[T - t..]).unwrap();
            assert_eq!(again, &single[(T - t) * odd.vocab..], "{name}: {t} again");
        }
        assert!(decoder.truncate(0, T + 1).is_err());
        assert!(decoder.extend_all(&pool, &weights, &row[..9]).is_err());
    }
}

/// A trained model (Karpathy's stories260K): greedy text with and without proposals, to the token.
#[test]
fn speculation_leaves_a_trained_models_text_alone() {
    let Some(path) = shared("stories260K/stories260K.repaired.bin") else { return };
    let (config, weights) = import_llama2c(&path).expect("a readable file");
    let (pool, vocab) = (Pool::new(2), config.vocab);
    let capacity = 200.min(config.context);
    let mut decoder = Decoder::new(&config, 1, capacity, 2).unwrap();
    let mut target = WithModel { decoder: &mut decoder, pool: &pool, weights: &weights, vocab };
    let prompts = [vec![1], vec![1, 403, 407, 261, 378]];
    let options =
        GenerateOptions { max_new: 190, sampling: Sampling::greedy(), ..Default::default() };
    let quiet = &mut |_: Event<'_>| Ok(Flow::Continue);
    let plain = generate(&mut target, &prompts, &options, None, quiet).unwrap();
    let mut drafter = NGram::new(Costs::of(1 << 30, 0.0));
    let done = speculate(&mut target, &mut drafter, 7, &prompts, &options, None, quiet).unwrap();
    for (row, plain) in done.iter().zip(&plain) {
        assert_eq!(row.generated, *plain);
        eprintln!(
            "{} tokens: {} of {} proposals, {} calls",
            plain.tokens.len(),
            row.accepted,
            row.proposed,
            row.calls
        );
    }
    assert!(done.iter().all(|row| row.accepted > 10));
    // Its own drafter: nearly everything is right.
    let mut copy = Decoder::new(&config, 1, capacity, 2).unwrap();
    let mut twin = WithModel { decoder: &mut copy, pool: &pool, weights: &weights, vocab };
    let mut drafter =
        DraftModel::new(&mut twin, options.sampling, Costs::of(1 << 30, 0.0)).unwrap();
    let done = speculate(&mut target, &mut drafter, 7, &prompts, &options, None, quiet).unwrap();
    for (row, plain) in done.iter().zip(&plain) {
        assert_eq!(row.generated, *plain);
        assert!(row.proposed == row.accepted && row.calls < 40, "{row:?}");
    }
}
