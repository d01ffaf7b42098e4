//! A folder written is the folder read, whatever happens in between.

use super::fault;
use super::*;
use crate::error::Kind;
use crate::model::config::{ActivationKind, Config, NormKind, NormPlacement, Positions};
use crate::model::weights::Weights;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

mod crash;
mod damage;
mod layouts;

fn gpt2() -> Config {
    Config {
        vocab: 37,
        context: 11,
        layers: 2,
        width: 24,
        heads: 3,
        kv_heads: 3,
        head_width: 8,
        hidden: 29,
        ..Config::gpt2()
    }
}

fn llama() -> Config {
    Config {
        vocab: 37,
        context: 11,
        layers: 2,
        width: 24,
        heads: 4,
        kv_heads: 2,
        head_width: 10,
        hidden: 29,
        rotary_base: 500_000.0,
        norm_epsilon: 1e-6,
        ..Config::llama()
    }
}

fn configs() -> Vec<(Family, Config)> {
    vec![
        (Family::Gpt2, gpt2()),
        (Family::Gpt2, Config { tied_head: false, activation: ActivationKind::Gelu, ..gpt2() }),
        (Family::Gpt2, Config { bias: false, norm_bias: false, dropout: 0.1, ..gpt2() }),
        (Family::Gpt2, Config { norm_bias: false, rotary_base: 7.5, ..gpt2() }),
        (Family::Llama, llama()),
        (Family::Llama, Config { tied_head: true, kv_heads: 1, dropout: 0.3, ..llama() }),
        (Family::Mistral, Config { window: Some(4), ..llama() }),
        (Family::Qwen2, Config { qkv_bias: Some(true), ..llama() }),
        (Family::Qwen3, Config { qk_norm: true, ..llama() }),
        (Family::Native, Config { bias: true, ..llama() }),
        (Family::Native, Config { width: 23, ..llama() }),
        (Family::Native, Config { norm_placement: NormPlacement::Post, ..gpt2() }),
        (Family::Native, Config { hidden: 0, ..gpt2() }),
        (Family::Native, Config { norm: NormKind::None, norm_bias: false, ..gpt2() }),
        (
            Family::Native,
            Config {
                positions: Positions::Alibi,
                norm: NormKind::RmsNorm,
                norm_bias: false,
                ..gpt2()
            },
        ),
        (
            Family::Native,
            Config { scaled_embedding: true, positions: Positions::Sinusoidal, ..gpt2() },
        ),
    ]
}

/// All values differ, so that nothing can be swapped unseen.
fn weights(config: &Config, seed: u64) -> Weights {
    let mut weights = Weights::init(config, seed);
    for i in 0..weights.specs().len() {
        let range = weights.specs()[i].range();
        let start = range.start;
        for (j, x) in weights.data_mut()[range].iter_mut().enumerate() {
            *x += ((start + j) as f32).mul_add(1e-4, 0.5);
        }
    }
    weights
}

fn bits(weights: &Weights) -> Vec<u32> {
    weights.data().iter().map(|x| x.to_bits()).collect()
}

fn write(
    folder: &Path,
    config: &Config,
    seed: u64,
    tokenizer: Option<&str>,
) -> crate::error::Result<()> {
    let generation =
        GenerationConfig { eos: vec![seed as u32], temperature: 0.7, ..Default::default() };
    save(folder, config, &weights(config, seed), tokenizer, &generation, StoredType::F32)
}

/// Whether the folder holds exactly what `write` wrote with `seed`.
fn holds(folder: &Path, config: &Config, seed: u64, tokenizer: Option<&str>) -> bool {
    let loaded = load(folder).unwrap();
    let parts = [
        loaded.config == *config,
        bits(&loaded.weights) == bits(&weights(config, seed)),
        loaded.tokenizer.as_deref() == tokenizer,
        loaded.generation.eos == [seed as u32],
    ];
    assert!(parts.iter().all(|p| *p == parts[0]), "a mix of two checkpoints: {parts:?}");
    parts[0]
}

