//! The same numbers as `transformers` and PyTorch: goldens of `tests/golden/make_transformers.py` and `make_curve.py`.

use crate::support::{distance, golden, ids, shared, tiny};
use pellucid::autograd::{RunInfo, Training};
use pellucid::backend::cpu::{gemm::Precision, pool::Pool};
use pellucid::checkpoint::{GenerationConfig, StoredType, import_llama2c, load, save};
use pellucid::model::config::Config;
use pellucid::model::decoder::Decoder;
use pellucid::model::train_graph::{TrainGraph, TrainOptions};
use pellucid::model::weights::Weights;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> T {
    serde_json::from_value(value[name].clone()).expect("a field of the golden file")
}

/// Logits (B, T, V) of rows of one length, token by token.
fn logits(config: &Config, weights: &Weights, rows: &[Vec<i32>]) -> Vec<Vec<Vec<f32>>> {
    let (pool, b, v) = (Pool::new(1), rows.len(), config.vocab);
    let mut decoder = Decoder::new(config, b, config.context, 1).unwrap();
    let mut all = vec![vec![]; b];
    for t in 0..rows[0].len() {
        let column: Vec<i32> = rows.iter().map(|row| row[t]).collect();
        let found = decoder.extend(&pool, weights, &column, 1, &vec![1; b]).unwrap();
        for (row, logits) in all.iter_mut().zip(found.chunks_exact(v)) {
            row.push(logits.to_vec());
        }
    }
    all
}

fn worst(a: &[Vec<Vec<f32>>], b: &[Vec<Vec<f32>>]) -> f32 {
    distance(&a.concat().concat(), &b.concat().concat())
}

#[test]
fn logits_of_transformers() {
    for name in ["gpt2", "gpt2-untied-bf16", "llama", "llama-tied-shards"] {
        let mut model = load(&golden("hf").join(name)).unwrap();
        let text = read_json(&golden("hf").join(name).join("logits.json"));
        let (rows, wanted): (Vec<Vec<i32>>, Vec<_>) = (field(&text, "ids"), field(&text, "logits"));
        let difference = worst(&logits(&model.config, &model.weights, &rows), &wanted);
        assert!(difference < 5e-5, "{name}: {difference:e}");
        // A single wrong weight shows.
        let at = model.weights.specs().iter().find(|s| s.name.contains("mlp.in.weight")).unwrap();
        let at = at.offset;
        model.weights.data_mut()[at] += 0.1;
        let difference = worst(&logits(&model.config, &model.weights, &rows), &wanted);
        assert!(difference > 5e-4, "{name}: {difference:e}");
    }
}

#[test]
fn ten_training_steps_of_pytorch() {
    for name in ["gpt2", "llama"] {
        let folder = golden("curve").join(name);
        let mut model = load(&folder).unwrap();
        let text = read_json(&folder.join("curve.json"));
        let ids: Vec<Vec<Vec<i32>>> = field(&text, "ids");
        let targets: Vec<Vec<Vec<i32>>> = field(&text, "targets");
        let (losses, norms): (Vec<f64>, Vec<f64>) =
            (field(&text, "losses"), field(&text, "grad_norms"));
        let options = TrainOptions {
            batch: ids[0].len(),
            time: ids[0][0].len(),
            training: Training::default(),
            precision: Precision::F32,
        };
        let pool = Pool::new(1);
        let mut graph = TrainGraph::new(&model.config, options, 1).unwrap();
        let n = model.weights.data().len();
        let (mut grads, mut m, mut v) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        for step in 0..losses.len() {
            let run = RunInfo { grad_scale: 1.0, ..Default::default() };
            let (x, y) = (ids[step].concat(), targets[step].concat());
            let loss = graph.step(&pool, &model.weights, &mut grads, true, &x, &y, run).unwrap();
            let norm = grads.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let (a, b) = ((f64::from(loss) - losses[step]).abs(), (norm - norms[step]).abs());
            assert!(a <= 1e-5 && b <= 1e-4, "{name}, step {step}: loss {a:e}, norm {b:e}");
            adamw(&mut model.weights, &grads, norm, (&mut m, &mut v), step as i32 + 1);
        }
        // Where ten steps have led.
        let total: f64 = model.weights.data().iter().map(|x| f64::from(*x).powi(2)).sum();
        let finals = text["final"].as_object().unwrap().values();
        let wanted: f64 = finals.map(|f| f[1].as_f64().unwrap()).sum();
        assert!((total - wanted).abs() < 1e-4 * wanted, "{name}: {total} and {wanted}");
    }
}

