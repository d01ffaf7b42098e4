//! Files that are damaged, and what no model among the golden ones has. `tests/it/ctranslate2.rs` compares with
//! ctranslate2 itself.

use super::file::ModelFile;
use super::vocabulary::Joined;
use super::*;
use crate::model::config::Positions;
use crate::tensor::random::Random;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ct2").join(name)
}

fn model(name: &str) -> Vec<u8> {
    std::fs::read(golden(name).join("model.bin")).unwrap()
}

fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len() + 1).unwrap();
    [&len.to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// A variable of version 4 and later.
fn variable(name: &str, shape: &[u32], kind: u8, bytes: &[u8]) -> Vec<u8> {
    let (rank, len) = (u8::try_from(shape.len()).unwrap(), u32::try_from(bytes.len()).unwrap());
    [&text(name)[..], &[rank], &u32s(shape), &[kind], &len.to_le_bytes(), bytes].concat()
}

fn floats(name: &str, shape: &[u32], values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    variable(name, shape, 0, &bytes)
}

/// A file of version 6 with the whole of its aliases.
fn file(variables: &[Vec<u8>], aliases: &[(&str, &str)]) -> Vec<u8> {
    let count = u32::try_from(variables.len()).unwrap();
    let mut bytes = [&u32s(&[6])[..], &text("TransformerSpec"), &u32s(&[7, count])].concat();
    bytes.extend(variables.concat());
    bytes.extend(u32s(&[u32::try_from(aliases.len()).unwrap()]));
    bytes.extend(aliases.iter().flat_map(|(alias, name)| [text(alias), text(name)].concat()));
    bytes
}

#[track_caller]
fn refused(bytes: &[u8], wanted: &str) {
    let error = ModelFile::parse(bytes).unwrap_err().to_string();
    assert!(error.contains(wanted), "{wanted:?} is not in {error}");
}

/// What reading says of a golden model after its bytes, or a file beside them, were changed.
#[track_caller]
fn changed(name: &str, bytes: &[u8], beside: &[(&str, Option<&str>)], wanted: &str) {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    for (name, text) in beside {
        match text {
            Some(text) => std::fs::write(folder.path().join(name), text).unwrap(),
            None => std::fs::remove_file(folder.path().join(name)).unwrap(),
        }
    }
    std::fs::write(folder.path().join("model.bin"), bytes).unwrap();
    let error = import_ctranslate2(folder.path()).unwrap_err().to_string();
    assert!(error.contains(wanted), "{wanted:?} is not in {error}");
}

/// The same bytes with one name, of the same length, in place of another.
fn renamed(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|w| w == old.as_bytes()).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
    bytes
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    for name in ["marian-int8", "two"] {
        let bytes = model(name);
        ModelFile::parse(&bytes).unwrap();
        for end in 0..bytes.len() {
            let error = ModelFile::parse(&bytes[..end]).unwrap_err().to_string();
            assert!(error.contains("are left"), "{name} cut at {end}: {error}");
        }
        refused(&[&bytes[..], b"x"].concat(), "1 bytes follow");
    }
}

#[test]
fn counts_and_types_that_cannot_be_are_refused() {
    let one = |shape: &[u32], kind, bytes: &[u8]| file(&[variable("a", shape, kind, bytes)], &[]);
    refused(&u32s(&[7]), "layout version 7");
    refused(b"PK\x03\x04", "layout version");
    refused(&one(&[1], 6, &[0; 4]), "a has type 6, which is not known");
    refused(&one(&[u32::MAX, u32::MAX, u32::MAX], 0, &[0; 4]), "a: 4 bytes, but the shape is");
    refused(&one(&[2], 0, &[0; 4]), "a: 4 bytes, but the shape is [2]");
    let mut many = file(&[], &[]);
    let at = many.len() - 8;
    many[at..at + 4].fill(0xff);
    refused(&many, "the name of variable 0 at byte 30");
    let of_old = [&u32s(&[1, 1])[..], &text("a"), &[1], &u32s(&[1]), &[3], &u32s(&[1])].concat();
    refused(&of_old, "a has elements of bytes: 3");
    let huge = [&u32s(&[1, 1])[..], &text("a"), &[1], &u32s(&[u32::MAX]), &[4], &u32s(&[u32::MAX])];
    refused(&huge.concat(), "a needs 17179869180 bytes");
    let a = variable("a", &[], 1, &[1]);
    refused(&file(&[a.clone(), a.clone()], &[]), "two variables are named a");
    refused(&file(std::slice::from_ref(&a), &[("b", "c")]), "b is an alias of c, which is missing");
    refused(&file(&[a], &[("a", "a")]), "two variables are named a");
    refused(
        &[&u32s(&[2])[..], &[2, 0, 0xff, 0]].concat(),
        "the specification at byte 4 is not UTF-8",
    );
    refused(
        &[&u32s(&[2])[..], &[2, 0, 65, 65]].concat(),
        "the specification at byte 4 is not UTF-8",
    );
    refused(&[&u32s(&[2])[..], &[0, 0]].concat(), "the specification at byte 4 is not UTF-8");
}

