//! Speculation against generation without it: the same text where proposals are certain, the same distribution where
//! they are drawn; wrong rules of acceptance are caught.

use super::super::{Sampling, StopReason, generate};
use super::*;
use crate::tensor::random::Random;

/// Logits are random numbers that depend on the last two tokens; every `letters`-only model speaks in a to f.
struct Table {
    seed: u64,
    /// Added to the logits, with another seed: how much two tables differ.
    blend: Option<(u64, f32)>,
    letters: bool,
    capacity: usize,
    vocab: usize,
    text: Vec<u32>,
    logits: Vec<f32>,
}

impl Table {
    fn new(seed: u64, capacity: usize, vocab: usize) -> Self {
        let (text, logits) = (vec![], vec![]);
        Self { seed, blend: None, letters: false, capacity, vocab, text, logits }
    }

    fn of(&self, text: &[u32]) -> Vec<f32> {
        let last = text.iter().rev().take(2).fold(1, |h, &id| 977 * h + u64::from(id));
        let (mut random, mut other) =
            (Random::new(self.seed, last), Random::new(self.blend.map_or(0, |b| b.0), last));
        let weight = self.blend.map_or(0.0, |b| b.1);
        let mut logits: Vec<f32> =
            (0..self.vocab).map(|_| 1.2 * random.normal() + weight * other.normal()).collect();
        if self.letters {
            let letter = |id: usize| (97..103).contains(&id);
            (0..self.vocab).filter(|&id| !letter(id)).for_each(|i| logits[i] = f32::NEG_INFINITY);
        }
        logits
    }
}