#[test]
fn every_family_comes_back_bit_for_bit() {
    for (family, config) in configs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write(path, &config, 3, Some("{}")).unwrap();
        let loaded = load(path).unwrap();
        assert_eq!((loaded.family, loaded.stored), (family, StoredType::F32), "{config:?}");
        assert!(holds(path, &config, 3, Some("{}")));
        assert_eq!(load_config(path).unwrap(), (family, config.clone()));
        // Once more through BF16: what was rounded once stays.
        let half = |weights: &Weights, to: &Path| {
            save(to, &config, weights, None, &GenerationConfig::default(), StoredType::Bf16)
                .unwrap();
            load(to).unwrap()
        };
        let once = half(&loaded.weights, path);
        let worst = once.weights.data().iter().zip(loaded.weights.data());
        assert!(worst.clone().all(|(a, b)| (a - b).abs() <= b.abs() / 256.0));
        assert!(worst.filter(|(a, b)| a != b).count() > 100);
        assert_eq!(bits(&half(&once.weights, path).weights), bits(&once.weights));
        assert_eq!((once.stored, once.tokenizer), (StoredType::Bf16, None));
        assert_eq!(fs::read_dir(path).unwrap().count(), 3, "nothing else is left");
    }
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&a, &b] {
        write(folder.path(), &llama(), 1, None).unwrap();
    }
    for name in ["config.json", "model.safetensors", "generation_config.json"] {
        assert_eq!(fs::read(a.path().join(name)).unwrap(), fs::read(b.path().join(name)).unwrap());
    }
}

#[test]
fn more_files_join_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (path, config) = (folder.path(), gpt2());
    let state = |x: f32| BTreeMap::from([("step".to_owned(), x.to_string())]);
    let put = |x: f32| {
        let mut t = Transaction::begin(path)?;
        let (w, g) = (weights(&config, 1), GenerationConfig::default());
        write_into(&mut t, &config, &w, None, &g, StoredType::F32)?;
        t.write("training.safetensors", |w| {
            write_tensors(w, &[("m", &[2, 3], &[x; 6]), ("v", &[], &[x])], &state(x))
        })?;
        t.commit()
    };
    put(1.0).unwrap();
    fault::full_after(Some(40_000));
    assert!(put(2.0).is_err());
    fault::full_after(None);
    let file = load_tensors(&path.join("training.safetensors")).unwrap();
    assert_eq!(file.metadata(), &state(1.0));
    assert_eq!(file.names().collect::<Vec<_>>(), ["m", "v"]);
    assert_eq!((file.shape("m").unwrap(), file.shape("v").unwrap()), (&[2, 3][..], &[][..]));
    assert_eq!(file.read("m").unwrap(), [1.0; 6]);
    let text = file.read_into("m", &mut [0.0; 5]).unwrap_err().to_string();
    assert!(text.contains("m (2, 3) has 6 elements, but 5 are wanted"), "{text}");
    assert!(file.read("x").unwrap_err().to_string().contains("no tensor is named \"x\""));
    load(path).unwrap();
}

#[test]
fn saved_tensors_must_make_sense() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let none = BTreeMap::new();
    for bad in [
        &[("a", &[2usize, 2][..], &[1.0f32; 3][..])][..],
        &[("a", &[1], &[1.0]), ("a", &[1], &[1.0])],
        &[("__metadata__", &[1], &[1.0])],
        &[("a", &[usize::MAX, 2], &[1.0])],
    ] {
        assert_eq!(save_tensors(&path, bad, &none).unwrap_err().kind(), Kind::Shape);
        assert!(!path.exists());
    }
    save_tensors(&path, &[("quote\"é", &[0, 5], &[]), ("b", &[1], &[f32::NAN])], &none).unwrap();
    let file = load_tensors(&path).unwrap();
    assert!(file.read("quote\"é").unwrap().is_empty());
    assert!(file.read("b").unwrap()[0].is_nan());
    save_tensors(&path, &[], &none).unwrap();
    assert_eq!(load_tensors(&path).unwrap().names().count(), 0);
}

