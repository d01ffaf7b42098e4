//! Vocabularies of files, as `tokenizers` and SentencePiece read them.

use super::super::container::Container;
use super::super::meta::Meta;
use super::super::tokenizer::{read, write};
use super::super::writer::Keys;
use super::*;
use crate::text::Tokenizer;
use serde_json::json;

/// The tokenizer of a file, which needs no weights.
fn tokenizer(path: &Path, vocab: usize) -> std::result::Result<Option<String>, String> {
    let file = Container::open(path).map_err(|e| e.to_string())?;
    let mut meta = Meta::new(&file, "llama");
    let found = read(&mut meta, vocab);
    meta.finish().map_err(|e| e.to_string())?;
    Ok(found)
}

/// A file of nothing but keys.
fn file(keys: &Keys) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(keys.count.to_le_bytes());
    bytes.extend(&keys.bytes);
    bytes
}

/// What our own keys of a tokenizer give again, without the text itself.
fn again(text: &str, vocab: usize) -> Option<String> {
    let mut keys = Keys::default();
    write(Some(text), vocab, &mut keys).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let mut bytes = file(&keys);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(tokenizer(&path, vocab).unwrap().as_deref(), Some(text));
    let name = b"tokenizer.huggingface.json";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    bytes[at] = b'T';
    std::fs::write(&path, &bytes).unwrap();
    tokenizer(&path, vocab).unwrap()
}

#[test]
fn vocabularies_give_the_ids_of_their_makers() {
    let golden = super::json("tokens.json");
    let texts = golden["texts"].as_array().unwrap();
    for pre in ["gpt-2", "llama-bpe", "qwen2", "smollm", "llama"] {
        let first = tokenizer(&golden_path(pre), 400).unwrap().expect(pre);
        let second = again(&first, 400).expect(pre);
        for text in [first, second] {
            let tokenizer = Tokenizer::from_json(text).unwrap();
            for (text, wanted) in texts.iter().zip(golden["ids"][pre].as_array().unwrap()) {
                let text = text.as_str().unwrap();
                if wanted.is_null() {
                    continue;
                }
                let ids = tokenizer.encode(text).unwrap();
                assert_eq!(json!(ids), *wanted, "{pre} {text:?}");
                assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{pre}");
            }
        }
        assert_eq!(tokenizer_bos(pre), pre.starts_with("llama"), "{pre}");
    }
}

fn golden_path(pre: &str) -> PathBuf {
    golden(&format!("tokens-{pre}.gguf"))
}

/// Whether a text begins with the token that begins a text.
fn tokenizer_bos(pre: &str) -> bool {
    let text = tokenizer(&golden_path(pre), 400).unwrap().unwrap();
    let tokenizer = Tokenizer::from_json(text).unwrap();
    let (with, without) = (tokenizer.encode_with_template("the"), tokenizer.encode("the"));
    with.unwrap().len() == without.unwrap().len() + 1
}

/// llama.cpp's own files and what it expects of them.
#[test]
fn ids_are_those_of_the_ggml_conformance_strings() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = here.ancestors().map(|a| a.join("shared/data/ggml-vocab"));
    let Some(folder) = above.find(|p| p.exists()) else {
        // Past the test harness, which hides what passing tests print.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: shared/data/ggml-vocab is not here\n"),
        );
        return;
    };
    for (name, vocab) in [("gpt-2", 50257), ("llama-spm", 32000), ("phi-3", 32064)] {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        let first = tokenizer(&path, vocab).unwrap().expect(name);
        let second = again(&first, vocab).expect(name);
        let texts = std::fs::read_to_string(path.with_extension("gguf.inp")).unwrap();
        let wanted = std::fs::read_to_string(path.with_extension("gguf.out")).unwrap();
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        assert_eq!(wanted.lines().count(), 46);
        for tokenizer in [first, second] {
            let tokenizer = Tokenizer::from_json(tokenizer).unwrap();
            for (text, line) in texts.iter().zip(wanted.lines()) {
                let wanted: Vec<u32> =
                    line.split_whitespace().map(|id| id.parse().unwrap()).collect();
                assert_eq!(tokenizer.encode(text).unwrap(), wanted, "{name} {text:?}");
            }
        }
    }
    assert_eq!(tokenizer(&folder.join("ggml-vocab-bert-bge.gguf"), 30522).unwrap(), None);
    let text = tokenizer(&folder.join("ggml-vocab-llama-spm.gguf"), 31999).unwrap_err();
    assert!(text.contains("has 32000, but the model's vocab = 31999"), "{text}");
}

