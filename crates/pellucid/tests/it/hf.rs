//! Models of `transformers`: what it computes, we compute; what it wrote, we write.

use crate::support::golden;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{self, Loaded, StoredType, load_tensors};
use pellucid::generate::{
    BeamOptions, GenerateOptions, Sampling, WithModel, beam_search, generate,
};
use pellucid::model::config::Output;
use pellucid::model::decoder::Decoder;
use pellucid::model::reader::{Reader, Wanted};
use pellucid::model::train_graph::Batch;
use serde_json::Value;
use std::path::PathBuf;

const FAMILIES: [&str; 16] = [
    "llama3-rope",
    "llama-linear-rope",
    "mistral",
    "qwen2",
    "qwen3",
    "gpt2",
    "bert",
    "bert-vectors",
    "bert-labels",
    "bert-tags",
    "roberta",
    "roberta-labels",
    "marian",
    "bart",
    "t5",
    "t5-gated",
];

/// A folder, what was loaded from it, and what is expected.
struct Case {
    name: &'static str,
    folder: PathBuf,
    loaded: Loaded,
    expected: Value,
}

fn cases() -> impl Iterator<Item = Case> {
    FAMILIES.into_iter().map(|name| {
        let folder = golden("families").join(name);
        let loaded = checkpoint::load(&folder).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        Case { name, folder, loaded, expected: serde_json::from_str(&text).unwrap() }
    })
}

pub(crate) fn rows(value: &Value) -> Vec<Vec<i32>> {
    let row =
        |v: &Value| v.as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as i32).collect();
    value.as_array().map(|rows| rows.iter().map(row).collect()).unwrap_or_default()
}

pub(crate) fn numbers(value: &Value) -> Vec<Vec<f32>> {
    let row =
        |v: &Value| v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    value.as_array().unwrap().iter().map(row).collect()
}

pub(crate) fn slices(rows: &[Vec<i32>]) -> Vec<&[i32]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn batch(case: &Case) -> Batch {
    let batch = Batch::ragged(&slices(&rows(&case.expected["rows"])), &[]).unwrap();
    let sources = rows(&case.expected["sources"]);
    if sources.is_empty() { batch } else { batch.with_source(&slices(&sources)).unwrap() }
}

/// The largest difference between what stands at real positions and what is wanted there.
pub(crate) fn farthest(batch: &Batch, got: &[f32], wanted: &[Vec<f32>]) -> f32 {
    let width = got.len() / batch.rows;
    let far = |(row, wanted): (usize, &Vec<f32>)| {
        assert!(wanted.len() <= width && wanted.len() >= width / batch.time);
        let both = got[row * width..].iter().zip(wanted);
        both.map(|(a, b)| (a - b).abs()).fold(0.0, |m: f32, d| if d <= m { m } else { d })
    };
    wanted.iter().enumerate().map(far).fold(0.0, |m: f32, d| if d <= m { m } else { d })
}

#[test]
fn scores_of_every_family() {
    let pool = Pool::new(2);
    for case in cases() {
        let (config, weights) = (&case.loaded.config, &case.loaded.weights);
        let vectors = config.output == Output::Vectors;
        let wanted = if vectors { Wanted::Vectors } else { Wanted::Scores };
        let mut reader = Reader::new(config, wanted, Precision::F32, 2).unwrap();
        let batch = batch(&case);
        let got = reader.run(&pool, weights, &batch).unwrap();
        for padded in ["scores", "left"].into_iter().filter(|key| !case.expected[key].is_null()) {
            let far = farthest(&batch, &got, &numbers(&case.expected[padded]));
            assert!(far < 5e-5, "{}: {padded} differ by {far}", case.name);
        }
        if vectors {
            let mut reader = Reader::new(config, Wanted::Pooled, Precision::F32, 2).unwrap();
            let got = reader.run(&pool, weights, &batch).unwrap();
            let far = farthest(&batch, &got, &numbers(&case.expected["pooled"]));
            assert!(far < 5e-5, "{}: pooled differ by {far}", case.name);
        }
    }
}

/// Tokens before the one that ends a text, which `transformers` leaves in, with padding after it.
fn before_end(tokens: &[i32], ends: &[u32]) -> Vec<u32> {
    let all = tokens.iter().map(|&id| id as u32);
    all.take_while(|id| !ends.contains(id)).collect()
}

