//! The sampler against hand-computed values and counted frequencies; the loop against a model whose
//! logits depend on everything a row has seen.

use super::*;
use crate::error::{Error, Kind, Result};
use crate::tensor::random::Random;
use crate::text::{Flavor, Tokenizer};
use std::cell::RefCell;

fn sampler(sampling: Sampling) -> Sampler {
    Sampler::new(sampling).unwrap()
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let e: Vec<f64> = logits.iter().map(|&l| f64::from(l).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|x| x / sum).collect()
}

/// Chi-square statistic of `n` draws against `p`, one per position.
fn chi_square(s: &mut Sampler, logits: &[f32], p: &[f64], n: u64) -> f64 {
    let mut counts = vec![0u64; logits.len()];
    for position in 0..n {
        counts[s.sample(logits, &[], 3, position).unwrap() as usize] += 1;
    }
    let expected = |i: usize| p[i] * n as f64;
    assert!((0..p.len()).all(|i| p[i] > 0.0 || counts[i] == 0), "a forbidden token came");
    (0..p.len())
        .filter(|&i| p[i] > 0.0)
        .map(|i| (counts[i] as f64 - expected(i)).powi(2) / expected(i))
        .sum()
}

#[test]
fn frequencies_follow_the_softmax() {
    let mut random = Random::new(1, 0);
    let logits: Vec<f32> = (0..20).map(|_| random.normal()).collect();
    let n = 40_000;
    // 19 degrees of freedom: 43.8 is passed once in a thousand times.
    for temperature in [1.0, 0.5, 2.0] {
        let hot: Vec<f32> = logits.iter().map(|l| l / temperature).collect();
        let mut s = sampler(Sampling { temperature, ..Sampling::default() });
        let right = chi_square(&mut s, &logits, &softmax(&hot), n);
        assert!(right < 43.8, "temperature {temperature}: {right}");
        // The test must be able to fail: a temperature 10% off is seen.
        let wrong: Vec<f32> = hot.iter().map(|l| l / 1.1).collect();
        let wrong = chi_square(&mut s, &logits, &softmax(&wrong), n);
        assert!(wrong > 43.8, "temperature {temperature}: a wrong softmax passed with {wrong}");
    }
}

#[test]
fn filtered_frequencies_follow_the_renormalised_softmax() {
    let logits = [2.0f32, 1.5, 1.0, 0.5, 0.0, -0.5];
    let mut s = sampler(Sampling { top_k: 3, ..Sampling::default() });
    let mut p = softmax(&logits[..3]);
    p.resize(6, 0.0);
    assert!(chi_square(&mut s, &logits, &p, 20_000) < 13.8);
}

fn ids(sampling: Sampling, logits: &[f32]) -> Vec<u32> {
    let distribution = sampler(sampling).distribution(logits, &[]).unwrap();
    let sum: f32 = distribution.iter().map(|d| d.1).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    distribution.into_iter().map(|d| d.0).collect()
}

#[test]
fn top_k_top_p_and_min_p_keep_exactly_their_sets() {
    let base = Sampling::default();
    // Probabilities 0.4, 0.3, 0.2, 0.1 for ids 2, 0, 3, 1.
    let logits = [0.3f32.ln(), 0.1f32.ln(), 0.4f32.ln(), 0.2f32.ln()];
    assert_eq!(ids(base, &logits), [2, 0, 3, 1]);
    for (k, set) in [(1, &[2][..]), (2, &[2, 0]), (3, &[2, 0, 3]), (9, &[2, 0, 3, 1])] {
        assert_eq!(ids(Sampling { top_k: k, ..base }, &logits), set, "top_k {k}");
    }
    for (p, set) in [
        (1e-6, &[2][..]),
        (0.39, &[2]),
        (0.41, &[2, 0]),
        (0.69, &[2, 0]),
        (0.71, &[2, 0, 3]),
        (0.95, &[2, 0, 3, 1]),
    ] {
        assert_eq!(ids(Sampling { top_p: p, ..base }, &logits), set, "top_p {p}");
    }
    for (p, set) in [(1.0, &[2][..]), (0.74, &[2, 0]), (0.49, &[2, 0, 3]), (0.2, &[2, 0, 3, 1])] {
        assert_eq!(ids(Sampling { min_p: p, ..base }, &logits), set, "min_p {p}");
    }
    // top-p sees the distribution that top-k left: 0.4/0.7 = 0.571.
    assert_eq!(ids(Sampling { top_k: 2, top_p: 0.56, ..base }, &logits), [2]);
    assert_eq!(ids(Sampling { top_k: 2, top_p: 0.58, ..base }, &logits), [2, 0]);
    // Ties with the k-th stay, as in torch.topk's threshold.
    assert_eq!(ids(Sampling { top_k: 2, ..base }, &[1.0, 3.0, 1.0, 0.0]), [1, 0, 2]);
    // Temperature comes first: at 0.5 the probabilities are squared, 16/30 for the best.
    assert_eq!(ids(Sampling { temperature: 0.5, top_p: 0.53, ..base }, &logits), [2]);
    assert_eq!(ids(Sampling { temperature: 0.5, top_p: 0.54, ..base }, &logits), [2, 0]);
}

