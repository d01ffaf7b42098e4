//! LoRA from end to end: the base stays, the run continues bit for bit, what is written is the model for everybody.

use super::end_to_end_tests::{quiet, settings};
use crate::checkpoint;
use crate::train::launch::train;
use crate::train::pretrain::{Control, Event, Outcome};
use crate::train::run::{RecomputeKind, RunConfig};
use std::path::Path;

/// A run that adds to the model in `base`, on other text than that was trained on.
fn added(root: &Path, base: &Path, name: &str) -> RunConfig {
    let text = root.join("other.txt");
    let lines: String = (0..400).map(|i| format!("a cat no mat {}.\n", i % 5)).collect();
    std::fs::write(&text, lines).unwrap();
    let mut run = settings(root, name);
    for (key, value) in [
        ("data.train", text.to_str().unwrap()),
        ("train.start", base.to_str().unwrap()),
        ("adapter.rank", "4"),
        ("adapter.alpha", "8"),
        ("input_dropout", "0.1"),
        ("steps", "12"),
        ("checkpoint.keep", "3"),
        ("checkpoint.average", "2"),
    ] {
        run.set(key, value).unwrap();
    }
    run
}

/// Bytes of factors and moments.
fn bytes(outcome: &Outcome) -> [Vec<u8>; 3] {
    ["adapter_model.safetensors", "optimizer.safetensors", "config.json"]
        .map(|name| std::fs::read(outcome.folder.join(name)).unwrap())
}

#[test]
fn an_adapter_learns_continues_bit_for_bit_and_leaves_its_base_alone() {
    let root = tempfile::tempdir().unwrap();
    let base = train(&settings(root.path(), "base"), &mut quiet).unwrap().folder;
    let before = std::fs::read(base.join("model.safetensors")).unwrap();
    let run = added(root.path(), &base, "straight");
    let (mut losses, mut warnings) = (vec![], vec![]);
    let mut observer = |event: &Event<'_>| {
        match event {
            Event::Step(report) => losses.push(report.loss),
            Event::Warning(text) => warnings.push((*text).to_owned()),
            _ => {}
        }
        Control::Continue
    };
    let outcome = train(&run, &mut observer).unwrap();
    assert!(losses[11] < 0.75 * losses[0], "{losses:?}");
    assert!(warnings.is_empty(), "{warnings:?}");
    let straight = bytes(&outcome);
    assert!(!outcome.folder.join("model.safetensors").exists());
    // Far smaller than the model: 2 blocks of rank 4.
    assert!(straight[0].len() < before.len() / 2, "{} {}", straight[0].len(), before.len());

    let again = added(root.path(), &base, "stopped");
    let mut stop = |event: &Event<'_>| match event {
        Event::Step(report) if report.step == 5 => Control::Stop,
        _ => Control::Continue,
    };
    train(&again, &mut stop).unwrap();
    assert!(bytes(&train(&again, &mut quiet).unwrap()) == straight);
    let mut run = added(root.path(), &base, "recomputed");
    run.train.recompute = RecomputeKind::Blocks;
    assert!(bytes(&train(&run, &mut quiet).unwrap()) == straight);

    // The folder is the merged model: the base moved, and only where it was added to.
    let merged = checkpoint::load(&outcome.folder).unwrap();
    let plain = checkpoint::load(&base).unwrap();
    assert_eq!((&merged.config.adapter, merged.config.vocab), (&None, plain.config.vocab));
    for spec in plain.weights.specs() {
        let name = &spec.name;
        let same = plain.weights.get(name).unwrap() == merged.weights.get(name).unwrap();
        let added = ["qkv.weight", "attn.out.weight", "mlp.in.weight", "mlp.out.weight"];
        assert_eq!(same, !added.iter().any(|end| name.ends_with(end)), "{name}");
    }
    checkpoint::load(&Path::new(&again.checkpoint.folder).join("average")).unwrap();
    assert!(std::fs::read(base.join("model.safetensors")).unwrap() == before);
}

#[test]
fn an_adapter_needs_a_model_and_projections_that_it_has() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path(), "none");
    run.adapter.rank = 2;
    let error = train(&run, &mut quiet).unwrap_err().to_string();
    assert!(error.contains("set train.start"), "{error}");
    run.adapter.rank = 0;
    run.train.steps = 1;
    let base = train(&run, &mut quiet).unwrap().folder;
    let mut run = added(root.path(), &base, "wrong");
    run.adapter.targets = vec!["gate".into(), "quux".into()];
    let error = train(&run, &mut quiet).unwrap_err().to_string();
    assert!(error.contains("\"quux\"") && error.contains("choose among"), "{error}");
}
