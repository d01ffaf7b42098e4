//! Against transformers on a toy, and against looking at everything.

use super::*;
use serde_json::Value;

const VOCAB: usize = 11;

/// Logits as a function of all that a row has read; the same as in `make_beam.py`.
struct Toy {
    rows: Vec<Vec<u32>>,
    logits: Vec<f32>,
}

fn logits(history: &[u32]) -> impl Iterator<Item = f32> {
    let h = history.iter().fold(17u64, |h, &id| (h * 31 + u64::from(id) + 7) % 1_000_003);
    (0..VOCAB).map(move |v| (3.0 * (h as f64 * 0.001 * (v + 1) as f64 + v as f64).sin()) as f32)
}

impl Toy {
    fn new(rows: usize) -> Self {
        Self { rows: vec![vec![]; rows], logits: vec![0.0; rows * VOCAB] }
    }
}

impl NextLogits for Toy {
    fn batch(&self) -> usize {
        self.rows.len()
    }
    fn capacity(&self) -> usize {
        40
    }
    fn vocab(&self) -> usize {
        VOCAB
    }
    fn reset(&mut self) {
        self.rows.iter_mut().for_each(Vec::clear);
    }
    fn extend(&mut self, ids: &[i32], t: usize, new: &[usize]) -> Result<&[f32]> {
        for (row, &n) in new.iter().enumerate().filter(|(_, n)| **n > 0) {
            self.rows[row].extend(ids[row * t..][..n].iter().map(|&id| id as u32));
            let to = &mut self.logits[row * VOCAB..][..VOCAB];
            to.iter_mut().zip(logits(&self.rows[row])).for_each(|(to, x)| *to = x);
        }
        Ok(&self.logits)
    }
}

impl BeamLogits for Toy {
    fn reorder(&mut self, parents: &[usize]) -> Result<()> {
        self.rows = parents.iter().map(|&p| self.rows[p].clone()).collect();
        Ok(())
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn options(setting: &Value) -> BeamOptions {
    let size = |key: &str| setting[key].as_u64().unwrap() as usize;
    BeamOptions {
        beams: size("beams"),
        length_penalty: setting["length_penalty"].as_f64().unwrap(),
        early_stopping: match setting["early_stopping"].as_str().unwrap() {
            "true" => EarlyStopping::Soonest,
            "never" => EarlyStopping::Never,
            _ => EarlyStopping::Estimated,
        },
        max_new: size("max_new"),
        min_new: size("min_new"),
        returned: size("beams"),
        forced_last: setting["forced_last"].as_u64().map(|id| id as u32),
        banned: ids(&setting["banned"]),
        stop_ids: ids(&setting["stop_ids"]),
        ..BeamOptions::default()
    }
}

#[test]
fn hypotheses_are_those_of_transformers() {
    let text = include_str!("../../../tests/golden/beam.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    let prompts: Vec<Vec<u32>> = golden["prompts"].as_array().unwrap().iter().map(ids).collect();
    for setting in golden["settings"].as_array().unwrap() {
        let options = options(setting);
        let mut toy = Toy::new(prompts.len() * options.beams);
        let found = beam_search(&mut toy, &prompts, &options).unwrap();
        for (found, wanted) in found.iter().zip(setting["found"].as_array().unwrap()) {
            assert_eq!(found.len(), options.beams);
            for (found, wanted) in found.iter().zip(wanted.as_array().unwrap()) {
                assert_eq!(found.tokens, ids(&wanted["tokens"]), "{options:?}");
                if let Some(score) = wanted["score"].as_f64() {
                    let far = (found.score - score).abs();
                    assert!(far <= 1e-4 * score.abs().max(1.0), "{options:?} {found:?} {score}");
                }
            }
        }
    }
}

/// A beam as wide as everything finds the best of all texts.
#[test]
fn a_wide_beam_misses_nothing() {
    let (prompt, max_new) = (vec![1, 3], 4);
    for length_penalty in [0.0, 1.0] {
        let options = BeamOptions {
            beams: 2 * VOCAB.pow(3),
            length_penalty,
            early_stopping: EarlyStopping::Never,
            max_new,
            stop_ids: vec![2],
            ..BeamOptions::default()
        };
        let mut toy = Toy::new(options.beams);
        let found = beam_search(&mut toy, std::slice::from_ref(&prompt), &options).unwrap();
        let mut best = (f64::NEG_INFINITY, vec![]);
        everything(&prompt, &mut vec![], 0.0, max_new, length_penalty, &mut best);
        assert_eq!(found[0][0].tokens, best.1);
        assert!((found[0][0].score - best.0).abs() <= 1e-5);
    }
}

fn everything(
    prompt: &[u32],
    tokens: &mut Vec<u32>,
    sum: f64,
    max_new: usize,
    penalty: f64,
    best: &mut (f64, Vec<u32>),
) {
    let history: Vec<u32> = prompt.iter().chain(&*tokens).copied().collect();
    let all: Vec<f64> = logits(&history).map(f64::from).collect();
    let log = all.iter().map(|x| x.exp()).sum::<f64>().ln();
    for (id, x) in all.iter().enumerate() {
        let (sum, length) = (sum + x - log, tokens.len() + 1);
        tokens.push(id as u32);
        if id == 2 || length == max_new {
            let score = sum / (length as f64).powf(penalty);
            if score > best.0 {
                let end = length - usize::from(id == 2);
                *best = (score, tokens[..end].to_vec());
            }
        } else {
            everything(prompt, tokens, sum, max_new, penalty, best);
        }
        tokens.pop();
    }
}

#[test]
fn options_and_prompts_that_do_not_fit_are_refused() {
    let bad =
        BeamOptions { beams: 0, returned: 3, min_new: 9, max_new: 2, ..BeamOptions::default() };
    let error = beam_search(&mut Toy::new(1), &[vec![1]], &bad).unwrap_err().to_string();
    for part in ["beams = 0", "returned = 3", "min_new = 9 is above max_new = 2"] {
        assert!(error.contains(part), "{error}");
    }
    let options = BeamOptions { beams: 2, max_new: 5, ..BeamOptions::default() };
    let refuse = |rows, prompts: &[Vec<u32>], wanted: &str| {
        let error = beam_search(&mut Toy::new(rows), prompts, &options).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    refuse(3, &[vec![1]], "3 rows");
    refuse(2, &[vec![]], "0 tokens");
    refuse(2, &[vec![1; 40]], "context holds 40");
    refuse(2, &[vec![99]], "id 99");
}