#[test]
fn repetition_divides_positive_and_multiplies_negative_logits_once() {
    let mut s = sampler(Sampling { repetition_penalty: 2.0, ..Sampling::default() });
    let got = s.distribution(&[2.0, -1.0, 0.5, -3.0], &[0, 0, 1, 99]).unwrap();
    let want = softmax(&[1.0, -2.0, 0.5, -3.0]);
    for (id, p) in got {
        assert!((f64::from(p) - want[id as usize]).abs() < 1e-6, "token {id}");
    }
}

#[test]
fn greedy_takes_the_lowest_of_the_best() {
    let mut s = sampler(Sampling::greedy());
    assert_eq!(s.sample(&[0.0, 2.0, 2.0], &[], 0, 0).unwrap(), 1);
    let mut s = sampler(Sampling { repetition_penalty: 3.0, ..Sampling::greedy() });
    assert_eq!(s.sample(&[0.0, 2.0, 2.0], &[1], 0, 0).unwrap(), 2);
    // The smallest temperature does not overflow.
    let mut s = sampler(Sampling { temperature: f32::MIN_POSITIVE, ..Sampling::default() });
    assert_eq!(s.sample(&[f32::MIN, 3e38, 1.0], &[], 0, 0).unwrap(), 1);
}

#[test]
fn draws_are_a_function_of_seed_row_and_position() {
    let logits = [0.0f32; 64];
    let draw = |seed, row| -> Vec<u32> {
        let mut s = sampler(Sampling { seed, ..Sampling::default() });
        (0..32).map(|position| s.sample(&logits, &[], row, position).unwrap()).collect()
    };
    assert_eq!(draw(5, 1), draw(5, 1));
    assert_ne!(draw(5, 1), draw(5, 2));
    assert_ne!(draw(5, 1), draw(6, 1));
}

#[test]
fn logits_that_are_no_numbers_are_refused_with_their_place() {
    let mut s = sampler(Sampling::greedy());
    let text = s.sample(&[0.0, f32::NAN], &[], 2, 7).unwrap_err().to_string();
    assert!(text.contains("token 1") && text.contains("row 2, position 7"), "{text}");
    assert!(s.sample(&[f32::INFINITY], &[], 0, 0).is_err());
    assert!(s.sample(&[f32::NEG_INFINITY; 3], &[], 0, 0).is_err());
    assert_eq!(s.sample(&[f32::NEG_INFINITY, -5.0], &[], 0, 0).unwrap(), 1);
}

#[test]
fn all_faults_of_the_settings_are_listed() {
    let bad = Sampling {
        temperature: -1.0,
        top_p: 0.0,
        min_p: 2.0,
        repetition_penalty: f32::NAN,
        ..Sampling::default()
    };
    let text = bad.validate().unwrap_err().to_string();
    for fault in ["4 faults", "temperature = -1", "top_p = 0", "min_p = 2", "NaN"] {
        assert!(text.contains(fault), "{text}");
    }
    assert_eq!(bad.validate().unwrap_err().kind(), Kind::Config);
}

/// Logits are random numbers whose key is a hash of the row's whole history.
struct Hash {
    rows: Vec<Vec<u32>>,
    capacity: usize,
    vocab: usize,
    logits: Vec<f32>,
    /// Sum of `new` over all calls: idle rows must not be fed.
    fed: usize,
}

impl Hash {
    fn new(batch: usize, capacity: usize, vocab: usize) -> Self {
        Self { rows: vec![vec![]; batch], capacity, vocab, logits: vec![], fed: 0 }
    }
}

impl NextLogits for Hash {
    fn batch(&self) -> usize {
        self.rows.len()
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
    fn vocab(&self) -> usize {
        self.vocab
    }
    fn reset(&mut self) {
        self.rows.iter_mut().for_each(Vec::clear);
    }
    fn extend(&mut self, ids: &[i32], t: usize, new: &[usize]) -> Result<&[f32]> {
        assert_eq!((ids.len(), new.len()), (self.rows.len() * t, self.rows.len()));
        self.logits.clear();
        for (b, row) in self.rows.iter_mut().enumerate() {
            row.extend(ids[b * t..b * t + new[b]].iter().map(|&id| id as u32));
            assert!(row.len() <= self.capacity, "row {b} was fed beyond the context");
            self.fed += new[b];
            let hash = row.iter().fold(17u64, |h, &id| {
                (h ^ u64::from(id)).wrapping_mul(0x100_0000_01b3).rotate_left(23)
            });
            // Idle rows have logits that would be noticed.
            let mut random = Random::new(hash, 0);
            let junk = if new[b] == 0 { f32::NAN } else { 0.0 };
            self.logits.extend((0..self.vocab).map(|_| 2.0 * random.normal() + junk));
        }
        Ok(&self.logits)
    }
}

fn quiet(_: Event<'_>) -> Result<Flow> {
    Ok(Flow::Continue)
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 2, 3], vec![4], (0..17).collect(), vec![9, 9], vec![5; 11]]
}