#[test]
fn shards_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, &llama(), 1, None).unwrap();
    let whole = load_tensors(&path.join("model.safetensors")).unwrap();
    let names: Vec<String> = whole.names().map(Into::into).collect();
    let mut map = serde_json::Map::new();
    for (i, part) in names.chunks(names.len().div_ceil(3)).enumerate() {
        let shard = format!("model-{i}.safetensors");
        let tensors: Vec<_> =
            part.iter().map(|n| (n, whole.shape(n).unwrap(), whole.read(n).unwrap())).collect();
        let list: Vec<_> = tensors.iter().map(|(n, s, v)| (&n[..], *s, &v[..])).collect();
        save_tensors(&path.join(&shard), &list, &BTreeMap::new()).unwrap();
        part.iter().for_each(|n| drop(map.insert(n.clone(), shard.clone().into())));
    }
    fs::remove_file(path.join("model.safetensors")).unwrap();
    let index = path.join("model.safetensors.index.json");
    let put = |map: &serde_json::Map<_, _>| {
        fs::write(&index, serde_json::json!({"weight_map": map}).to_string()).unwrap();
    };
    put(&map);
    assert!(holds(path, &llama(), 1, None));
    let gone = path.join("model-1.safetensors");
    fs::rename(&gone, path.join("away")).unwrap();
    let text = load(path).unwrap_err().to_string();
    assert!(text.contains("no model-1.safetensors is there"), "{text}");
    map.insert("x".into(), "../../etc/passwd".into());
    put(&map);
    let text = load(path).unwrap_err().to_string();
    assert!(text.contains("\"../../etc/passwd\" is not a plain file name"), "{text}");
    // Our next checkpoint takes their place.
    write(path, &llama(), 2, None).unwrap();
    assert!(!index.exists() && holds(path, &llama(), 2, None));
}

fn foreign(text: &str) -> Result<(Family, Config), String> {
    names::parse_config(text, "config.json").map_err(|e| e.to_string())
}

