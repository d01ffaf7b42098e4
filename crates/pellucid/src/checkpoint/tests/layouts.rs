//! One file or several, 32 bits or 16: the same weights come back, and nothing of another layout stays.

use super::super::*;
use super::{bits, gpt2, holds, llama, weights, write};
use crate::error::Result;
use crate::model::config::Config;
use std::fs;
use std::path::Path;

fn put(folder: &Path, config: &Config, seed: u64, layout: impl Into<Layout>) -> Result<()> {
    let generation =
        GenerationConfig { eos: vec![seed as u32], temperature: 0.7, ..Default::default() };
    save(folder, config, &weights(config, seed), None, &generation, layout)
}

fn shards(most: u64) -> Layout {
    Layout { stored: StoredType::F32, shard: Some(most) }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("model"))
        .collect();
    names.sort();
    names
}

#[test]
fn shards_come_back_and_another_layout_takes_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let total = weights(&llama(), 3).count() as u64 * 4;
    for most in [1, 4000, 10_000, u64::MAX] {
        put(path, &llama(), 3, shards(most)).unwrap();
        assert!(holds(path, &llama(), 3, None));
        let found = names(path);
        // One tensor each where none fits; else two neighbours never fit into one.
        let (whole, files) = (most == u64::MAX, found.len() as u64 - u64::from(most < total));
        match most {
            1 => assert!(files > 15, "{files}"),
            _ => assert!((total.div_ceil(most)..=2 * total.div_ceil(most)).contains(&files)),
        }
        for name in found.iter().filter(|name| name.ends_with(".safetensors")) {
            let file = load_tensors(&path.join(name)).unwrap();
            let bytes: usize =
                file.names().map(|n| file.shape(n).unwrap().iter().product::<usize>() * 4).sum();
            assert!(bytes as u64 <= most || file.names().count() == 1, "{name}: {bytes}");
        }
        if !whole {
            let index = fs::read_to_string(path.join("model.safetensors.index.json")).unwrap();
            let index: serde_json::Value = serde_json::from_str(&index).unwrap();
            assert_eq!(index["metadata"]["total_size"], total);
        }
    }
    put(path, &llama(), 4, shards(4000)).unwrap();
    write(path, &gpt2(), 5, None).unwrap();
    assert_eq!(names(path), ["model.safetensors"]);
}

#[test]
fn a_crash_between_shards_leaves_old_or_new() {
    let mut seen = [0; 2];
    for step in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        // Other numbers of shards, so that each side has files the other must lose.
        put(path, &gpt2(), 1, shards(9000)).unwrap();
        fault::crash_at(Some(step));
        let result = put(path, &llama(), 2, shards(4000));
        let crashed = fault::crashed();
        fault::crash_at(None);
        let new = load(path).unwrap().config == llama();
        let config = if new { llama() } else { gpt2() };
        assert!(holds(path, &config, 1 + u64::from(new), None));
        if !crashed {
            result.unwrap();
            assert!(new);
            break;
        }
        seen[usize::from(new)] += 1;
        recover(path).unwrap();
        assert_eq!(load(path).unwrap().config == llama(), new, "step {step}");
    }
    assert!(seen[0] > 8 && seen[1] > 8, "{seen:?}");
}

#[test]
fn halves_are_rounded_once_and_never_overflow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    put(path, &llama(), 3, StoredType::F16).unwrap();
    let first = load(path).unwrap();
    assert_eq!(first.stored, StoredType::F16);
    assert!(fs::read_to_string(path.join("config.json")).unwrap().contains("\"float16\""));
    let exact = weights(&llama(), 3);
    for (spec, (x, y)) in exact.specs().iter().flat_map(|spec| {
        let pair =
            exact.get(&spec.name).unwrap().iter().zip(first.weights.get(&spec.name).unwrap());
        pair.map(move |pair| (spec, pair))
    }) {
        assert!((x - y).abs() <= x.abs() * 0.000_489 + 3e-8, "{}: {x} {y}", spec.name);
    }
    save(path, &first.config, &first.weights, None, &first.generation, StoredType::F16).unwrap();
    assert_eq!(bits(&load(path).unwrap().weights), bits(&first.weights));
    // The greatest number that still rounds to a half, and the next.
    for (value, fits) in [(65519.996, true), (65520.0, false), (-7e4, false)] {
        let mut weights = exact.clone();
        let name = weights.specs()[3].name.clone();
        weights.get_mut(&name).unwrap()[1] = value;
        let saved = save(path, &llama(), &weights, None, &first.generation, StoredType::F16);
        assert_eq!(saved.is_ok(), fits, "{value}");
        if let Err(error) = saved {
            assert!(error.to_string().contains("half precision ends at 65504"), "{error}");
        }
    }
}
