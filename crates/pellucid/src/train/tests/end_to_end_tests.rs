//! Text to checkpoint with the real tokenizer, shards, Transformer and files.

use crate::checkpoint;
use crate::error::Kind;
use crate::text::Tokenizer;
use crate::train::launch::train;
use crate::train::log;
use crate::train::pretrain::{Control, Event, Outcome, Reason};
use crate::train::resume;
use crate::train::run::{RecomputeKind, RunConfig, TrainKeys};
use crate::train::tasks::translation::Frame;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn settings(root: &Path, name: &str) -> RunConfig {
    let text = root.join("text.txt");
    if !text.exists() {
        let lines: String = (0..400)
            .map(|i| format!("the {} cat sat on mat {}.\n", ["red", "blue", "old"][i % 3], i % 7))
            .collect();
        std::fs::write(&text, lines).unwrap();
    }
    let mut run = RunConfig::default();
    for (key, value) in [
        ("data.train", text.to_str().unwrap()),
        ("steps", "24"),
        ("batch", "4"),
        ("time", "32"),
        ("accumulation", "2"),
        ("layers", "2"),
        ("width", "32"),
        ("heads", "2"),
        ("dropout", "0.1"),
        ("lr", "0.01"),
        ("evaluate.every", "6"),
        ("evaluate.batches", "3"),
        ("checkpoint.every", "4"),
        ("threads", "2"),
    ] {
        run.set(key, value).unwrap();
    }
    run.checkpoint.folder = root.join(name).to_string_lossy().into();
    run
}

pub(super) fn quiet(_: &Event<'_>) -> Control {
    Control::Continue
}

/// Bytes of weights and moments, and the metrics without speeds.
fn result(outcome: &Outcome, run: &RunConfig) -> (BTreeMap<&'static str, Vec<u8>>, Vec<log::Line>) {
    let files = ["model.safetensors", "optimizer.safetensors", "tokenizer.json", "config.json"];
    let bytes = files.map(|n| (n, std::fs::read(outcome.folder.join(n)).unwrap()));
    let path = Path::new(&run.checkpoint.folder).join("metrics.jsonl");
    let mut lines = log::read(&path).unwrap();
    lines.iter_mut().for_each(|l| l.tokens_per_second = None);
    (BTreeMap::from(bytes), lines)
}

#[test]
fn a_character_model_learns_and_continues_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    let run = settings(root.path(), "straight");
    let mut data = None;
    let mut observer = |event: &Event<'_>| {
        if let Event::Data { train, validation, vocab, bytes_per_token, .. } = event {
            data = Some((*train, *validation, *vocab, *bytes_per_token));
        }
        Control::Continue
    };
    let outcome = train(&run, &mut observer).unwrap();
    let (tokens, held, vocab, bytes) = data.unwrap();
    assert!(tokens > 8 * held && held > 500 && (20..40).contains(&vocab), "{data:?}");
    assert_eq!(bytes, Some(1.0));
    let straight = result(&outcome, &run);
    let first = straight.1[0].loss.unwrap();
    assert!((first - (vocab as f64).ln()).abs() < 0.2, "{first} is not ln {vocab}");
    assert!(outcome.best.unwrap().0 < first - 0.5, "{outcome:?}");
    // Stopped twice, each time by a fresh call that knows only the folder.
    let again = settings(root.path(), "stopped");
    for stop in [5, 13] {
        let mut observer = |event: &Event<'_>| match event {
            Event::Step(report) if report.step == stop => Control::Stop,
            _ => Control::Continue,
        };
        assert_eq!(train(&again, &mut observer).unwrap().reason, Reason::Asked);
    }
    let outcome = train(&again, &mut quiet).unwrap();
    assert!(result(&outcome, &again) == straight);
    // What was written is a checkpoint for everybody else.
    let best = resume::find(Path::new(&again.checkpoint.folder), "best").unwrap();
    let loaded = checkpoint::load(&best).unwrap();
    assert_eq!((loaded.config.vocab, loaded.config.layers), (vocab, 2));
    let tokenizer = Tokenizer::from_json(loaded.tokenizer.unwrap()).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("the cat").unwrap()).unwrap(), "the cat");
    // Other text is another run.
    let path = root.path().join("text.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("red", "old")).unwrap();
    let error = train(&again, &mut quiet).unwrap_err();
    assert!(error.to_string().contains("the data's fingerprint was"), "{error}");
}

