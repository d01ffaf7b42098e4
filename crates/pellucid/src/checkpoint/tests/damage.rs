//! Files that are not what they should be.

use super::super::*;
use super::{configs, gpt2, holds, llama, write};
use crate::model::config::Config;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Writes a weights file for `config` after `change` was applied to its tensors `(name, shape, values)`.
fn with_tensors(
    folder: &Path,
    change: impl FnOnce(&mut Vec<(String, Vec<usize>, Vec<f32>)>),
) -> String {
    let path = folder.join("model.safetensors");
    let mut tensors: Vec<_> = {
        let file = load_tensors(&path).unwrap();
        let read = |n: &str| (n.to_owned(), file.shape(n).unwrap().to_vec(), file.read(n).unwrap());
        file.names().map(read).collect()
    };
    change(&mut tensors);
    let list: Vec<_> = tensors.iter().map(|(n, s, v)| (&n[..], &s[..], &v[..])).collect();
    save_tensors(&path, &list, &BTreeMap::new()).unwrap();
    match load(folder) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn errors_list_every_tensor_that_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, &gpt2(), 1, None).unwrap();
    let text = with_tensors(path, |tensors| {
        tensors.retain(|t| t.0 != "transformer.ln_f.bias" && t.0 != "transformer.h.1.ln_1.weight");
        tensors.push(("stranger".into(), vec![1], vec![0.0]));
        let wte = tensors.iter_mut().find(|t| t.0.ends_with("wte.weight")).unwrap();
        wte.1 = vec![38, 24];
        wte.2.extend([0.0; 24]);
    });
    for line in [
        "4 tensors do not fit",
        "missing: transformer.ln_f.bias (24)",
        "missing: transformer.h.1.ln_1.weight (24)",
        "unexpected: stranger",
        "wrong shape: transformer.wte.weight is (38, 24), but config.json says (37, 24)",
        "if tokens were added, set vocab_size",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn exporters_disagree_and_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, &gpt2(), 1, None).unwrap();
    // OpenAI's own export: no prefix, the masks as tensors; a tied head written out.
    let text = with_tensors(path, |tensors| {
        for t in tensors.iter_mut() {
            t.0 = t.0.strip_prefix("transformer.").unwrap().to_owned();
        }
        tensors.push(("h.0.attn.bias".into(), vec![1, 1, 2, 2], vec![1.0; 4]));
        tensors.push(("h.1.attn.masked_bias".into(), vec![], vec![-1e4]));
        let wte = tensors.iter().find(|t| t.0 == "wte.weight").unwrap().clone();
        tensors.push(("lm_head.weight".into(), wte.1, wte.2));
    });
    assert_eq!(text, "");
    assert!(holds(path, &gpt2(), 1, None));
    let text = with_tensors(path, |tensors| {
        tensors.iter_mut().find(|t| t.0 == "lm_head.weight").unwrap().2[5] += 1.0;
    });
    assert!(text.contains("differs from the token embedding it is tied to"), "{text}");
}

#[test]
fn a_bias_that_should_not_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, &Config { bias: false, norm_bias: false, ..gpt2() }, 1, None).unwrap();
    let text = with_tensors(path, |tensors| {
        tensors.iter_mut().find(|t| t.0.ends_with("h.1.mlp.c_fc.bias")).unwrap().2[7] = -0.5;
    });
    assert!(text.contains("transformer.h.1.mlp.c_fc.bias[7] = -0.5"), "{text}");
}

#[test]
fn a_config_that_asks_for_the_moon_gets_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, &gpt2(), 1, None).unwrap();
    for (key, value) in [("vocab", 1u64 << 30), ("layers", 1 << 30), ("hidden", 1 << 30)] {
        let config = path.join("config.json");
        let old = fs::read_to_string(&config).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&old).unwrap();
        json["pellucid"][key] = value.into();
        json["model_type"] = "pellucid".into();
        fs::write(&config, json.to_string()).unwrap();
        let text = load(path).unwrap_err().to_string();
        assert!(text.contains("config.json speaks of"), "{text}");
        fs::write(&config, old).unwrap();
    }
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &llama(), 1, None).unwrap();
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let step = if cfg!(debug_assertions) { 97 } else { 31 };
    for len in (0..200).chain((200..whole.len()).step_by(step)) {
        fs::write(&path, &whole[..len]).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
}

fn damaged(
    name: &'static str,
) -> impl Strategy<Value = (&'static str, Vec<(f64, u8)>, Option<f64>)> {
    let flips = proptest::collection::vec((0.0..1.0f64, any::<u8>()), 1..6);
    (Just(name), flips, proptest::option::weighted(0.2, 0.0..1.0f64))
}

/// Sound folders, written once: flushing to disk takes longer than all else here.
fn sound(which: usize) -> PathBuf {
    static FOLDERS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folders = FOLDERS.get_or_init(|| {
        let folders = tempfile::tempdir().unwrap();
        for (i, (_, config)) in configs().into_iter().enumerate() {
            let tokenizer = r#"{"model":{"vocab":{"a":1}},"added_tokens":[]}"#;
            write(&folders.path().join(i.to_string()), &config, 1, Some(tokenizer)).unwrap();
        }
        folders
    });
    folders.path().join(which.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Whatever happens to a file, loading returns: no panic, no endless memory.
    #[test]
    fn damage_never_panics(
        (name, flips, cut) in prop_oneof![
            damaged("model.safetensors"), damaged("config.json"), damaged("generation_config.json"),
            damaged("tokenizer.json"), damaged("header"), damaged(".bin"),
        ],
        which in 0..12usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(sound(which)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let path = folder.path().join(if name == "header" { "model.safetensors" } else { name });
        let mut bytes = if name == ".bin" { import_llama2c::tests::file(&llama()) } else { fs::read(&path).unwrap() };
        // Half of the damage goes where it hurts.
        let reach = match name { "header" => 2000.min(bytes.len()), ".bin" => 40, _ => bytes.len() };
        for (at, value) in flips {
            bytes[(at * reach as f64) as usize] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        fs::write(&path, &bytes).unwrap();
        if name == ".bin" {
            let _ = import_llama2c(&path);
        } else {
            let _ = load(folder.path()).map_err(|e| e.to_string());
        }
    }
}
