//! Against the package `gguf`, and against files that are not what they should be.

mod block_values;
mod damage;
mod token_tests;

use super::architecture::Architecture;
use super::container::Container;
use super::*;
use crate::error::{Kind, Result};
use crate::model::config::{ActivationKind, RotaryScaling};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf").join(name)
}

fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(golden(name)).unwrap()).unwrap()
}

fn small(config: Config) -> Config {
    Config {
        vocab: 37,
        context: 11,
        layers: 2,
        width: 64,
        heads: 4,
        kv_heads: 4,
        head_width: 16,
        hidden: 32,
        ..config
    }
}

fn llama() -> Config {
    Config { kv_heads: 2, rotary_base: 500_000.0, norm_epsilon: 1e-6, ..small(Config::llama()) }
}

fn gpt2() -> Config {
    small(Config::gpt2())
}

/// All values differ, so that nothing can be swapped unseen.
fn weights(config: &Config) -> Weights {
    let mut weights = Weights::zeros(config);
    for spec in weights.specs().to_vec() {
        for (i, x) in weights.data_mut()[spec.range()].iter_mut().enumerate() {
            *x = ((spec.offset + i) as f32).mul_add(1e-4, 0.25);
        }
    }
    weights
}

fn bits(weights: &Weights) -> Vec<u32> {
    weights.data().iter().map(|x| x.to_bits()).collect()
}

fn export(path: &Path, config: &Config, weights: &Weights, stored: GgufType) -> Result<()> {
    export_gguf(path, config, weights, None, None, &GenerationConfig::default(), stored)
}

/// Every config that the format expresses, as it comes back.
fn configs() -> Vec<Config> {
    let llama3 = RotaryScaling::Llama3 {
        factor: 8.0,
        low_frequency: 1.0,
        high_frequency: 4.0,
        original: 8192,
    };
    vec![
        gpt2(),
        Config { tied_head: false, norm_epsilon: 1e-12, ..gpt2() },
        llama(),
        Config { tied_head: true, kv_heads: 1, head_width: 10, ..llama() },
        Config { window: Some(4), ..llama() },
        Config { rotary_scaling: llama3, ..llama() },
        Config { rotary_scaling: RotaryScaling::Linear { factor: 2.5 }, ..llama() },
        Config { qkv_bias: Some(true), ..llama() },
        Config { qk_norm: true, head_width: 6, ..llama() },
    ]
}

#[test]
fn weights_come_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let generation = GenerationConfig {
        temperature: 0.7,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repetition_penalty: 1.1,
        bos: Some(1),
        eos: vec![2, 5, 4],
        pad: Some(0),
        ..Default::default()
    };
    for config in configs() {
        let weights = weights(&config);
        let stored = GgufType::F32;
        export_gguf(&path, &config, &weights, None, Some("{{ x }}"), &generation, stored).unwrap();
        let model = import_gguf(&path).unwrap();
        assert_eq!(model.config, config);
        assert_eq!(bits(&model.weights), bits(&weights), "{config:?}");
        assert_eq!(model.generation, generation);
        assert_eq!(model.chat_template.as_deref(), Some("{{ x }}"));
        assert_eq!(model.tokenizer_json, None);
        let greedy = GenerationConfig { temperature: 0.0, ..Default::default() };
        export_gguf(&path, &config, &weights, None, None, &greedy, stored).unwrap();
        let model = import_gguf(&path).unwrap();
        assert_eq!((model.generation, model.chat_template), (greedy, None));
        let first = std::fs::read(&path).unwrap();
        export_gguf(
            &path,
            &config,
            &weights,
            None,
            None,
            &GenerationConfig { temperature: 0.0, ..Default::default() },
            stored,
        )
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first, "the same model gives the same bytes");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

/// A bias that is not there is written as zeros, for readers that want one, and read as one.
#[test]
fn missing_biases_are_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let config = Config { bias: false, norm_bias: false, ..gpt2() };
    let weights = weights(&config);
    export(&path, &config, &weights, GgufType::F32).unwrap();
    let model = import_gguf(&path).unwrap();
    assert_eq!(model.config, gpt2());
    for spec in model.weights.specs() {
        let found = model.weights.get(&spec.name).unwrap();
        match weights.get(&spec.name) {
            Ok(own) => assert_eq!(found, own, "{}", spec.name),
            Err(_) => assert!(found.iter().all(|&x| x == 0.0), "{}", spec.name),
        }
    }
}

