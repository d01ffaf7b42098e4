//! LoRA: what PEFT computes, we compute; what it wrote, we write; training moves the factors alone.

use crate::hf::{farthest, numbers, rows, slices};
use crate::support::{distance, golden, ids};
use pellucid::autograd::RunInfo;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{self, GenerationConfig, load_tensors, read_factors, save_adapter};
use pellucid::model::adapter::{self, Target};
use pellucid::model::config::{Adapter, Config};
use pellucid::model::reader::{Reader, Wanted};
use pellucid::model::train_graph::{Batch, TrainGraph, TrainOptions};
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name, family, rank, α, whether it is divided by the root of the rank, targets.
type Made = (&'static str, &'static str, usize, f32, bool, &'static [&'static str]);
const MADE: [Made; 5] = [
    ("qwen2", "qwen2", 3, 6.0, false, &["q", "v", "down"]),
    ("llama-all", "llama3-rope", 2, 5.0, true, &["all"]),
    ("gpt2", "gpt2", 4, 4.0, false, &["qkv", "up"]),
    ("bert-labels", "bert-labels", 2, 8.0, false, &["q", "v", "out"]),
    ("bart", "bart", 2, 8.0, false, &["q", "k", "v", "up", "down"]),
];

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Scores of the rows that `expected` names.
fn scores(config: &Config, weights: &Weights, expected: &Value) -> (Batch, Vec<f32>) {
    let batch = Batch::ragged(&slices(&rows(&expected["rows"])), &[]).unwrap();
    let sources = rows(&expected["sources"]);
    let batch = match sources.is_empty() {
        true => batch,
        false => batch.with_source(&slices(&sources)).unwrap(),
    };
    let mut reader = Reader::new(config, Wanted::Scores, Precision::F32, 2).unwrap();
    let got = reader.run(&Pool::new(2), weights, &batch).unwrap();
    (batch, got)
}

/// The config with this adapter, weights of its base with the factors of `folder` beside them.
fn beside(made: &Made, folder: &Path) -> (Config, Weights) {
    let (_, family, rank, alpha, root, targets) = *made;
    let base = checkpoint::load(&golden("families").join(family)).unwrap();
    let names: Vec<String> = targets.iter().map(|&t| t.into()).collect();
    let targets = checkpoint::adapter::targets(&base.config, &names).unwrap();
    let adapter = Some(Adapter { rank, alpha, root, dropout: 0.0, targets });
    let config = Config { adapter, ..base.config };
    let mut weights = Weights::zeros(&config);
    for spec in base.weights.specs() {
        let from = base.weights.get(&spec.name).unwrap();
        weights.get_mut(&spec.name).unwrap().copy_from_slice(from);
    }
    read_factors(folder, &config, &mut weights).unwrap();
    (config, weights)
}

#[test]
fn adapters_of_peft_give_its_scores_merged_and_beside() {
    for made in &MADE {
        let folder = golden("adapters").join(made.0);
        let expected = json(&folder.join("expected.json"));
        let wanted = numbers(&expected["scores"]);
        let loaded = checkpoint::load(&folder).unwrap();
        let (config, weights) = beside(made, &folder);
        let again = adapter::merge(&config, &weights).unwrap();
        assert_eq!(again.0, loaded.config);
        assert!(distance(again.1.data(), loaded.weights.data()) <= 0.0, "{}", made.0);
        let all = [("merged", &loaded.config, &loaded.weights), ("beside", &config, &weights)];
        for (how, config, weights) in all {
            let (batch, got) = scores(config, weights, &expected);
            let far = farthest(&batch, &got, &wanted);
            assert!(far < 5e-5, "{} {how}: scores differ by {far}", made.0);
        }
        // Without the adapter the scores are far from these.
        assert!(expected["away"].as_f64().unwrap() > 0.5);
    }
}

/// The folder of an adapter of PEFT's, and what we write under `folder` after reading it.
fn rewritten(made: &Made, folder: &Path) -> (PathBuf, PathBuf) {
    let from = golden("adapters").join(made.0);
    let (config, weights) = beside(made, &from);
    let to = folder.join(made.0);
    let base = golden("families").join(made.1);
    let generation = GenerationConfig::default();
    save_adapter(&to, (&config, &weights), None, &generation, &base).unwrap();
    (from, to)
}

#[test]
fn what_peft_wrote_we_write() {
    let folder = tempfile::tempdir().unwrap();
    for made in &MADE {
        let (from, to) = rewritten(made, folder.path());
        let file = |folder: &Path| load_tensors(&folder.join("adapter_model.safetensors")).unwrap();
        let (theirs, ours) = (file(&from), file(&to));
        let names = |file: &pellucid::checkpoint::TensorFile| {
            file.names().map(str::to_owned).collect::<BTreeSet<_>>()
        };
        assert_eq!(names(&theirs), names(&ours), "{}", made.0);
        for name in theirs.names() {
            let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(theirs.shape(name).unwrap(), ours.shape(name).unwrap());
            assert_eq!(bits(theirs.read(name).unwrap()), bits(ours.read(name).unwrap()), "{name}");
        }
        let settings = |folder: &Path| json(&folder.join("adapter_config.json"));
        let (theirs, ours) = (settings(&from), settings(&to));
        for key in ["peft_type", "task_type", "r", "use_rslora", "fan_in_fan_out", "bias"] {
            assert_eq!(theirs[key], ours[key], "{} {key}", made.0);
        }
        let loaded = checkpoint::load(&to).unwrap();
        let merged = checkpoint::load(&from).unwrap();
        assert!(distance(loaded.weights.data(), merged.weights.data()) <= 0.0);
        if made.0 == "llama-all" {
            let ends =
                ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
            let told = ours["target_modules"].as_array().unwrap();
            assert_eq!(told.iter().map(|n| n.as_str().unwrap()).collect::<Vec<_>>(), ends);
        }
    }
}

