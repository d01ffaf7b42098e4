//! `pellucid import` and `pellucid export`: what comes in and goes out is the same model.

mod common;

use common::{ok, refused};
use pellucid::checkpoint::{self, Loaded, StoredType};
use pellucid::text::{Specials, Tokenizer};
use std::fs;
use std::path::{Path, PathBuf};

fn golden(path: &str) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pellucid/tests/golden");
    golden.join(path).canonicalize().unwrap().display().to_string()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.starts_with("model"));
    names.sort();
    names
}

fn same(a: &Loaded, b: &Loaded) -> bool {
    let bits = |l: &Loaded| -> Vec<u32> {
        let specs = l.weights.specs().iter();
        specs.flat_map(|s| l.weights.get(&s.name).unwrap().iter().map(|x| x.to_bits())).collect()
    };
    a.config == b.config && a.generation == b.generation && bits(a) == bits(b)
}

fn load(folder: impl AsRef<Path>) -> Loaded {
    checkpoint::load(folder.as_ref()).unwrap()
}

#[test]
fn folders_go_out_in_shards_and_halves_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let from = golden("hf/llama");
    let said = ok(&["export", &from, "--out", "out", "--max-shard-size", "20KB"], path);
    assert!(said.contains("parameters in F32: out"), "{said}");
    assert!(names(&path.join("out")).len() > 3, "{:?}", names(&path.join("out")));
    ok(&["import", "out", "--out", "back"], path);
    assert_eq!(names(&path.join("back")), ["model.safetensors"]);
    assert!(same(&load(&from), &load(path.join("back"))));
    ok(&["export", "out", "--out", "half", "--dtype", "f16"], path);
    let half = load(path.join("half"));
    assert_eq!(half.stored, StoredType::F16);
    // As it was, unless something else is asked for.
    ok(&["import", "half", "--out", "again"], path);
    assert!(load(path.join("again")).stored == StoredType::F16);
    assert!(same(&half, &load(path.join("again"))));
    refused(&["export", "out", "--out", "out"], path, &["replace what it is made from"]);
    refused(&["export", "out", "--out", "x", "--dtype", "q8_0"], path, &["types of GGUF"]);
    refused(&["export", "out", "--out", "x", "--max-shard-size", "5TB"], path, &["TB is not"]);
    assert!(!path.join("x").exists());
}

#[test]
fn an_adapter_goes_out_merged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let from = golden("adapters/qwen2");
    ok(&["export", &from, "--out", "merged"], path);
    let (merged, wanted) = (load(path.join("merged")), load(&from));
    assert!(same(&merged, &wanted) && !same(&merged, &load(golden("families/qwen2"))));
}

/// PEFT writes no tokenizer: the base's is the adapter's, and its chat template too.
#[test]
fn an_adapter_speaks_as_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    copy(&golden("families/qwen2"), &path.join("base"));
    copy(&golden("adapters/qwen2"), &path.join("adapter"));
    // As many ids as the model has.
    let all: String = ('0'..='^').collect();
    let letters = Tokenizer::characters([all], &Specials::end_of_text()).unwrap();
    letters.save(&path.join("base/tokenizer.json")).unwrap();
    fs::write(path.join("base/chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    let settings = path.join("adapter/adapter_config.json");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("../../families/qwen2", "../base")).unwrap();
    ok(&["generate", "adapter", "AB", "-n", "2", "-t", "0"], path);
    fs::write(path.join("text.txt"), "ABBA".repeat(200)).unwrap();
    let flags = "train --train.start adapter --data text.txt --out run --steps 1 --train.time 8";
    ok(&flags.split(' ').collect::<Vec<_>>(), path);
    for (command, flags) in [("export", &[][..]), ("quantise", &["--to", "bf16"])] {
        let args = [&[command, "adapter", "--out", command][..], flags].concat();
        ok(&args, path);
        assert_eq!(
            Tokenizer::from_folder(&path.join(command)).unwrap().to_json(),
            letters.to_json()
        );
        let template = fs::read_to_string(path.join(command).join("chat_template.jinja")).unwrap();
        assert_eq!(template, "{{ messages[0].content }}");
    }
    ok(&["quantise", "export", "--to", "int8", "--out", "codes"], path);
    assert!(path.join("codes/chat_template.jinja").is_file());
}

#[test]
fn gguf_goes_out_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for model in ["hf/llama", "families/qwen2", "families/qwen3", "hf/gpt2"] {
        let from = golden(model);
        ok(&["export", &from, "--out", "m.gguf"], path);
        ok(&["import", "m.gguf", "--out", "back"], path);
        let (first, back) = (load(&from), load(path.join("back")));
        for spec in first.weights.specs() {
            let values = |l: &Loaded| l.weights.get(&spec.name).unwrap().to_vec();
            assert_eq!(values(&first), values(&back), "{model}: {}", spec.name);
        }
        fs::remove_dir_all(path.join("back")).unwrap();
    }
    refused(
        &["export", &golden("families/bert"), "--out", "b.gguf"],
        path,
        &["no architecture in GGUF"],
    );
    refused(
        &["export", &golden("hf/llama"), "--out", "m.gguf", "--max-shard-size", "1MB"],
        path,
        &["is one"],
    );
    fs::write(path.join("cut.gguf"), &fs::read(path.join("m.gguf")).unwrap()[..900]).unwrap();
    refused(&["import", "cut.gguf", "--out", "cut"], path, &["cut.gguf"]);
    assert!(!path.join("b.gguf").exists() && !path.join("cut").exists());
}

#[test]
fn ctranslate2_comes_in_and_translates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    ok(&["import", &golden("ct2/marian"), "--out", "m"], path);
    let tokens =
        fs::read_to_string(Path::new(&golden("ct2/marian")).join("shared_vocabulary.json"));
    let tokens: Vec<String> = serde_json::from_str(&tokens.unwrap()).unwrap();
    let source = format!("{} {}", tokens[4], tokens[5]);
    ok(&["translate", "m", &source, "--beam", "2"], path);
}

fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
}

/// The layout of the cache that Python's `huggingface_hub` and `pellucid` share.
fn cached(home: &Path, model: &str) -> PathBuf {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repository = home.join("home/hub/models--someone--tiny");
    let snapshot = repository.join("snapshots").join(commit);
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), commit).unwrap();
    copy(model, &snapshot);
    snapshot
}

#[test]
fn a_model_of_the_hub_comes_from_the_cache_offline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    refused(&["import", "someone/tiny", "--out", "m"], path, &["not whole in the cache", "hint"]);
    cached(path, &golden("hf/llama"));
    ok(&["import", "someone/tiny", "--out", "m"], path);
    assert!(same(&load(path.join("m")), &load(golden("hf/llama"))));
    refused(&["import", "someone/tiny", "--revision", "v2", "--out", "n"], path, &["v2"]);
    refused(&["import", "./nothing/here", "--out", "n"], path, &["no such file or folder"]);
    assert!(!path.join("n").exists());
}