#[test]
fn greedy_and_beam_search_with_the_cache() {
    let pool = Pool::new(2);
    for case in cases().filter(|case| !case.expected["greedy"].is_null()) {
        let Loaded { config, weights, generation, .. } = &case.loaded;
        let (texts, sources) = (rows(&case.expected["rows"]), rows(&case.expected["sources"]));
        let start = generation.decoder_start;
        for (key, beams) in [("greedy", 1), ("beam", 3)] {
            for (row, wanted) in rows(&case.expected[key]).iter().enumerate() {
                let (mut decoder, prompt) = match sources.get(row) {
                    None => (
                        Decoder::new(config, beams, 40, 2).unwrap(),
                        texts[row].iter().map(|&id| id as u32).collect(),
                    ),
                    Some(source) => {
                        let mut decoder = Decoder::about(config, (1, 12), beams, 40, 2).unwrap();
                        decoder.read_sources(&pool, weights, &[source]).unwrap();
                        (decoder, vec![start.unwrap()])
                    }
                };
                let (decoder, vocab) = (&mut decoder, config.vocab);
                let mut model = WithModel { decoder, pool: &pool, weights, vocab };
                let got = match key {
                    "greedy" => {
                        let options = GenerateOptions {
                            max_new: 10,
                            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
                            stop_ids: generation.eos.clone(),
                            ..GenerateOptions::default()
                        };
                        let more = &mut |_: pellucid::generate::Event<'_>| {
                            Ok(pellucid::generate::Flow::Continue)
                        };
                        let mut done =
                            generate(&mut model, &[prompt], &options, None, more).unwrap();
                        done.remove(0).tokens
                    }
                    _ => {
                        let options = BeamOptions {
                            beams,
                            length_penalty: 0.8,
                            max_new: 10,
                            stop_ids: generation.eos.clone(),
                            forced_last: generation.forced_last,
                            banned: generation.banned.clone(),
                            ..BeamOptions::default()
                        };
                        beam_search(&mut model, &[prompt], &options).unwrap()[0][0].tokens.clone()
                    }
                };
                let mut wanted = before_end(wanted, &generation.eos);
                if key == "greedy" && generation.forced_last.is_some() && got.len() == 10 {
                    // Ours leaves off where it must; theirs puts the end in the last place.
                    wanted.push(got[9]);
                }
                assert_eq!(got, wanted, "{}: {key} of row {row}", case.name);
            }
        }
    }
}

/// Names and bytes of all tensors of a file.
fn tensors(path: PathBuf) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let file = load_tensors(&path).unwrap();
    let names: Vec<String> = file.names().map(Into::into).collect();
    let mut all: Vec<_> = names
        .into_iter()
        .map(|name| {
            let (shape, values) = (file.shape(&name).unwrap().to_vec(), file.read(&name).unwrap());
            (name, shape, values)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn what_is_read_is_written_again() {
    for case in cases() {
        let out = tempfile::tempdir().unwrap();
        let Loaded { config, weights, generation, family, .. } = &case.loaded;
        checkpoint::save(out.path(), config, weights, None, generation, StoredType::F32).unwrap();
        let again = checkpoint::load(out.path()).unwrap();
        assert_eq!((&again.config, again.family), (config, *family), "{}", case.name);
        let (theirs, ours) = (
            tensors(case.folder.join("model.safetensors")),
            tensors(out.path().join("model.safetensors")),
        );
        for (name, shape, values) in &theirs {
            // What is computed, or a second name, need not be written.
            if let Some(found) = ours.iter().find(|t| t.0.ends_with(name.as_str())) {
                assert_eq!(&found.1, shape, "{}: {name}", case.name);
                let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found.2), bits(values), "{}: {name}", case.name);
            }
        }
        let written = |t: &(String, Vec<usize>, Vec<f32>)| {
            theirs.iter().any(|theirs| t.0.ends_with(theirs.0.as_str()))
        };
        let extra: Vec<&String> = ours.iter().filter(|t| !written(t)).map(|t| &t.0).collect();
        assert!(extra.is_empty(), "{}: {extra:?}", case.name);
        let floats =
            |all: &[(String, Vec<usize>, Vec<f32>)]| all.iter().map(|t| t.2.len()).sum::<usize>();
        assert!(floats(&ours) >= weights.count(), "{}", case.name);
    }
}