impl NextLogits for Table {
    fn batch(&self) -> usize {
        1
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
    fn vocab(&self) -> usize {
        self.vocab
    }
    fn reset(&mut self) {
        self.text.clear();
    }
    fn extend(&mut self, ids: &[i32], _: usize, new: &[usize]) -> Result<&[f32]> {
        assert!(new[0] > 0, "called for nothing");
        self.text.extend(ids[..new[0]].iter().map(|&id| id as u32));
        assert!(self.text.len() <= self.capacity, "fed beyond the context");
        self.logits = self.of(&self.text);
        Ok(&self.logits)
    }
}

impl VerifyLogits for Table {
    fn extend_all(&mut self, ids: &[i32]) -> Result<&[f32]> {
        assert!(ids.len() <= MOST_PROPOSED + 1);
        let mut all = vec![];
        for id in ids {
            all.extend_from_slice(self.extend(&[*id], 1, &[1])?);
        }
        self.logits = all;
        Ok(&self.logits)
    }
    fn truncate(&mut self, len: usize) -> Result<()> {
        assert!(len <= self.text.len());
        self.text.truncate(len);
        Ok(())
    }
}

/// Knows what will be said, and is wrong at every position that `every` divides.
struct Oracle {
    said: Vec<u32>,
    every: usize,
    vocab: u32,
}

impl Drafter for Oracle {
    fn propose(&mut self, history: &[u32], most: usize, _: u64, into: &mut Proposal) -> Result<()> {
        for at in history.len()..(history.len() + most).min(self.said.len()) {
            let wrong = u32::from(at.is_multiple_of(self.every));
            into.tokens.push((self.said[at] + wrong) % self.vocab);
        }
        Ok(())
    }
    fn learn(&mut self, proposed: usize, accepted: usize) {
        assert!(accepted <= proposed);
    }
}

/// All that a receiver hears.
type Heard = Vec<(Option<u32>, Option<StopReason>, String)>;

fn hear(heard: &mut Heard) -> impl FnMut(Event<'_>) -> Result<Flow> {
    |event| {
        heard.push(match event {
            Event::Token { id, text, .. } => (Some(id), None, text.into()),
            Event::End { reason, text, .. } => (None, Some(reason), text.into()),
        });
        Ok(Flow::Continue)
    }
}

/// Both ways say and tell the same, for every number of proposals and a drafter that is wrong now and then.
fn check(model: &mut Table, prompt: &[u32], options: &GenerateOptions, text: bool) -> Speculated {
    let tokenizer = text.then(Tokenizer::bytes);
    let prompts = [prompt.to_vec()];
    let mut expected = vec![];
    let plain =
        generate(model, &prompts, options, tokenizer.as_ref(), &mut hear(&mut expected)).unwrap();
    let free = GenerateOptions { stop_ids: vec![], stop_strings: vec![], ..options.clone() };
    let said = generate(model, &prompts, &free, None, &mut |_| Ok(Flow::Continue)).unwrap();
    let said = [prompt, &said[0].tokens[..]].concat();
    let mut last = None;
    for most in 0..=MOST_PROPOSED {
        for every in [1, 2, 3, 5, 1000] {
            let mut oracle = Oracle { said: said.clone(), every, vocab: model.vocab as u32 };
            let mut heard = vec![];
            let tokenizer = tokenizer.as_ref();
            let got = {
                let sink = &mut hear(&mut heard);
                speculate(model, &mut oracle, most, &prompts, options, tokenizer, sink).unwrap()
            };
            assert_eq!(got[0].generated, plain[0], "{most} at a time, wrong at each {every}");
            assert_eq!(heard, expected, "{most} at a time, wrong at each {every}");
            let tokens = got[0].generated.tokens.len();
            assert!(got[0].calls + got[0].accepted <= tokens.max(1));
            assert!(every > 1 || got[0].accepted == 0);
            last = got.into_iter().next();
        }
    }
    last.unwrap()
}

#[test]
fn certain_proposals_change_nothing_but_the_number_of_calls() {
    let sampled = Sampling { temperature: 0.9, top_k: 7, seed: 3, ..Sampling::default() };
    let penalised = Sampling { repetition_penalty: 1.3, ..sampled };
    for sampling in [Sampling::greedy(), sampled, penalised] {
        let options = GenerateOptions { max_new: 30, sampling, prefill: 2, ..Default::default() };
        let mut model = Table::new(5, 64, 20);
        let done = check(&mut model, &[1, 2, 3], &options, false);
        assert!(done.calls <= 5 && done.accepted >= 24, "{done:?}");
        // The end of the context: 12 - 3 + 1 tokens.
        model.capacity = 12;
        let full = check(&mut model, &[1, 2, 3], &options, false);
        assert_eq!(full.generated.stop, StopReason::ContextFull);
        assert_eq!(full.generated.tokens.len(), 10);
        check(&mut model, &[3; 12], &options, false);
        model.capacity = 64;
        // A token that ends the text, at each place of a proposal.
        for at in 0..12 {
            let end = done.generated.tokens[at];
            let options = GenerateOptions { stop_ids: vec![end], ..options.clone() };
            let ended = check(&mut model, &[1, 2, 3], &options, false);
            assert_eq!(ended.generated.stop, StopReason::EndOfText);
        }
        for max_new in 0..10 {
            check(&mut model, &[4], &GenerateOptions { max_new, ..options.clone() }, false);
        }
    }
}

#[test]
fn stop_strings_end_inside_a_proposal() {
    let mut model = Table { letters: true, ..Table::new(9, 100, 256) };
    let sampling = Sampling { seed: 1, ..Sampling::default() };
    let options = GenerateOptions { max_new: 24, sampling, ..Default::default() };
    let free = check(&mut model, &[97], &options, true).generated;
    for at in 0..10 {
        let stop = free.text[at..at + 3].to_owned();
        let options = GenerateOptions { stop_strings: vec![stop], ..options.clone() };
        let cut = check(&mut model, &[97], &options, true).generated;
        assert_eq!(cut.stop, StopReason::StopString);
        assert!(free.text.starts_with(&cut.text));
    }
}

#[test]
fn a_cancelled_row_and_faults() {
    let mut model = Table::new(5, 64, 20);
    let options = GenerateOptions { max_new: 30, ..Default::default() };
    let prompts = [vec![1, 2], vec![3]];
    let mut n = 0;
    let mut sink = |event: Event<'_>| {
        n += usize::from(matches!(event, Event::Token { row: 0, .. }));
        Ok(if n == 7 { Flow::StopRow } else { Flow::Continue })
    };
    let mut drafter = NGram::new(Costs::of(0, 0.0));
    let done = speculate(&mut model, &mut drafter, 5, &prompts, &options, None, &mut sink).unwrap();
    assert_eq!(done[0].generated.stop, StopReason::Cancelled);
    assert_eq!(done[0].generated.tokens.len(), 7);
    let mut quiet = |_: Event<'_>| Ok(Flow::Continue);
    let mut run = |model: &mut Table, drafter: &mut dyn Drafter, most, prompts: &[Vec<u32>]| {
        speculate(model, drafter, most, prompts, &options, None, &mut quiet)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert!(run(&mut model, &mut drafter, 8, &prompts).unwrap_err().contains("at most 7"));
    assert!(run(&mut model, &mut drafter, 7, &[vec![99]]).unwrap_err().contains("id 99"));
    let mut foreign = Oracle { said: vec![500; 40], every: 1000, vocab: 1000 };
    assert!(run(&mut model, &mut foreign, 7, &prompts).unwrap_err().contains("id 500"));
}

const ALPHABET: usize = 5;
const LENGTH: usize = 4;

/// Index of a text of [`LENGTH`] tokens.
fn cell(tokens: &[u32]) -> usize {
    tokens.iter().fold(0, |n, &id| n * ALPHABET + id as usize)
}

/// The probability of each text of [`LENGTH`] tokens after `text`.
fn exact(
    model: &Table,
    sampler: &mut Sampler,
    text: &mut Vec<u32>,
    left: usize,
    p: f64,
) -> Vec<f64> {
    if left == 0 {
        return vec![p];
    }
    let mut each = vec![0.0; ALPHABET];
    for (id, q) in sampler.distribution(&model.of(text), text).unwrap() {
        each[id as usize] = f64::from(q);
    }
    let mut all = vec![];
    for (id, q) in each.into_iter().enumerate() {
        text.push(id as u32);
        all.extend(exact(model, sampler, text, left - 1, p * q));
        text.pop();
    }
    all
}

/// Chi-square of `n` texts against what they should be, in deviations from what it is on average: (χ² − f) / √(2f).
fn surprise(sampling: Sampling, rule: Rule, n: u64) -> f64 {
    let prompt = [0, 1];
    let mut model = Table::new(11, 16, ALPHABET);
    let mut small = Table { blend: Some((12, 0.8)), ..Table::new(11, 16, ALPHABET) };
    let mut sampler = Sampler::new(sampling).unwrap();
    let p = exact(&model, &mut sampler, &mut prompt.to_vec(), LENGTH, 1.0);
    // What costs nothing is always proposed.
    let free = Costs { draft: 0.0, verify: 0.0 };
    let mut drafter = DraftModel::new(&mut small, sampling, free).unwrap();
    let mut counts = vec![0u64; p.len()];
    let mut proposed = 0;
    for index in 0..n {
        let options = GenerateOptions { max_new: LENGTH, sampling, ..Default::default() };
        let judge = Judge { sampler: sampler.clone(), rule, p: vec![], instead: vec![] };
        let (drafter, options) = (&mut drafter, &options);
        let mut run = Speculation { model: &mut model, drafter, most: 2, options, judge };
        let row = Row::new(index as usize, &prompt, options, None);
        let done = run.run(row, &mut |_| Ok(Flow::Continue)).unwrap();
        proposed += done.proposed;
        counts[cell(&done.generated.tokens)] += 1;
    }
    assert!(proposed as u64 >= 2 * n, "{proposed} proposals test nothing");
    // Rare texts are counted together.
    let (mut sum, mut freedom, mut rare) = (0.0, -1.0, (0.0, 0.0));
    for (&p, &count) in p.iter().zip(&counts) {
        let expected = p * n as f64;
        if expected < 8.0 {
            rare = (rare.0 + expected, rare.1 + count as f64);
            // What should never come is an event of its own.
            sum += if p == 0.0 { 1e6 * count as f64 } else { 0.0 };
            continue;
        }
        sum += (count as f64 - expected).powi(2) / expected;
        freedom += 1.0;
    }
    if rare.0 > 8.0 {
        sum += (rare.1 - rare.0).powi(2) / rare.0;
        freedom += 1.0;
    }
    (sum - freedom) / (2.0f64 * freedom).sqrt()
}

#[test]
fn drawn_proposals_leave_the_distribution_as_it_is() {
    let base = Sampling { seed: 77, ..Sampling::default() };
    let settings = [
        base,
        Sampling { temperature: 0.6, ..base },
        Sampling { top_k: 3, temperature: 1.4, ..base },
        Sampling { top_p: 0.8, repetition_penalty: 1.5, ..base },
        Sampling { min_p: 0.2, seed: 5, ..base },
    ];
    for sampling in settings {
        let right = surprise(sampling, RULE, 20_000);
        assert!(right < 4.0, "{sampling:?}: {right}");
    }
    let wrong = [
        ("takes everything", Rule { accept: |_, _, _| true, ..RULE }),
        ("forgets q", Rule { accept: |u, p, _| u < p, ..RULE }),
        ("exchanges p and q", Rule { accept: |u, p, q| u * p < q, ..RULE }),
        ("draws instead from p", Rule { instead: |p, _| p, ..RULE }),
        ("draws instead from q - p", Rule { instead: |p, q| (q - p).max(0.0), ..RULE }),
        ("is a little generous", Rule { accept: |u, p, q| 0.9 * u * q < p, ..RULE }),
    ];
    for (name, rule) in wrong {
        let seen = surprise(base, rule, 20_000);
        assert!(seen > 6.0, "a rule that {name} passed with {seen}");
    }
}

#[test]
fn what_does_not_help_soon_costs_little() {
    let mut pace = Pace::new(Costs::of(0, 0.0));
    let proposed: usize = (0..1000)
        .map(|_| {
            let k = pace.tokens(7);
            pace.learn(k, 0);
            k
        })
        .sum();
    assert!(proposed <= 40, "{proposed} tokens proposed to one who refuses all");
    // It comes back when the text begins to repeat.
    let wait = (0..300).find(|_| {
        let k = pace.tokens(7);
        pace.learn(k, k);
        k == 7
    });
    assert!(wait.is_some_and(|rounds| rounds < 150), "{wait:?}");
}

/// Real decoders: greedy text is the same to the token, and so is sampled text with an n-gram drafter.
#[test]
fn real_models_say_the_same() {
    use crate::backend::cpu::pool::Pool;
    use crate::model::{config::Config, decoder::Decoder, weights::Weights};
    let sizes =
        Config { layers: 2, width: 48, heads: 3, kv_heads: 3, head_width: 16, ..Config::nano() };
    let large = Config { hidden: 96, context: 64, vocab: 37, ..sizes };
    let small = Config { layers: 1, context: 40, ..large.clone() };
    let make = |config: &Config, scale: f32| {
        let mut weights = Weights::init(config, 3);
        weights.data_mut().iter_mut().for_each(|w| *w *= scale);
        weights
    };
    let (weights, little, pool) = (make(&large, 3.0), make(&small, 3.0), Pool::new(2));
    let vocab = large.vocab;
    let mut decoder = Decoder::new(&large, 1, 60, 2).unwrap();
    let mut draft = Decoder::new(&small, 1, 40, 2).unwrap();
    let mut model = WithModel { decoder: &mut decoder, pool: &pool, weights: &weights, vocab };
    let prompts: Vec<Vec<u32>> = vec![vec![1, 2, 3], vec![4], (0..30).collect(), vec![5; 11]];
    let quiet = &mut |_: Event<'_>| Ok(Flow::Continue);
    let hot = Sampling { temperature: 0.7, seed: 8, ..Sampling::default() };
    for sampling in [Sampling::greedy(), hot] {
        let options = GenerateOptions { max_new: 50, sampling, ..Default::default() };
        let plain = generate(&mut model, &prompts, &options, None, quiet).unwrap();
        let mut smaller = WithModel { decoder: &mut draft, pool: &pool, weights: &little, vocab };
        let mut model_drafter =
            DraftModel::new(&mut smaller, sampling, Costs::of(1 << 30, 0.0)).unwrap();
        let mut ngram = NGram::new(Costs::of(0, 0.0));
        let certain = sampling == Sampling::greedy();
        for most in [1, 3, 7] {
            let mut run = |drafter: &mut dyn Drafter| {
                speculate(&mut model, drafter, most, &prompts, &options, None, quiet).unwrap()
            };
            for (row, plain) in run(&mut ngram).iter().zip(&plain) {
                assert_eq!(row.generated, *plain, "n-gram, {most}");
            }
            let rows = run(&mut model_drafter);
            assert!(rows.iter().any(|row| row.proposed > 0));
            for (row, plain) in rows.iter().zip(&plain).filter(|_| certain) {
                assert_eq!(row.generated, *plain, "draft model, {most}");
            }
        }
    }
}
