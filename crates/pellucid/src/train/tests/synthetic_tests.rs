//! Runs whose sequences follow a law.

use super::super::launch::{assemble, train};
use super::super::pretrain::{Control, Event};
use super::super::run::RunConfig;
use super::super::tasks::synthetic::{examine, law};
use super::super::{log, resume};
use crate::backend::cpu::pool::Pool;
use crate::checkpoint;
use crate::data::synthetic::Part;
use crate::model::batch::{Batch, IGNORE};
use std::path::Path;

/// A small run of a task: symbols and T.
fn settings(root: &Path, name: &str, task: &str, (symbols, time): (usize, usize)) -> RunConfig {
    let mut run = RunConfig::default();
    for (key, value) in [
        ("data.task", task),
        ("symbols", &symbols.to_string()),
        ("time", &time.to_string()),
        ("validation_fraction", "0.4"),
        ("steps", "12"),
        ("batch", "6"),
        ("layers", "2"),
        ("width", "16"),
        ("heads", "2"),
        ("hidden", "0"),
        ("dropout", "0.1"),
        ("evaluate.every", "4"),
        ("evaluate.batches", "3"),
        ("checkpoint.every", "4"),
        ("threads", "2"),
    ] {
        run.set(key, value).unwrap();
    }
    run.checkpoint.folder = root.join(name).to_string_lossy().into();
    run
}

const TASKS: [(&str, (usize, usize)); 4] =
    [("markov", (3, 20)), ("repeat", (12, 24)), ("sort", (3, 5)), ("modular", (7, 3))];

fn quiet(_: &Event<'_>) -> Control {
    Control::Continue
}

#[test]
fn every_law_continues_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    for (task, sizes) in TASKS {
        let whole = settings(root.path(), &format!("{task} whole"), task, sizes);
        let done = train(&whole, &mut quiet).unwrap();
        let parts = settings(root.path(), &format!("{task} in parts"), task, sizes);
        let mut stop = |event: &Event<'_>| match event {
            Event::Step(report) if report.step == 5 => Control::Stop,
            _ => Control::Continue,
        };
        train(&parts, &mut stop).unwrap();
        let rest = train(&parts, &mut quiet).unwrap();
        for file in ["model.safetensors", "optimizer.safetensors", "tokenizer.json"] {
            let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
            assert!(read(&done.folder) == read(&rest.folder), "{task}: {file}");
        }
        let losses = |run: &RunConfig| {
            let path = Path::new(&run.checkpoint.folder).join("metrics.jsonl");
            let lines = log::read(&path).unwrap();
            lines.iter().map(|l| (l.step, l.loss, l.validation_loss)).collect::<Vec<_>>()
        };
        assert_eq!(losses(&whole), losses(&parts), "{task}");
    }
}

/// Which targets count, and that each is the token that follows.
#[test]
fn only_what_is_asked_is_a_target() {
    let root = tempfile::tempdir().unwrap();
    for (task, sizes) in TASKS {
        let run = settings(root.path(), task, task, sizes);
        let data = assemble(&run, &mut |_, _| Ok(())).unwrap().data;
        let (mut learned, mut asked) = (Batch::default(), Batch::default());
        data.train(3, &mut learned).unwrap();
        data.validation(1, &mut asked).unwrap();
        let time = sizes.1;
        for (batch, held_out) in [(&learned, false), (&asked, true)] {
            assert_eq!((batch.rows, batch.time, batch.ids.len()), (6, time, 6 * time));
            for (ids, targets) in batch.ids.chunks(time).zip(batch.targets.chunks(time)) {
                let first = targets.iter().position(|t| *t != IGNORE).unwrap();
                let want = match (task, held_out) {
                    ("markov", _) | ("repeat", false) => 0,
                    ("repeat", true) => 1 + (1..).find(|d| ids[1 + d] == ids[1]).unwrap(),
                    _ => time.div_ceil(2) - usize::from(task == "sort"),
                };
                assert_eq!(first, want, "{task} {held_out}: {ids:?} {targets:?}");
                assert!(targets[first..].iter().all(|t| *t != IGNORE), "{task}");
                for at in first..time - 1 {
                    assert_eq!(targets[at], ids[at + 1], "{task}");
                }
            }
        }
    }
    // The last of the 20 held out sums do not fill a batch.
    let mut run = settings(root.path(), "modular", "modular", (7, 3));
    run.set("evaluate.batches", "0").unwrap();
    let data = assemble(&run, &mut |_, _| Ok(())).unwrap().data;
    let mut batch = Batch::default();
    let mut counts = vec![];
    for number in 0..data.validation_batches() {
        data.validation(number, &mut batch).unwrap();
        counts.push(batch.targets.iter().filter(|t| **t != IGNORE).count());
    }
    assert_eq!(counts, [6, 6, 6, 2]);
}

#[test]
fn other_laws_have_other_fingerprints_and_encoders_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (task, sizes) in TASKS {
        for seed in ["1", "2"] {
            let mut run = settings(root.path(), task, task, sizes);
            run.set("seed", seed).unwrap();
            seen.insert(assemble(&run, &mut |_, _| Ok(())).unwrap().data.fingerprint());
        }
    }
    assert_eq!(seen.len(), 8);
    let mut run = settings(root.path(), "x", "markov", (3, 20));
    run.set("preset", "bert-mini").unwrap();
    let error = assemble(&run, &mut |_, _| Ok(())).unwrap_err().to_string();
    assert!(error.contains("decoder"), "{error}");
    let error = law(&RunConfig::default(), 8).unwrap_err().to_string();
    assert!(error.contains("markov, repeat, sort and modular"), "{error}");
}

/// A few hundred steps on digits: what is examined is what was learned, answers and all.
#[test]
fn a_small_model_sorts_what_it_has_not_seen() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path(), "sort", "sort", (2, 5));
    for (key, value) in
        [("steps", "150"), ("batch", "32"), ("dropout", "0"), ("lr", "0.01"), ("hidden", "32")]
    {
        run.set(key, value).unwrap();
    }
    run.evaluate.every = 0;
    run.checkpoint.every = 0;
    train(&run, &mut quiet).unwrap();
    let folder = resume::find(Path::new(&run.checkpoint.folder), "last").unwrap();
    let model = checkpoint::load(&folder).unwrap();
    let (law, pool) = (law(&run, 5).unwrap(), Pool::new(2));
    let both = (&model.config, &model.weights);
    let found = examine(both, &pool, &*law, Part::HeldOut, (50, 16, 5)).unwrap();
    assert_eq!((found.rows, found.tokens, found.right), (50, 150, Some(50)));
    assert!(found.loss < 0.1, "{found:?}");
    assert!((found.yardsticks[0].1 - 2f64.ln()).abs() < 1e-9, "{found:?}");
    // One that has learned nothing is right now and then at most.
    let fresh = crate::model::weights::Weights::init(&model.config, 1);
    let found = examine((&model.config, &fresh), &pool, &*law, Part::HeldOut, (50, 16, 5)).unwrap();
    assert!(found.right.unwrap() < 40 && found.loss > 0.5, "{found:?}");
}