#[test]
fn a_batch_says_what_each_row_says_alone() {
    let sampling = Sampling { temperature: 0.9, top_k: 20, seed: 4, ..Sampling::default() };
    for prefill in [0, 1, 4] {
        let options = GenerateOptions {
            max_new: 25,
            sampling,
            stop_ids: vec![7],
            prefill,
            ..Default::default()
        };
        for batch in [1, 2, 5, 8] {
            let mut model = Hash::new(batch, 30, 40);
            let together = generate(&mut model, &prompts(), &options, None, &mut quiet).unwrap();
            let mut fed = 0;
            for (i, prompt) in prompts().into_iter().enumerate() {
                let options =
                    GenerateOptions { first_row: i as u64, prefill: 0, ..options.clone() };
                let mut single = Hash::new(1, 30, 40);
                let alone = generate(&mut single, &[prompt], &options, None, &mut quiet).unwrap();
                fed += single.fed;
                assert_eq!(alone[0], together[i], "row {i}, batch {batch}, prefill {prefill}");
            }
            assert_eq!(model.fed, fed, "no token is fed twice and idle rows are fed none");
        }
    }
    // Rows with equal prompts draw differently.
    let options = GenerateOptions { max_new: 8, sampling, ..Default::default() };
    let same = generate(&mut Hash::new(2, 30, 40), &[vec![1], vec![1]], &options, None, &mut quiet)
        .unwrap();
    assert_ne!(same[0].tokens, same[1].tokens);
}

#[test]
fn each_stop_reason_comes_when_it_should() {
    let run = |prompt: Vec<u32>, options: &GenerateOptions| {
        let sink = &mut |_: Event<'_>| Ok(Flow::Continue);
        generate(&mut Hash::new(1, 8, 16), &[prompt], options, None, sink).map(|mut g| g.remove(0))
    };
    let greedy = GenerateOptions { sampling: Sampling::greedy(), max_new: 3, ..Default::default() };
    let free = run(vec![1], &greedy).unwrap();
    assert_eq!((free.tokens.len(), free.stop), (3, StopReason::MaxTokens));
    let stop = GenerateOptions { stop_ids: vec![free.tokens[1]], ..greedy.clone() };
    let ended = run(vec![1], &stop).unwrap();
    assert_eq!((&ended.tokens[..], ended.stop), (&free.tokens[..1], StopReason::EndOfText));
    // A full context still yields the token after its last position: 8 - 6 + 1.
    let long = GenerateOptions { max_new: 100, ..greedy.clone() };
    let full = run(vec![1; 6], &long).unwrap();
    assert_eq!((full.tokens.len(), full.stop), (3, StopReason::ContextFull));
    assert_eq!(run(vec![1; 8], &long).unwrap().tokens.len(), 1);
    let none = run(vec![1], &GenerateOptions { max_new: 0, ..greedy.clone() }).unwrap();
    assert_eq!((none.tokens.len(), none.stop), (0, StopReason::MaxTokens));

    let too_long = run(vec![1; 11], &greedy).unwrap_err().to_string();
    for part in ["11 tokens", "holds 8", "--truncate-prompt", "by 3 tokens"] {
        assert!(too_long.contains(part), "{too_long}");
    }
    let cut = GenerateOptions { truncate_prompt: true, ..greedy.clone() };
    let tail = run((0..11).collect(), &cut).unwrap();
    assert_eq!(tail.prompt, [6, 7, 8, 9, 10]);
    assert_eq!(tail.tokens.len(), 3);

    assert!(run(vec![], &greedy).unwrap_err().to_string().contains("no token"));
    let foreign = run(vec![1, 16], &greedy).unwrap_err().to_string();
    assert!(foreign.contains("token 1: id 16"), "{foreign}");
    let strings = GenerateOptions { stop_strings: vec!["x".into()], ..greedy };
    assert!(run(vec![1], &strings).is_err());
}