#[test]
fn what_llama_cpp_has_no_words_for_still_comes_back() {
    let bytes = Tokenizer::bytes().to_json().to_owned();
    assert_eq!(again(&bytes, 300), None);
    let mut keys = Keys::default();
    let refused = |text: &str, vocab: usize, keys: &mut Keys| {
        write(Some(text), vocab, keys).unwrap_err().to_string()
    };
    assert!(refused(&bytes, 255, &mut keys).contains("ids up to 255"));
    assert!(refused("x", 255, &mut keys).contains("no tokenizer.json"));
}

#[test]
fn keys_that_contradict_themselves_are_faults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let fault = |fill: &dyn Fn(&mut Keys)| {
        let mut keys = Keys::default();
        fill(&mut keys);
        std::fs::write(&path, file(&keys)).unwrap();
        tokenizer(&path, 4).map_err(|e| e.replace('\n', ";"))
    };
    let texts = |keys: &mut Keys, key: &str, list: &[&str]| {
        keys.texts(&format!("tokenizer.ggml.{key}"), list.len(), list.iter().copied());
    };
    let model = |keys: &mut Keys, kind: &str| keys.text("tokenizer.ggml.model", kind);
    let kind = |keys: &mut Keys, kind: &str| {
        model(keys, kind);
        if kind == "gpt2" {
            keys.text("tokenizer.ggml.pre", "gpt-2");
        }
    };
    assert_eq!(fault(&|_| ()), Ok(None));
    // A split that is not told is not guessed.
    assert_eq!(fault(&|k| model(k, "gpt2")), Ok(None));
    assert_eq!(fault(&|k| kind(k, "rwkv")), Ok(None));
    let unknown_split = |k: &mut Keys| {
        model(k, "gpt2");
        k.text("tokenizer.ggml.pre", "chameleon");
    };
    assert_eq!(fault(&unknown_split), Ok(None));
    for (wanted, fill) in [
        ("tokens is missing", &(|k: &mut Keys| kind(k, "gpt2")) as &dyn Fn(&mut Keys)),
        ("model = 3, but it must be text", &|k| k.size("tokenizer.ggml.model", 3)),
        ("merges is missing", &|k| {
            kind(k, "gpt2");
            texts(k, "tokens", &["a", "b"]);
        }),
        ("merges[1] = \"a c\"", &|k| {
            kind(k, "gpt2");
            texts(k, "tokens", &["a", "b", "ab"]);
            texts(k, "merges", &["a b", "a c"]);
        }),
        ("has 2 types of 1 tokens", &|k| {
            kind(k, "llama");
            texts(k, "tokens", &["a"]);
            k.signeds("tokenizer.ggml.token_type", &[1, 1]);
        }),
        ("has 0 scores of 1 tokens", &|k| {
            kind(k, "llama");
            texts(k, "tokens", &["a"]);
        }),
        ("huggingface.json is no tokenizer", &|k| k.text("tokenizer.huggingface.json", "[")),
        ("has ids up to 9, but the model's vocab = 4", &|k| {
            k.text("tokenizer.huggingface.json", r#"{"model":{"vocab":{"a":9}}}"#);
        }),
    ] {
        let text = fault(fill).unwrap_err();
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}
