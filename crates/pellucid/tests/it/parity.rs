//! Known checkpoints: logits of `transformers`, PyTorch's ten training steps, a real small Llama.

use crate::support::{distance, golden, logits, shared};
use pellucid::autograd::RunInfo;
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{self, import_llama2c};
use pellucid::model::decoder::Decoder;
use pellucid::model::train_graph::{Batch, TrainGraph, TrainOptions};
use pellucid::train::clip;
use pellucid::train::optimizer::AdamW;
use pellucid::train::run::OptimizerKeys;
use serde_json::Value;

fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(golden(path)).expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn flat_ids(value: &Value) -> Vec<i32> {
    match value {
        Value::Array(list) => list.iter().flat_map(flat_ids).collect(),
        number => vec![number.as_i64().expect("an id") as i32],
    }
}

fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(list) => list.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().expect("a number") as f32],
    }
}

/// Golden logits by `tests/golden/make_transformers.py`.
#[test]
fn logits_of_transformers_checkpoints() {
    for name in ["gpt2", "llama", "gpt2-untied-bf16", "llama-tied-shards"] {
        let mut loaded = checkpoint::load(&golden(&format!("hf/{name}"))).unwrap();
        let expected = json(&format!("hf/{name}/logits.json"));
        let ids = flat_ids(&expected["ids"]);
        let b = expected["ids"].as_array().unwrap().len();
        let got = logits(&loaded.config, &loaded.weights, b, &ids);
        let far = distance(&got, &flat(&expected["logits"]));
        assert!(far <= 5e-5, "{name}: {far}");
        println!("{name}: largest difference {far:.1e}");
        // A single wrong weight shows.
        loaded.weights.get_mut("blocks.0.mlp.in.weight").unwrap()[0] += 0.1;
        let got = logits(&loaded.config, &loaded.weights, b, &ids);
        assert!(distance(&got, &flat(&expected["logits"])) > 5e-4, "{name}");
    }
}

/// Golden curves by `tests/golden/make_curve.py`: ten AdamW steps from the same weights.
#[test]
fn ten_training_steps_of_pytorch() {
    for name in ["gpt2", "llama"] {
        let curve = json(&format!("curve/{name}/curve.json"));
        let loaded = checkpoint::load(&golden(&format!("curve/{name}"))).unwrap();
        let (config, mut weights) = (loaded.config, loaded.weights);
        let recipe = &curve["recipe"];
        let number = |key: &str| recipe[key].as_f64().unwrap();
        let keys = OptimizerKeys {
            beta1: number("beta1"),
            beta2: number("beta2"),
            eps: number("epsilon"),
            weight_decay: number("weight_decay"),
            ..OptimizerKeys::default()
        };
        let mut optimizer = AdamW::new(weights.specs(), &keys).unwrap();
        let pool = Pool::new(2);
        let batch = curve["ids"][0].as_array().unwrap().len();
        let time = curve["ids"][0][0].as_array().unwrap().len();
        let options = TrainOptions::new(batch, time);
        let mut graph = TrainGraph::new(&config, options, 2).unwrap();
        let mut grads = vec![0.0; weights.data().len()];
        for step in 0..10 {
            let ids = flat_ids(&curve["ids"][step]);
            let targets = flat_ids(&curve["targets"][step]);
            let run = RunInfo { training: true, seed: 0, step: step as u64, grad_scale: 1.0 };
            let loss = graph
                .step(&pool, &weights, &mut grads, true, &Batch::of(batch, &ids, &targets), run)
                .unwrap();
            let norm = clip::norm(&pool, &grads, &optimizer.ranges(weights.specs()));
            let wanted = curve["losses"][step].as_f64().unwrap();
            assert!((f64::from(loss) - wanted).abs() <= 1e-4, "{name} {step}: {loss} {wanted}");
            let wanted = curve["grad_norms"][step].as_f64().unwrap();
            assert!((norm - wanted).abs() <= 1e-4 * wanted, "{name} {step}: norm {norm} {wanted}");
            let scale = clip::scale(norm, number("clip"));
            let rule = (number("learning_rate"), scale);
            optimizer.update(&pool, &mut weights, &grads, step as u64, rule).unwrap();
        }
    }
}

/// A real small Llama with grouped keys: its greedy story, token by token, and its first logits.
#[test]
fn stories_260k_tells_its_story() {
    let Some(path) = shared("stories260K/stories260K.repaired.bin") else { return };
    let (config, weights) = import_llama2c(&path).unwrap();
    let text = std::fs::read_to_string(path.with_file_name("golden_greedy_ids.txt")).unwrap();
    let golden: Vec<i32> = text.split_whitespace().map(|x| x.parse().unwrap()).collect();
    let bytes = std::fs::read(path.with_file_name("ref_logits_16x512.f32")).unwrap();
    let reference: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let pool = Pool::new(2);
    let mut decoder = Decoder::new(&config, 1, config.context, 2).unwrap();
    let mut id = 1;
    for (position, &expected) in golden.iter().enumerate() {
        let logits = decoder.extend(&pool, &weights, &[id], 1, &[1]).unwrap();
        if let Some(wanted) = reference.get(position * 512..(position + 1) * 512) {
            let far = distance(logits, wanted);
            assert!(far <= 5e-5, "position {position}: {far}");
        }
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        id = best.0 as i32;
        assert_eq!(id, expected, "position {position}");
    }
    assert!(golden.len() >= 250);
}