#[test]
fn a_row_that_is_cancelled_leaves_the_others_alone() {
    let options = GenerateOptions { max_new: 6, ..Default::default() };
    let free = generate(&mut Hash::new(5, 30, 40), &prompts(), &options, None, &mut quiet).unwrap();
    let mut sink = |event: Event<'_>| {
        Ok(if matches!(event, Event::Token { row: 2, .. }) {
            Flow::StopRow
        } else {
            Flow::Continue
        })
    };
    let cut = generate(&mut Hash::new(5, 30, 40), &prompts(), &options, None, &mut sink).unwrap();
    assert_eq!((cut[2].tokens.len(), cut[2].stop), (1, StopReason::Cancelled));
    for i in [0, 1, 3, 4] {
        assert_eq!(cut[i], free[i]);
    }
    let mut broken = |_: Event<'_>| Err(Error::new(Kind::Interrupted, "test", "stop"));
    assert!(generate(&mut Hash::new(5, 30, 40), &prompts(), &options, None, &mut broken).is_err());
}

/// Says a fixed byte string, whatever it is asked.
struct Parrot {
    script: Vec<u8>,
    said: usize,
    logits: Vec<f32>,
}

impl NextLogits for Parrot {
    fn batch(&self) -> usize {
        1
    }
    fn capacity(&self) -> usize {
        100
    }
    fn vocab(&self) -> usize {
        256
    }
    fn reset(&mut self) {
        self.said = 0;
    }
    fn extend(&mut self, _: &[i32], _: usize, _: &[usize]) -> Result<&[f32]> {
        self.logits = vec![0.0; 256];
        self.logits[self.script[self.said % self.script.len()] as usize] = 9.0;
        self.said += 1;
        Ok(&self.logits)
    }
}

/// The pieces that were streamed, and the result.
fn stream(script: &str, max_new: usize, stops: &[&str]) -> (Vec<String>, Generated) {
    let tokenizer = Tokenizer::bytes();
    assert_eq!(tokenizer.flavor(), Flavor::Bytes);
    let options = GenerateOptions {
        max_new,
        sampling: Sampling::greedy(),
        stop_strings: stops.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let pieces = RefCell::new(vec![]);
    let mut sink = |event: Event<'_>| {
        let (Event::Token { text, .. } | Event::End { text, .. }) = event;
        pieces.borrow_mut().push(text.to_owned());
        Ok(Flow::Continue)
    };
    let mut parrot = Parrot { script: script.into(), said: 0, logits: vec![] };
    let prompt = vec![vec![b'>'.into()]];
    let mut done = generate(&mut parrot, &prompt, &options, Some(&tokenizer), &mut sink).unwrap();
    assert_eq!(pieces.borrow().concat(), done[0].text, "the stream is the text");
    (pieces.into_inner(), done.remove(0))
}

#[test]
fn half_a_character_is_never_streamed() {
    let (pieces, done) = stream("aé€😀", 10, &[]);
    assert_eq!(done.text, "aé€😀");
    assert!(pieces.iter().all(|p| !p.contains('\u{fffd}')), "{pieces:?}");
    // Cut inside the last character: only the end shows that it is half.
    assert_eq!(stream("aé€😀", 8, &[]).1.text, "aé€\u{fffd}");
}

#[test]
fn a_stop_string_is_held_back_and_cut_off() {
    let (pieces, done) = stream("one END two", 50, &["END"]);
    assert_eq!((done.text.as_str(), done.stop), ("one ", StopReason::StopString));
    assert!(!pieces.concat().contains('E'));
    // What only looked like one is given after all.
    let (_, done) = stream("one EN", 6, &["END"]);
    assert_eq!((done.text.as_str(), done.stop), ("one EN", StopReason::MaxTokens));
}

/// The real decoder, with random weights: rows of a batch say what they say alone, to the token.
#[test]
fn a_real_model_says_the_same_in_a_batch_and_alone() {
    use crate::backend::cpu::pool::Pool;
    use crate::model::{config::Config, decoder::Decoder, weights::Weights};
    let sizes =
        Config { layers: 2, width: 48, heads: 3, kv_heads: 3, head_width: 16, ..Config::nano() };
    let config = Config { hidden: 96, context: 48, vocab: 37, ..sizes };
    let mut weights = Weights::init(&config, 3);
    // Spread the logits, so that draws differ.
    weights.data_mut().iter_mut().for_each(|w| *w *= 3.0);
    let pool = Pool::new(2);
    let run = |prompts: &[Vec<u32>], first_row| {
        let mut decoder = Decoder::new(&config, prompts.len(), 40, pool.threads()).unwrap();
        let (pool, weights) = (&pool, &weights);
        let mut model = WithModel { decoder: &mut decoder, pool, weights, vocab: config.vocab };
        let options = GenerateOptions { max_new: 20, first_row, ..Default::default() };
        generate(&mut model, prompts, &options, None, &mut quiet).unwrap()
    };
    let together = run(&prompts(), 0);
    for (i, prompt) in prompts().into_iter().enumerate() {
        assert_eq!(run(&[prompt], i as u64)[0], together[i], "row {i}");
    }
}