#[test]
fn models_of_another_kind_are_refused() {
    let bytes = model("marian");
    let with = |old: &str, new: &str| renamed(&bytes, old, new);
    let refuse = |bytes: &[u8], wanted: &str| changed("marian", bytes, &[], wanted);
    refuse(&with("TransformerSpec", "WhisperSpecifie"), "\"WhisperSpecifie\", not an encoder-deco");
    let name = "encoder/layer_0/ffn/linear_1/bias";
    refuse(&with(name, "encoder/layer_0/ffn/linear_9/bias"), "linear_9/bias is not known");
    let name = "decoder/layer_0/attention/linear_1/weight";
    let error = "decoder/layer_0/attention/linear_1/weight is missing";
    refuse(&with(name, "decoder/layer_0/attention/linear_1/Weight"), error);
    refuse(&with("encoder/activation", "encoder/activatiom"), "activation = 0 in the encoder");
    let folder = golden("marian").join("config.json");
    let json = std::fs::read_to_string(folder).unwrap();
    let beside =
        |name, text: &str, wanted| changed("marian", &bytes, &[(name, Some(text))], wanted);
    beside("config.json", &json.replace("false", "7"), "add_source_bos = 7");
    beside("config.json", "[", "not JSON");
    let list = std::fs::read_to_string(golden("marian").join("shared_vocabulary.json")).unwrap();
    let shared = "shared_vocabulary.json";
    beside(shared, &list.replace("\"a\",", ""), "9 tokens, but encoder/embeddings_0/weight has 10");
    beside(shared, &list.replace("\"a\"", "\"b\""), "token 4 is \"b\", as is 3");
    beside(shared, "{}", "not a list of texts");
    changed("marian", &bytes, &[(shared, None)], "neither shared_vocabulary nor source_vocabulary");
    let empty = import_ctranslate2(&golden("none")).unwrap_err();
    assert_eq!(empty.kind(), Kind::Io);
}

/// A width of a million in a small file must not become a matrix of a million by a million.
#[test]
fn nothing_is_allocated_for_variables_that_are_not_there() {
    let wide = 1 << 20;
    let table = variable("decoder/embeddings/weight", &[1, wide], 1, &vec![0; wide as usize]);
    let scale = floats("decoder/embeddings/weight_scale", &[1], &[1.0]);
    let hidden = variable("encoder/layer_0/ffn/linear_1/weight", &[0, wide], 1, &[]);
    let decoder = floats("decoder/layer_0/ffn/linear_1/bias", &[0], &[]);
    let aliases = [
        ("encoder/embeddings/weight", "decoder/embeddings/weight"),
        ("decoder/projection/weight", "decoder/embeddings/weight"),
    ];
    let bytes = file(&[table, scale, hidden, decoder], &aliases);
    let one = [("shared_vocabulary.json", Some("[\"<unk>\"]"))];
    changed("marian", &bytes, &one, "is missing");
}

#[test]
fn flipped_bits_never_panic() {
    let mut random = Random::new(3, 0);
    for name in ["marian-int8", "two"] {
        let bytes = model(name);
        for _ in 0..400 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random.below(3) {
                damaged[random.below(bytes.len())] ^= 1 << random.below(8);
            }
            let _ = read(&golden(name), &damaged);
        }
        // Numbers among the variables are few bytes; each takes every value of one of them.
        for attribute in ["num_heads", "pre_norm", "activation", "scale_embeddings"] {
            let key = format!("encoder/{attribute}");
            let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap();
            for value in 0..=255 {
                let mut damaged = bytes.clone();
                // After the name: its zero, the rank, the type, the length.
                damaged[at + key.len() + 7] = value;
                let _ = read(&golden(name), &damaged);
            }
        }
    }
}