#[test]
fn foreign_configs_are_mapped_or_refused_with_every_fault() {
    let (_, config) = foreign(
        r#"{"model_type":"gpt2","vocab_size":50257,"n_ctx":1024,"n_embd":768,"n_head":12,"n_layer":12,
            "layer_norm_epsilon":1e-05,"attn_pdrop":0.1,"resid_pdrop":0.0}"#,
    )
    .unwrap();
    assert_eq!(config, Config::gpt2());
    let llama = r#"{"model_type":"llama","vocab_size":32,"max_position_embeddings":16,"hidden_size":24,
        "num_attention_heads":4,"num_hidden_layers":1,"intermediate_size":40,"rms_norm_eps":1e-5,"#;
    let (_, config) =
        foreign(&format!("{llama}\"rope_theta\":5e5,\"rope_scaling\":null}}")).unwrap();
    assert_eq!((config.rotary_base, config.kv_heads, config.head_width), (5e5, 4, 6));
    assert!(!config.tied_head && config.norm_epsilon == 1e-5);
    let five = r#""head_dim":8,"rope_parameters":{"rope_type":"default","rope_theta":123.0}}"#;
    let (_, config) = foreign(&format!("{llama}{five}")).unwrap();
    assert_eq!((config.rotary_base, config.head_width), (123.0, 8));
    let bad = r#""rope_scaling":{"type":"linear","factor":2.0},"attention_bias":true,"hidden_act":"mish","rms_norm_eps":"x","vocab_size":null}"#;
    let text = foreign(&format!("{llama}{bad}")).unwrap_err();
    for line in [
        "4 faults",
        "attention_bias = true",
        "\"mish\"",
        "rms_norm_eps = \"x\"",
        "vocab_size is missing",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(foreign(r#"{"model_type":"mamba"}"#).unwrap_err().contains("\"mamba\""));
    assert!(foreign("[]").unwrap_err().contains("not an object"));
    assert!(foreign("{").unwrap_err().contains("not JSON"));
    assert!(foreign(r#"{"model_type":"pellucid"}"#).unwrap_err().contains("\"pellucid\""));
}

#[test]
fn a_stale_entry_of_ours_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &llama(), 1, None).unwrap();
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("\"rms_norm_eps\": 1e-6") || text.contains("\"rms_norm_eps\": 0.000001"),
        "{text}"
    );
    fs::write(&path, text.replace("\"rms_norm_eps\": 1e-6", "\"rms_norm_eps\": 1e-3")).unwrap();
    let text = load(folder.path()).unwrap_err().to_string();
    assert!(text.contains("disagree") && text.contains("norm_epsilon"), "{text}");
}

#[test]
fn a_tokenizer_of_another_model_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    for (tokenizer, fits) in [
        (r#"{"model":{"vocab":{"a":0,"b":36}}}"#, true),
        (r#"{"model":{"vocab":{"a":0,"b":37}}}"#, false),
        (r#"{"model":{"vocab":{"a":0}},"added_tokens":[{"id":40}]}"#, false),
        ("not json", true),
    ] {
        write(folder.path(), &gpt2(), 1, Some(tokenizer)).unwrap();
        let result = load(folder.path());
        assert_eq!(result.is_ok(), fits, "{tokenizer}");
        if let Err(e) = result {
            assert!(e.to_string().contains("belongs to another model"));
        }
    }
}

#[test]
fn generation_defaults_travel() {
    let full = GenerationConfig {
        temperature: 0.7,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repetition_penalty: 1.1,
        max_new_tokens: Some(256),
        bos: Some(1),
        eos: vec![2, 3],
        pad: Some(0),
        decoder_start: Some(1),
        forced_first: Some(4),
        forced_last: Some(2),
        banned: vec![0, 7],
        beams: Some(4),
        length_penalty: 0.6,
    };
    let greedy = GenerationConfig { temperature: 0.0, ..Default::default() };
    for config in [full, greedy, GenerationConfig::default()] {
        assert_eq!(GenerationConfig::from_json(&config.to_json(), "g").unwrap(), config);
    }
    let text =
        GenerationConfig::from_json(r#"{"temperature":-1,"top_p":"x","eos_token_id":[1.5]}"#, "g");
    let text = text.unwrap_err().to_string();
    for line in ["temperature must", "top_p = \"x\"", "eos_token_id = [1.5]"] {
        assert!(text.contains(line), "{text}");
    }
}

/// Golden folders of `transformers` come in, and go out again in its own format: `check_transformers.py` then finds the
/// same logits in what this leaves where `PELLUCID_TEST_KEEP` says.
#[test]
fn folders_of_transformers_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let temporary = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("PELLUCID_TEST_KEEP");
    let out = keep.map_or_else(|| temporary.path().to_path_buf(), Into::into);
    for (name, family, stored) in [
        ("hf/gpt2", Family::Gpt2, StoredType::F32),
        ("hf/gpt2-untied-bf16", Family::Gpt2, StoredType::Bf16),
        ("hf/llama", Family::Llama, StoredType::F32),
        ("hf/llama-tied-shards", Family::Llama, StoredType::F32),
        ("curve/gpt2", Family::Gpt2, StoredType::F32),
        ("curve/llama", Family::Llama, StoredType::F32),
    ] {
        let first = load(&golden.join(name)).unwrap();
        assert_eq!((first.family, first.stored), (family, stored), "{name}");
        assert_eq!(first.generation.eos, [0]);
        let folder = out.join(name);
        save(&folder, &first.config, &first.weights, None, &first.generation, stored).unwrap();
        let second = load(&folder).unwrap();
        assert_eq!(bits(&second.weights), bits(&first.weights));
        assert_eq!((second.config, second.family), (first.config, family));
        // The keys of the family alone, as another library would read them.
        let config = folder.join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json.as_object_mut().unwrap().remove("pellucid");
        assert_eq!(foreign(&json.to_string()).unwrap().1, load_config(&folder).unwrap().1);
    }
    for (i, (_, config)) in configs().into_iter().take(6).enumerate() {
        write(&out.join(format!("own/{i}")), &config, 5, None).unwrap();
    }
}