/// The recipe of `make_curve.py` in f64: Loshchilov & Hutter 2019.
fn adamw(w: &mut Weights, grads: &[f32], norm: f64, (m, v): (&mut [f64], &mut [f64]), t: i32) {
    for spec in w.specs().to_vec() {
        let decay = if spec.decay { 0.1 } else { 0.0 };
        for i in spec.range() {
            let g = f64::from(grads[i]) * (1.0 / norm).min(1.0);
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.95 * v[i] + 0.05 * g * g;
            let (m, v) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.95f64.powi(t)));
            let x = f64::from(w.data()[i]) * (1.0 - 1e-3 * decay) - 1e-3 * m / (v.sqrt() + 1e-8);
            w.data_mut()[i] = x as f32;
        }
    }
}

/// llama2.c's smallest trained model: its logits, and 256 greedy tokens without one difference.
#[test]
fn stories260k() {
    let Some(weights) = shared("stories260K/stories260K.repaired.bin") else { return };
    let folder = weights.parent().unwrap();
    let (config, weights) = import_llama2c(&weights).unwrap();
    let bytes = std::fs::read(folder.join("ref_logits_16x512.f32")).unwrap();
    let wanted: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let text = std::fs::read_to_string(folder.join("golden_greedy_ids.txt")).unwrap();
    let greedy: Vec<i32> = text.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let row: Vec<i32> = std::iter::once(1).chain(greedy.iter().copied()).collect();
    let found = logits(&config, &weights, &[row[..greedy.len()].to_vec()]).remove(0);
    let difference = distance(&found[..16].concat(), &wanted);
    assert!(difference < 5e-5, "{difference:e}");
    for (t, (logits, id)) in found.iter().zip(&greedy).enumerate() {
        let best = (0..config.vocab).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(best as i32, *id, "token {t}");
    }
}

/// Leaves folders with our logits where `PELLUCID_TEST_KEEP` says, for `tests/golden/check_transformers.py`.
#[test]
fn our_folders_for_transformers() {
    let temporary = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("PELLUCID_TEST_KEEP");
    let out = keep.map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);
    for (name, config) in [
        ("gpt2", tiny("gpt2")),
        ("nano", Config { norm_epsilon: 1e-3, ..tiny("nano") }),
        ("gpt2-untied", Config { tied_head: false, bias: false, ..tiny("gpt2") }),
        ("llama", Config { rotary_base: 300.0, ..tiny("llama") }),
        ("llama-tied", Config { tied_head: true, head_width: 6, kv_heads: 1, ..tiny("llama") }),
    ] {
        let mut weights = Weights::init(&config, 5);
        let noise = Weights::init(&config, 6);
        for i in 0..weights.specs().len() {
            let spec = weights.specs()[i].clone();
            for (j, x) in weights.data_mut()[spec.range()].iter_mut().enumerate() {
                // Every part shows, norms and biases too.
                *x = *x * 6.0f32.min(1.0 + 5.0 * f32::from(spec.decay)) + noise.data()[j] * 3.0;
            }
        }
        let rows: Vec<_> = ids(9, 22, config.vocab).chunks(11).map(<[i32]>::to_vec).collect();
        let folder = out.join(name);
        let generation = GenerationConfig::default();
        save(&folder, &config, &weights, None, &generation, StoredType::F32).unwrap();
        let back = load(&folder).unwrap();
        let found = logits(&config, &weights, &rows);
        assert_eq!(found, logits(&back.config, &back.weights, &rows), "{name}");
        let text = json!({"ids": rows, "logits": found}).to_string();
        std::fs::write(folder.join("logits.json"), text).unwrap();
    }
}
