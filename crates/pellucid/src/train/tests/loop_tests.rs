//! What the loop refuses, warns of, keeps and gives up.

use super::*;
use crate::error::Kind;
use crate::train::evaluate::evaluate;
use crate::train::pretrain::{Reason, pretrain};

#[test]
fn old_checkpoints_go_and_the_best_stays() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path(), 12);
    run.evaluate.every = 2;
    run.checkpoint.every = 1;
    let bowl = Bowl { rising: 1.0, ..Bowl::default() };
    let mut evaluations = Vec::new();
    let mut observer = |event: &Event<'_>| {
        if let Event::Evaluated { step, best, .. } = event {
            evaluations.push((*step, *best));
        }
        Control::Continue
    };
    let trial = Trial { bowl, ..Trial::default() };
    let outcome = trial.train(&run, Disk::default(), &mut observer).unwrap();
    assert_eq!(evaluations[..2], [(2, true), (4, false)]);
    assert_eq!(outcome.best.unwrap().1, 2);
    let names = Disk::default().list(root.path()).unwrap();
    let steps: Vec<_> = names.iter().filter(|n| n.starts_with("step-")).collect();
    assert_eq!(steps, ["step-00000002", "step-00000011", "step-00000012"]);
    assert!(names.contains(&"curve.svg".into()) && names.contains(&"run.toml".into()));
    assert_eq!(resume::find(root.path(), "best").unwrap(), root.path().join("step-00000002"));
}

#[test]
fn patience_ends_the_run_and_is_remembered() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path(), 100);
    run.evaluate.every = 1;
    run.evaluate.patience = 3;
    let rising = || Trial { bowl: Bowl { rising: 1.0, ..Bowl::default() }, ..Trial::default() };
    let outcome = rising().train(&run, Disk::default(), &mut quiet).unwrap();
    assert_eq!((outcome.reason, outcome.step), (Reason::NoImprovement, 4));
    let outcome = rising().train(&run, Disk::default(), &mut quiet).unwrap();
    assert_eq!((outcome.reason, outcome.step), (Reason::NoImprovement, 4));
}

#[test]
fn not_a_number_stops_with_names_and_leaves_the_good_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let run = settings(root.path(), 12);
    let name = "blocks.0.mlp.in.weight";
    for bowl in [
        Bowl { poison: Some((15, name)), ..Bowl::default() },
        Bowl { poison: Some((15, name)), nan_loss: Some(15), ..Bowl::default() },
    ] {
        let trial = Trial { bowl, ..Trial::default() };
        let error = trial.train(&run, Disk::default(), &mut quiet).unwrap_err();
        assert_eq!(error.kind(), Kind::Numeric);
        let text = error.to_string();
        for part in ["at step 8", name, "element 1 is NaN", "last good checkpoint: ", "step 6"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
    train(&run).unwrap();
    let other = root.path().join("other");
    train(&settings(&other, 12)).unwrap();
    assert!(result(root.path()) == result(&other));
}

#[test]
fn a_missing_gradient_is_an_error_and_a_zero_one_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let bowl = Bowl { missing: Some("blocks.0.attn.out.weight"), ..Bowl::default() };
    let trial = Trial { bowl, ..Trial::default() };
    let error = trial.train(&settings(root.path(), 3), Disk::default(), &mut quiet).unwrap_err();
    assert_eq!(error.kind(), Kind::Gradient);
    let text = error.to_string();
    assert!(text.contains("blocks.0.attn.out.weight: 16 of 16 elements"), "{text}");
    // The same parameter may be frozen.
    let mut run = settings(root.path(), 3);
    run.optimizer.frozen = vec!["blocks.0.attn.out.*".into()];
    let bowl = Bowl {
        missing: Some("blocks.0.attn.out.weight"),
        zero: Some("norm.bias"),
        ..Bowl::default()
    };
    let mut warnings = Vec::new();
    let mut observer = |event: &Event<'_>| {
        if let Event::Warning(text) = event {
            warnings.push((*text).to_owned());
        }
        Control::Continue
    };
    Trial { bowl, ..Trial::default() }.train(&run, Disk::default(), &mut observer).unwrap();
    assert_eq!(warnings, ["the gradient of norm.bias is all zero at the first step"]);
}

#[test]
fn a_different_run_is_refused_with_all_differences() {
    let root = tempfile::tempdir().unwrap();
    train(&settings(root.path(), 4)).unwrap();
    let mut run = settings(root.path(), 8);
    run.train.seed = 5;
    run.optimizer.lr = Some(0.01);
    let config = Config { dropout: 0.5, ..config() };
    let trial = Trial { data: Noise { name: "other" }, config, ..Trial::default() };
    let text = trial.train(&run, Disk::default(), &mut quiet).unwrap_err().to_string();
    for part in [
        "made by a different run",
        "model.dropout was 0.0, now 0.5",
        "fingerprint was noise, now other",
        "train.seed was 1337, now 5",
        "train.steps, optimizer.*",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    run.train.seed = 1337;
    let mut warnings = Vec::new();
    let mut observer = |event: &Event<'_>| {
        if let Event::Warning(text) = event {
            warnings.push((*text).to_owned());
        }
        Control::Continue
    };
    let outcome = Trial::default().train(&run, Disk::default(), &mut observer).unwrap();
    assert_eq!(outcome.step, 8);
    assert!(warnings.iter().any(|w| w.contains("optimizer.lr was 0.05, now 0.01")), "{warnings:?}");
    // Two processes in one folder.
    let folder = resume::RunFolder::open(root.path(), Disk::default()).unwrap();
    let text = train(&run).unwrap_err().to_string();
    assert!(text.contains("another process trains"), "{text}");
    drop(folder);
    // A newer program's state.
    let state = resume::find(root.path(), "last").unwrap().join("state.json");
    std::fs::write(&state, "{\"version\": 99}").unwrap();
    let text = train(&run).unwrap_err().to_string();
    assert!(text.contains("version 99; this program reads version 1"), "{text}");
}

#[test]
fn evaluation_is_the_mean_over_counted_targets() {
    let (mut bowl, data, weights) =
        (Bowl::default(), Noise { name: "" }, Weights::init(&config(), 1));
    let mut batch = Batch::default();
    let (mut sum, mut count) = (0.0, 0);
    for number in 0..3 {
        data.validation(number, &mut batch).unwrap();
        for p in 0..B * T {
            if batch.targets[p] != IGNORE {
                sum += f64::from((weights.data()[p] - Bowl::target(&batch.ids, p)).abs());
                count += 1;
            }
        }
    }
    let pool = Pool::new(1);
    let found = evaluate(&mut bowl, &pool, &weights, &data, &mut batch).unwrap();
    assert_eq!((found.tokens, count), (21, 21));
    assert!((found.loss - sum / 21.0).abs() < 1e-12);
    assert!((found.perplexity - found.loss.exp()).abs() < 1e-12);
    assert!((found.bits_per_byte.unwrap() - found.loss / 2f64.ln() / 2.0).abs() < 1e-12);
}

#[test]
fn public_entry_needs_no_disk() {
    let root = tempfile::tempdir().unwrap();
    let (run, config) = (settings(root.path(), 2), config());
    let job = Job {
        run: &run,
        config: &config,
        weights: &mut Weights::init(&config, 1),
        graph: &mut Bowl::default(),
        data: &Noise { name: "" },
        store: &Plain,
        pool: &Pool::new(1),
    };
    assert_eq!(pretrain(job, &mut quiet).unwrap().step, 2);
}