/// What is rounded once stays, matrices are rounded as the type says and vectors not at all.
#[test]
fn rounded_weights_are_near_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    for config in configs() {
        let exact = Weights::init(&config, 5);
        for (stored, most) in [
            (GgufType::F16, 1.0 / 2048.0),
            (GgufType::Bf16, 1.0 / 256.0),
            (GgufType::Q8_0, 1.0 / 200.0),
            (GgufType::Q4_0, 1.0 / 7.0),
        ] {
            export(&path, &config, &exact, stored).unwrap();
            let once = import_gguf(&path).unwrap().weights;
            for spec in exact.specs() {
                let (a, b) = (exact.get(&spec.name).unwrap(), once.get(&spec.name).unwrap());
                let size = a.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let far = a.iter().zip(b).fold(0.0f32, |far, (a, b)| far.max((a - b).abs()));
                let same = spec.shape.len() == 1 || spec.name == "embedding.position";
                assert!(far <= if same { 0.0 } else { size * most }, "{}: {far}", spec.name);
                assert!(same || far > 0.0, "{} is not rounded", spec.name);
            }
            export(&path, &config, &once, stored).unwrap();
            let twice = import_gguf(&path).unwrap().weights;
            // The greatest of a block keeps its code, so only a scale that is rounded again could move.
            let moved = once.data().iter().zip(twice.data()).filter(|(a, b)| a != b).count();
            assert_eq!(moved, 0, "{stored:?}");
        }
    }
}

/// Llamas with biases, which we do not write: a qwen2 under the other name. Rows 2i and 2i + 1 become i and i + D/2.
#[test]
fn biases_are_reordered_as_their_rows_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let config = Config { qkv_bias: Some(true), ..llama() };
    let weights = weights(&config);
    export(&path, &config, &weights, GgufType::F32).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() - 5 {
        if bytes[at..].starts_with(b"qwen2") {
            bytes[at..at + 5].copy_from_slice(b"llama");
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let model = import_gguf(&path).unwrap();
    assert_eq!(model.config, config);
    for (name, columns) in [("blocks.1.attn.qkv.weight", 64), ("blocks.1.attn.qkv.bias", 1)] {
        let (found, from) = (model.weights.get(name).unwrap(), weights.get(name).unwrap());
        // Four heads of queries and two of keys are reordered, two of values not.
        for row in 0..8 * 16 {
            let (head, own) = (row / 16 * 16, row % 16);
            let there = if row < 6 * 16 { own % 8 * 2 + own / 8 } else { own };
            let (a, b) = (found[row * columns], from[(head + there) * columns]);
            assert!(a == b, "{name}[{row}] = {a}, not {b}");
        }
    }
}

#[test]
fn what_the_format_cannot_say_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let refused = |config: Config, wanted: &str| {
        let error = export(&path, &config, &Weights::zeros(&config), GgufType::F32).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(!path.exists());
    };
    refused(small(Config::bert()), "a bert model has no architecture");
    refused(Config { bias: true, ..llama() }, "a pellucid model has no architecture");
    refused(Config { activation: ActivationKind::Gelu, ..gpt2() }, "activation = Gelu");
    refused(Config { activation: ActivationKind::Relu, ..llama() }, "always Silu");
    let scaling = |high_frequency| RotaryScaling::Llama3 {
        factor: 8.0,
        low_frequency: 1.0,
        high_frequency,
        original: 64,
    };
    refused(Config { rotary_scaling: scaling(3.0), ..llama() }, "high_frequency = 3");
    let biased = Config { qkv_bias: Some(true), ..llama() };
    refused(Config { rotary_scaling: scaling(4.0), ..biased }, "qwen2 does not have");
    let other = weights(&gpt2());
    let error = export(&path, &llama(), &other, GgufType::F32).unwrap_err();
    assert_eq!(error.kind(), Kind::Shape);
    for (stored, x, fits) in [
        (GgufType::F16, 65_519.0, true),
        (GgufType::F16, 65_520.0, false),
        (GgufType::F16, f32::INFINITY, true),
        (GgufType::Q8_0, 8.3e6, true),
        (GgufType::Q8_0, 8.4e6, false),
        (GgufType::Q4_0, 5.3e5, false),
        (GgufType::Q4_0, f32::NAN, false),
        (GgufType::Bf16, f32::MAX, false),
        (GgufType::F32, f32::NAN, true),
    ] {
        let mut weights = weights(&llama());
        weights.get_mut("blocks.1.mlp.out.weight").unwrap()[7] = x;
        match export(&path, &llama(), &weights, stored) {
            Ok(()) => assert!(fits, "{stored:?} {x}"),
            Err(e) => assert!(!fits && e.to_string().contains("blk.1.ffn_down.weight[7]"), "{e}"),
        }
    }
}

#[test]
fn golden_files_are_those_of_their_families() {
    for (name, architecture) in [
        ("llama3-rope", Architecture::Llama),
        ("llama-linear-rope", Architecture::Llama),
        ("qwen2", Architecture::Qwen2),
        ("qwen3", Architecture::Qwen3),
        ("gpt2", Architecture::Gpt2),
    ] {
        let path = golden(&format!("{name}.gguf"));
        let model = import_gguf(&path).unwrap();
        let folder = golden("").parent().unwrap().join("families").join(name);
        let wanted = crate::checkpoint::load(&folder).unwrap();
        assert_eq!(model.config, wanted.config, "{name}");
        assert_eq!(bits(&model.weights), bits(&wanted.weights), "{name}");
        assert_eq!((model.generation.bos, &model.generation.eos[..]), (Some(1), &[2, 3][..]));
        assert_eq!(Architecture::of_file(&Container::open(&path).unwrap()).unwrap(), architecture);
    }
}