#[test]
fn every_recomputation_and_tokenizer_trains() {
    let root = tempfile::tempdir().unwrap();
    let mut losses = Vec::new();
    for (name, recompute) in
        [("nothing", RecomputeKind::Nothing), ("blocks", RecomputeKind::Blocks)]
    {
        let mut run = settings(root.path(), name);
        run.train.recompute = recompute;
        run.train.steps = 6;
        let outcome = train(&run, &mut quiet).unwrap();
        losses.push(result(&outcome, &run));
    }
    assert!(losses[0] == losses[1], "recomputation changes no bit");
    for (name, tokenizer) in [("b", "bytes"), ("bpe", "bpe")] {
        let mut run = settings(root.path(), name);
        run.data.tokenizer = tokenizer.into();
        run.data.vocab = 300;
        run.train.steps = 4;
        run.model.preset = "llama".into();
        run.model.depth = Some(1);
        run.model.layers = None;
        let outcome = train(&run, &mut quiet).unwrap();
        let lines = result(&outcome, &run).1;
        assert!(lines.last().unwrap().bits_per_byte.unwrap() > 0.0, "{lines:?}");
        let step = |n: u64| {
            let folder = Path::new(&run.checkpoint.folder).join(resume::step_name(n));
            checkpoint::load(&folder).unwrap().generation
        };
        // A longer run, continued with the tokenizer that the checkpoint holds: even its special tokens.
        let longer =
            RunConfig { train: TrainKeys { steps: 6, ..run.train.clone() }, ..run.clone() };
        assert_eq!(train(&longer, &mut quiet).unwrap().step, 6);
        assert!(step(4) == step(6));
        assert_eq!(step(6).eos.len(), usize::from(tokenizer == "bpe"));
    }
}

#[test]
fn a_model_larger_than_the_machine_is_refused_before_anything_is_made() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path(), "huge");
    run.model.width = Some(1 << 16);
    run.model.layers = Some(500);
    let error = train(&run, &mut quiet).unwrap_err();
    if cfg!(target_os = "linux") {
        assert_eq!(error.kind(), Kind::Resource, "{error}");
        assert!(error.to_string().contains("needs more than"), "{error}");
    }
}

const CHILD: &str = "PELLUCID_TEST_KILLED_TRAINING";

/// Not a test of its own: the process that the next test kills.
#[test]
fn killed_child() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let mut run = settings(Path::new(&root), "killed");
    run.checkpoint.every = 1;
    train(&run, &mut quiet).unwrap();
}

#[test]
fn kill_minus_nine_during_real_training_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path(), "alone");
    run.checkpoint.every = 1;
    let alone = result(&train(&run, &mut quiet).unwrap(), &run);
    let folder = root.path().join("killed");
    let mut kills = 0;
    let mut child_done = false;
    for attempt in 0u64..60 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "train::tests::end_to_end_tests::killed_child"])
            .env(CHILD, root.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Killed at another moment each time: after a while with at least one more checkpoint.
        let before = std::fs::read(folder.join("last")).ok();
        while kills < 8 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_micros(500 + 1700 * (attempt % 5)));
            if std::fs::read(folder.join("last")).ok() != before {
                std::thread::sleep(std::time::Duration::from_micros(900 * attempt));
                break;
            }
        }
        if kills < 8 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        } else if child.wait().unwrap().success() {
            child_done = true;
            break;
        }
    }
    assert!(child_done && kills >= 3, "{kills} kills");
    run.checkpoint.folder = folder.to_string_lossy().into();
    let outcome = train(&run, &mut quiet).unwrap();
    assert!(result(&outcome, &run) == alone);
}

/// A tokenizer that says it adds nothing means so in training, as it does in translating.
#[test]
fn a_source_ends_as_its_tokenizer_says() {
    let json = |template: &str| {
        format!(
            r#"{{"version": "1.0", "pre_tokenizer": {{"type": "WhitespaceSplit"}},
                "added_tokens": [{{"id": 0, "content": "</s>", "special": true, "single_word": false,
                                   "lstrip": false, "rstrip": false, "normalized": false}}],
                "post_processor": {template},
                "model": {{"type": "WordLevel", "vocab": {{"</s>": 0, "a": 1}}, "unk_token": "a"}}}}"#
        )
    };
    let alone = r#"{"type": "TemplateProcessing", "special_tokens": {},
        "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]}"#;
    for (template, wanted) in [("null", &[1, 1, 0][..]), (alone, &[1, 1])] {
        let tokenizer = Tokenizer::from_json(json(template)).unwrap();
        let frame = Frame::of(&tokenizer).unwrap();
        assert_eq!(frame.source(&tokenizer.encode("a a").unwrap()), wanted);
    }
}
