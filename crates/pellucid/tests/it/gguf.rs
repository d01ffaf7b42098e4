//! llama.cpp's files: what `transformers` computes with them, we compute; what we write, others open.

use crate::hf::{farthest, numbers, rows, slices};
use crate::support::{golden, tiny};
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{
    self, GenerationConfig, GgufType, StoredType, export_gguf, import_gguf,
};
use pellucid::model::config::Config;
use pellucid::model::reader::{Reader, Wanted};
use pellucid::model::train_graph::Batch;
use pellucid::model::weights::Weights;
use pellucid::text::{Specials, Tokenizer};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// How far the scores of a model are from those expected.
fn far(config: &Config, weights: &Weights, expected: &Value) -> f32 {
    let batch = Batch::ragged(&slices(&rows(&expected["rows"])), &[]).unwrap();
    let mut reader = Reader::new(config, Wanted::Scores, Precision::F32, 2).unwrap();
    let got = reader.run(&Pool::new(2), weights, &batch).unwrap();
    farthest(&batch, &got, &numbers(&expected["scores"]))
}

/// In f32, in half precision, and with matrices of seven types.
#[test]
fn scores_are_those_of_transformers() {
    let families = ["llama3-rope", "llama-linear-rope", "qwen2", "qwen3", "gpt2"];
    let others = json(&golden("gguf/scores.json"));
    for name in families.into_iter().chain(["f16", "mixed"]) {
        let model = import_gguf(&golden("gguf").join(format!("{name}.gguf"))).unwrap();
        let expected = match families.contains(&name) {
            true => json(&golden("families").join(name).join("expected.json")),
            false => others[name].clone(),
        };
        let far = far(&model.config, &model.weights, &expected);
        assert!(far < 5e-5, "{name}: scores differ by {far}");
    }
}

/// A folder becomes a file and a folder again.
#[test]
fn folders_and_files_hold_the_same() {
    let out = tempfile::tempdir().unwrap();
    let (file, folder) = (out.path().join("a.gguf"), out.path().join("folder"));
    for name in ["llama3-rope", "mistral", "qwen2", "qwen3", "gpt2"] {
        let first = checkpoint::load(&golden("families").join(name)).unwrap();
        let tokenizer = Tokenizer::characters(["abc def"], &Specials::default()).unwrap();
        let json = Some(tokenizer.to_json());
        let (config, weights, generation) = (&first.config, &first.weights, &first.generation);
        export_gguf(&file, config, weights, json, None, generation, GgufType::F32).unwrap();
        let model = import_gguf(&file).unwrap();
        let (config, weights) = (&model.config, &model.weights);
        let stored = StoredType::F32;
        let json = model.tokenizer_json.as_deref();
        checkpoint::save(&folder, config, weights, json, generation, stored).unwrap();
        let second = checkpoint::load(&folder).unwrap();
        assert_eq!((second.config, second.family), (first.config, first.family), "{name}");
        assert_eq!(second.weights.data(), first.weights.data(), "{name}");
        assert_eq!(second.tokenizer.as_deref(), Some(tokenizer.to_json()), "{name}");
    }
}

/// Models, tokenizer and all types for `check_gguf.py`: beside each file what we read from it, as a folder.
fn write_all(out: &Path) {
    let text =
        "the cat sat on the mat; the dog sat on the log. A cat and a dog, a mat and a log!\n";
    let texts = (0..20).map(|_| Ok(text));
    let tokenizer = Tokenizer::train_bpe(texts, 300, &Specials::end_of_text()).unwrap();
    let qwen = Config { qkv_bias: Some(true), ..tiny("llama") };
    let llama = Config { rotary_base: 5e5, ..tiny("llama") };
    for (name, config) in [
        ("gpt2", tiny("gpt2")),
        ("llama", llama.clone()),
        ("llama-tied", Config { tied_head: true, ..llama }),
        ("qwen2", qwen.clone()),
        ("qwen3", Config { qkv_bias: None, qk_norm: true, ..qwen }),
    ] {
        // Blocks need multiples of 32; ids without a token are filled up.
        let config = Config { vocab: 310, hidden: 64, ..config };
        let mut weights = Weights::init(&config, 9);
        weights.data_mut().iter_mut().for_each(|w| *w *= 5.0);
        let generation =
            GenerationConfig { eos: vec![0], top_k: 20, ..GenerationConfig::default() };
        let json = Some(tokenizer.to_json());
        for stored in GgufType::ALL {
            let folder = out.join(format!("{name}-{}", stored.name()));
            let file = folder.with_extension("gguf");
            let chat = Some("{{ messages[0].content }}");
            export_gguf(&file, &config, &weights, json, chat, &generation, stored).unwrap();
            let read = import_gguf(&file).unwrap().weights;
            checkpoint::save(&folder, &config, &read, json, &generation, StoredType::F32).unwrap();
        }
    }
}

/// The package gguf and `transformers` open what we write. Run by hand: it needs Python with both.
#[test]
#[ignore = "needs PYTHON with torch, transformers and gguf"]
fn gguf_opens_what_we_write() {
    let python = std::env::var("PYTHON").expect("PYTHON");
    let folder = tempfile::tempdir().unwrap();
    write_all(folder.path());
    let status =
        Command::new(&python).arg(golden("check_gguf.py")).arg(folder.path()).status().unwrap();
    assert!(status.success());
}
