//! Files that are not what they should be.

use super::super::writer::{Keys, text};
use super::*;
use proptest::prelude::*;
use std::fs;

/// A file of version 3: keys, tensors (name, dimensions, type, offset), bytes of elements.
fn file(keys: &Keys, tensors: &[(&str, &[u64], u32, u64)], data: usize) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(keys.count.to_le_bytes());
    bytes.extend(&keys.bytes);
    for (name, dims, number, offset) in tensors {
        text(&mut bytes, name);
        bytes.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        bytes.extend(number.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

fn error(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    fs::write(&path, bytes).unwrap();
    let text = import_gguf(&path).unwrap_err().to_string();
    assert!(text.contains("x.gguf: "), "{text}");
    text
}

fn keys(fill: impl Fn(&mut Keys)) -> Keys {
    let mut keys = Keys::default();
    fill(&mut keys);
    keys
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let none = keys(|_| ());
    let header = |version: [u8; 4], tensors: u64, keys: u64| {
        [&b"GGUF"[..], &version, &tensors.to_le_bytes(), &keys.to_le_bytes(), &[0; 64]].concat()
    };
    for (bytes, wanted) in [
        (b"ggml\x01\0\0\0".to_vec(), "begins with \"ggml\", not GGUF"),
        (vec![], "the header at byte 0 needs 4 bytes, but 0 follow"),
        (header([1, 0, 0, 0], 0, 0), "version 1"),
        (header([4, 0, 0, 0], 0, 0), "version 4"),
        (header([0, 0, 0, 3], 0, 0), "big-endian"),
        (header([3, 0, 0, 0], u64::MAX, 0), "the number of tensors: 18446744073709551615"),
        (header([3, 0, 0, 0], 3, 0), "the number of tensors: 3, but only 72 bytes follow"),
        (header([3, 0, 0, 0], 0, 1 << 60), "the number of keys: 1152921504606846976"),
        (header([3, 0, 0, 0], 0, 4), "the key  is there twice"),
        (file(&none, &[], 0), "general.architecture is \"\""),
        (file(&keys(|k| k.text("general.architecture", "mamba")), &[], 0), "is \"mamba\""),
        (file(&keys(|k| k.size("general.alignment", 24)), &[], 0), "general.alignment = 24"),
        (file(&keys(|k| k.signed("general.alignment", -32)), &[], 0), "general.alignment = -32"),
        (file(&keys(|k| k.size("split.count", 2)), &[], 0), "one part of a model"),
    ] {
        let text = error(&bytes);
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn values_that_cannot_be_are_refused() {
    let value = |kind: u32, value: &[u8]| {
        let mut keys = Keys::default();
        text(&mut keys.bytes, "k");
        keys.bytes.extend(kind.to_le_bytes());
        keys.bytes.extend(value);
        keys.count = 1;
        error(&file(&keys, &[], 0))
    };
    let array = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let deep = |depth: usize| [array(9, 1).repeat(depth), array(4, 0)].concat();
    for (kind, bytes, wanted) in [
        (13, vec![], "unknown type 13"),
        (7, vec![2], "k is neither true nor false, but 2"),
        (8, (1u64 << 62).to_le_bytes().to_vec(), "k: 4611686018427387904, but only"),
        (8, [&2u64.to_le_bytes()[..], &[0xc3, 0x28]].concat(), "k is not UTF-8 at its byte 0"),
        (9, array(10, 1 << 61), "k: 2305843009213693952, but only"),
        (9, array(8, 1 << 40), "k: 1099511627776, but only"),
        (9, array(99, 1), "unknown type 99"),
        (9, deep(6), "arrays within arrays without end"),
        (9, deep(3), "general.architecture"),
    ] {
        let text = value(kind, &bytes);
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn tensors_that_cannot_be_are_refused_and_all_named() {
    let plain = keys(|k| k.text("general.architecture", "llama"));
    let text = error(&file(
        &plain,
        &[
            ("sound", &[8, 2], 0, 0),
            ("huge", &[1 << 40, 1 << 40], 0, 0),
            ("none", &[0, 4], 0, 64),
            ("crooked", &[4], 0, 65),
            ("far", &[4], 0, 1 << 40),
            ("farther", &[4], 0, u64::MAX - 31),
            ("long", &[1 << 30], 0, 64),
            ("broken", &[40], 8, 64),
            ("new", &[32], 23, 64),
            ("newer", &[32], 77, 64),
            ("over", &[8], 1, 32),
            ("sound", &[8, 2], 0, 128),
        ],
        256,
    ));
    for wanted in [
        "11 of 12 tensors cannot be read",
        "huge has the impossible dimensions [1099511627776, 1099511627776]",
        "none has the impossible dimensions [0, 4]",
        "crooked begins at 65, no multiple of 32",
        "far needs 16 bytes from",
        "farther needs 16 bytes from",
        "long needs 4294967296 bytes from",
        "broken has rows of 40, but blocks of 32",
        "new is stored as IQ4_XS",
        "newer is stored as type 77",
        "sound is there twice",
        "sound and over overlap",
        "requantise",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let text = error(&file(&plain, &[("flat", &[1, 1, 1, 1, 1], 0, 0)], 64));
    assert!(text.contains("\"flat\" has 5 dimensions"), "{text}");
}

/// A sound file of `config` after `change` was applied to a copy of its bytes.
fn changed(config: &Config, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    export(&path, config, &weights(config), GgufType::F32).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    error(&bytes)
}

fn find(bytes: &[u8], name: &str) -> usize {
    bytes.windows(name.len()).position(|w| w == name.as_bytes()).expect(name)
}

#[test]
fn every_tensor_that_does_not_fit_is_named() {
    let text = changed(&llama(), |bytes| {
        for name in ["blk.1.attn_k.weight", "blk.0.ffn_norm.weight"] {
            let at = find(bytes, name);
            bytes[at + name.len() - 1] = b'T';
        }
        // Rows of the down projection: its dimensions follow name and count.
        let name = "blk.0.ffn_down.weight";
        let at = find(bytes, name) + name.len() + 4;
        bytes[at] = 16;
    });
    for wanted in [
        "5 tensors do not fit the keys",
        "missing: blk.1.attn_k.weight (32, 64)",
        "unexpected: blk.1.attn_k.weighT",
        "missing: blk.0.ffn_norm.weight (64)",
        "unexpected: blk.0.ffn_norm.weighT",
        "wrong shape: blk.0.ffn_down.weight is (64, 16), but the keys say (64, 32)",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn keys_that_contradict_the_tensors_are_refused() {
    let set = |config: &Config, key: &'static str, value: u32| {
        changed(config, |bytes| {
            let at = find(bytes, key) + key.len() + 4;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    for (key, value, wanted) in [
        ("llama.block_count", u32::MAX, "block_count = 4294967295, but there are"),
        ("llama.block_count", 3, "missing: blk.2.attn_norm.weight"),
        ("llama.block_count", 1, "unexpected: blk.1.attn_k.weight"),
        ("llama.embedding_length", 1 << 31, "the sizes contradict each other"),
        ("llama.embedding_length", 32, "wrong shape: token_embd.weight"),
        ("llama.feed_forward_length", 1 << 30, "wrong shape: blk.0.ffn_up.weight"),
        ("llama.attention.head_count", 0, "heads = 0"),
        ("llama.attention.head_count_kv", 3, "does not divide"),
        ("llama.attention.key_length", 14, "rope.dimension_count = 16, but heads are 14 wide"),
        ("llama.rope.dimension_count", 8, "rope.dimension_count = 8, but heads are 16 wide"),
        ("llama.vocab_size", 38, "vocab_size = 38, but token_embd.weight has 37 rows"),
        ("layer_norm_rms_epsilon", f32::NAN.to_bits(), "norm_epsilon"),
        ("llama.rope.freq_base", 0, "rotary_base"),
    ] {
        let text = set(&llama(), key, value);
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let text = set(&gpt2(), "gpt2.attention.head_count", 3);
    assert!(text.contains("head_count = 3 does not divide 64"), "{text}");
    let text = changed(&llama(), |bytes| {
        for name in ["llama.context_length", "layer_norm_rms_epsilon", "rope.dimension_count"] {
            let at = find(bytes, name);
            bytes[at + name.len() - 1] = b'X';
        }
        // A flag in place of a size: its other bytes would be the next key, so the type alone is the fault.
        let name = "llama.rope.dimension_counX";
        let at = find(bytes, name);
        bytes[at..at + name.len()].copy_from_slice(b"llama.expert_count\0\0\0\0\0\0\0\0");
    });
    assert!(text.contains("llama.context_length is missing"), "{text}");
    assert!(text.contains("layer_norm_rms_epsilon is missing"), "{text}");
}

#[test]
fn other_models_of_the_same_name_are_refused() {
    let base = keys(|k| {
        k.text("general.architecture", "llama");
        k.size("llama.expert_count", 8);
        k.single("llama.logit_scale", 0.5);
        k.text("llama.rope.scaling.type", "yarn");
        k.text("llama.block_count", "many");
        k.signeds("llama.attention.head_count", &[4, 4, 2]);
        k.signeds("llama.feed_forward_length", &[64, 64, 64]);
    });
    let text = error(&file(&base, &[], 0));
    for wanted in [
        "llama.expert_count = 8 is not supported",
        "llama.logit_scale = 0.5 is not supported",
        "the rotary scaling yarn with the factor None",
        "llama.block_count = \"many\", but it must be a whole number",
        "llama.attention.head_count = an array of 3 numbers, but",
        "llama.context_length is missing",
        "the tensor token_embd.weight is missing",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("feed_forward"), "{text}");
    let config = Config {
        rotary_scaling: RotaryScaling::Llama3 {
            factor: 8.0,
            low_frequency: 1.0,
            high_frequency: 4.0,
            original: 64,
        },
        ..llama()
    };
    let text = changed(&config, |bytes| {
        let at = bytes.len() - 32;
        bytes[at..at + 4].copy_from_slice(&1.5f32.to_le_bytes());
    });
    assert!(text.contains("rope_freqs.weight follows no rule"), "{text}");
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let config = Config { layers: 1, ..llama() };
    export(&path, &config, &weights(&config), GgufType::Q4_0).unwrap();
    let whole = fs::read(&path).unwrap();
    let last = (37 * 64 / 32 * 18usize).next_multiple_of(32) - 37 * 64 / 32 * 18;
    assert!(last < 32);
    let header = find(&whole, "output.weight") + 64;
    for len in
        (0..header).chain((header..whole.len() - last).step_by(61)).chain([whole.len() - last - 1])
    {
        fs::write(&path, &whole[..len]).unwrap();
        let error = import_gguf(&path).unwrap_err();
        assert!(error.to_string().contains("x.gguf"), "{error}");
    }
    fs::write(&path, &whole[..whole.len() - last]).unwrap();
    import_gguf(&path).unwrap();
}

const SOUND: [&str; 8] = [
    "llama3-rope.gguf",
    "mixed.gguf",
    "f16.gguf",
    "qwen3.gguf",
    "gpt2.gguf",
    "tokens-llama.gguf",
    "tokens-gpt-2.gguf",
    "qwen2.gguf",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]

    /// Whatever happens to a file, reading it returns: no panic, no endless memory.
    #[test]
    fn damage_never_panics(
        which in 0..SOUND.len(),
        flips in proptest::collection::vec((0.0..1.0f64, any::<u8>()), 1..6),
        header in any::<bool>(),
        cut in proptest::option::weighted(0.2, 0.0..1.0f64),
    ) {
        let mut bytes = fs::read(golden(SOUND[which])).unwrap();
        // Half of the damage goes where it hurts.
        let reach = if header { 2400.min(bytes.len()) } else { bytes.len() };
        for (at, value) in flips {
            bytes[(at * reach as f64) as usize] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        fs::write(&path, &bytes).unwrap();
        let _ = import_gguf(&path).map_err(|e| e.to_string());
        if let Ok(file) = Container::open(&path) {
            let mut meta = super::super::meta::Meta::new(&file, "llama");
            let _ = super::super::tokenizer::read(&mut meta, 400);
            let _ = meta.finish().map_err(|e| e.to_string());
        }
    }
}