#[test]
fn another_base_and_other_adapters_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (made, to) = (&MADE[0], folder.path().join("adapter"));
    let (config, weights) = beside(made, &golden("adapters").join(made.0));
    let base = folder.path().join("base");
    let copy = |from: &str| {
        let from = golden("families").join(from);
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir(&base).unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(from.join(file), base.join(file)).unwrap();
        }
    };
    copy("qwen2");
    let generation = GenerationConfig::default();
    save_adapter(&to, (&config, &weights), None, &generation, &base).unwrap();
    checkpoint::load(&to).unwrap();
    let text = |wanted: &str| {
        let text = checkpoint::load(&to).unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}");
    };
    // The same sizes, other weights.
    let mut other = checkpoint::load(&base).unwrap();
    other.weights.get_mut("blocks.1.mlp.out.weight").unwrap()[7] += 1e-3;
    let stored = checkpoint::StoredType::F32;
    checkpoint::save(&base, &other.config, &other.weights, None, &generation, stored).unwrap();
    text("was trained on other weights");
    // Another model altogether.
    copy("gpt2");
    std::fs::remove_file(to.join("config.json")).unwrap();
    text("do not fit the model");
    std::fs::remove_dir_all(&base).unwrap();
    text("not a model's folder here");
    let names = |list: &[&str]| list.iter().map(|&n| n.into()).collect::<Vec<String>>();
    let gpt2 = checkpoint::load(&golden("families").join("gpt2")).unwrap().config;
    let error = checkpoint::adapter::targets(&gpt2, &names(&["q", "gate"])).unwrap_err();
    assert!(error.to_string().contains("qkv, out, up, down"), "{error}");
    let config = Config {
        adapter: Some(Adapter {
            rank: 0,
            alpha: f32::NAN,
            root: false,
            dropout: 1.0,
            targets: vec![Target::Qkv, Target::Q],
        }),
        ..gpt2
    };
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("4 faults"), "{error}");
}

/// Steps against the gradient, which move the factors and nothing else, and only the factors have gradients.
#[test]
fn only_the_factors_have_gradients_and_they_are_right() {
    let made = &MADE[0];
    let (config, mut weights) = beside(made, &golden("adapters").join(made.0));
    let mut random = Random::new(3, 0);
    for spec in weights.specs().to_vec() {
        if spec.name.contains(".lora.") {
            weights.data_mut()[spec.range()].fill_with(|| 0.2 * random.normal());
        }
    }
    let pool = Pool::new(2);
    let options = TrainOptions::new(3, 8);
    let mut graph = TrainGraph::new(&config, options, 2).unwrap();
    let (text, targets) = (ids(1, 24, config.vocab), ids(2, 24, config.vocab));
    let batch = Batch::of(3, &text, &targets);
    let mut grads = vec![f32::NAN; weights.data().len()];
    let run = RunInfo { training: true, seed: 1, step: 1, grad_scale: 1.0 };
    graph.step(&pool, &weights, &mut grads, true, &batch, run).unwrap();
    let frozen = BTreeSet::new();
    let whole =
        TrainGraph::with_frozen(&Config { adapter: None, ..config.clone() }, options, frozen, 2)
            .unwrap();
    assert!(graph.activation_bytes() < whole.activation_bytes());
    for spec in weights.specs().to_vec() {
        let g = &grads[spec.range()];
        assert_eq!(spec.trainable, spec.name.contains(".lora."), "{}", spec.name);
        if !spec.trainable {
            continue;
        }
        let norm = g.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 0.0 && norm.is_finite(), "{}", spec.name);
        let mut probe = |h: f64| {
            let mut moved = weights.clone();
            for (w, g) in moved.data_mut()[spec.range()].iter_mut().zip(g) {
                *w += (h * f64::from(*g) / norm) as f32;
            }
            f64::from(graph.evaluate(&pool, &moved, &batch).unwrap().0)
        };
        let h = 5e-3;
        let slope = (probe(h) - probe(-h)) / (2.0 * h);
        assert!((slope - norm).abs() <= 2e-2 * norm.max(5e-2), "{}: {slope} {norm}", spec.name);
    }
}

/// PEFT opens what we write. Run by hand: it needs Python with torch, transformers and peft.
#[test]
#[ignore = "needs PYTHON with torch, transformers and peft"]
fn peft_opens_what_we_write() {
    let python = std::env::var("PYTHON").expect("PYTHON");
    let folder = tempfile::tempdir().unwrap();
    for made in &MADE {
        let (from, to) = rewritten(made, folder.path());
        let script = golden("check_peft.py");
        let status = Command::new(&python).arg(script).arg(&to).arg(&from).status().unwrap();
        assert!(status.success(), "{}", made.0);
    }
}