#[test]
fn whole_numbers_are_divided_by_their_scales() {
    let values = |variables: &[Vec<u8>]| {
        let bytes = file(variables, &[("c", "w")]);
        let file = ModelFile::parse(&bytes).unwrap();
        file.values("c").map_err(|e| e.to_string())
    };
    let int8 = variable("w", &[2, 2], 1, &[1, 0xfe, 3, 4]);
    let rows = floats("w_scale", &[2], &[2.0, 4.0]);
    assert_eq!(values(&[int8.clone(), rows]).unwrap(), [0.5, -1.0, 0.75, 1.0]);
    let all = floats("w_scale", &[], &[4.0]);
    assert_eq!(values(&[int8.clone(), all]).unwrap(), [0.25, -0.5, 0.75, 1.0]);
    assert!(values(std::slice::from_ref(&int8)).unwrap_err().contains("c_scale is missing"));
    let three = floats("w_scale", &[3], &[1.0; 3]);
    assert!(values(&[int8, three]).unwrap_err().contains("c_scale has 3 numbers"));
    // Files of old have no scale for 16 bits.
    let int16 = variable("w", &[2], 2, &[0xf4, 0x01, 0x18, 0xfc]);
    assert_eq!(values(&[int16]).unwrap(), [0.5, -1.0]);
    assert_eq!(values(&[variable("w", &[1], 4, &[0, 0x3e])]).unwrap(), [1.5]);
    assert_eq!(values(&[variable("w", &[1], 5, &[0xc0, 0x3f])]).unwrap(), [1.5]);
}

#[test]
fn the_oldest_names_are_translated() {
    let old = [&u32s(&[1, 2])[..]]
        .into_iter()
        .chain([&text("transformer/encoder/layer_3/multi_head/conv1d/kernel:0")[..], &[0, 1]])
        .chain([&u32s(&[1])[..], &[5]])
        .chain([&text("transformer/decoder/layer_0/multi_head/conv1d_2/bias:0")[..], &[0, 1]])
        .chain([&u32s(&[1])[..], &[7]])
        .collect::<Vec<_>>()
        .concat();
    let file = ModelFile::parse(&old).unwrap();
    assert_eq!(file.number("encoder/layer_3/self_attention/linear_0/weight").unwrap(), Some(5.0));
    assert_eq!(file.number("decoder/layer_0/attention/linear_2/bias").unwrap(), Some(7.0));
    assert_eq!((file.spec.as_str(), file.revision), ("", 1));
    assert!(file.unused().is_empty());
}

#[test]
fn every_kind_of_sines_is_recognised() {
    let (rows, c) = (5, 6);
    let table = |halved: bool, last: f32, offset: usize| -> Vec<f32> {
        let mut table = vec![];
        for position in offset..offset + rows {
            let angle = |i: usize| position as f32 / 10_000f32.powf(i as f32 / last);
            let (sines, cosines) = (|i| angle(i).sin(), |i| angle(i).cos());
            match halved {
                true => table.extend((0..3).map(sines).chain((0..3).map(cosines))),
                false => table.extend((0..3).flat_map(|i| [sines(i), cosines(i)])),
            }
        }
        table
    };
    let found = |values: &[f32]| {
        let name = |side: &str| format!("{side}/position_encodings/encodings");
        let shape = [rows as u32, c];
        let bytes = file(
            &[floats(&name("encoder"), &shape, values)],
            &[(&*name("decoder"), &*name("encoder"))],
        );
        let config = Config { width: c as usize, ..Config::transformer_base() };
        let config = waves::recognise(&ModelFile::parse(&bytes).unwrap(), config).unwrap();
        (config.positions, config.position_offset, config.context)
    };
    for offset in 0..3 {
        let is = |values: &[f32], kind| assert_eq!(found(values), (kind, offset, rows));
        is(&table(false, 3.0, offset), Positions::Sinusoidal);
        is(&table(true, 3.0, offset), Positions::SinusoidalHalved);
        is(&table(true, 2.0, offset), Positions::SinusoidalTensor2tensor);
    }
    let mut other = table(true, 3.0, 0);
    other[7] += 1e-4;
    assert_eq!(found(&other), (Positions::Learned, 0, rows));
}

#[test]
fn two_vocabularies_become_one() {
    let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (source, target) = (list("<unk> a b <pad>"), list("b <unk> c"));
    let joined = Joined::new(&source, &target, "<unk>", true);
    assert_eq!(joined.tokens, ["b", "<unk>", "c", "a", "<pad>", "<start0>"]);
    assert_eq!(joined.source, [Some(2), Some(0), Some(0), Some(1), Some(3), None]);
    assert_eq!(joined.target, [Some(0), Some(1), Some(2), Some(1), Some(1), None]);
    assert_eq!((joined.written, joined.zero), (3, Some(5)));
}
