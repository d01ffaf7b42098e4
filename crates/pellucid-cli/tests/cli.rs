//! The binary as a user meets it: exit codes, what goes to stdout and stderr, closed pipes.

#![allow(clippy::print_stderr)] // Skipped tests say so.

mod common;

use common::{ok, pellucid, text};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn errors_go_to_stderr_with_exit_code_1_and_usage_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let missing = pellucid(&["generate", "nowhere", "hello"], folder.path());
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.stdout.is_empty());
    let said = text(&missing.stderr);
    assert!(said.starts_with("error: ") && said.contains("nowhere"), "{said}");
    assert!(said.contains("hint: "), "{said}");
    assert_eq!(pellucid(&["generate"], folder.path()).status.code(), Some(2));
    assert_eq!(pellucid(&["no-such-command"], folder.path()).status.code(), Some(2));
    assert_eq!(pellucid(&["--version"], folder.path()).status.code(), Some(0));
}

#[test]
fn unknown_keys_are_named_with_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = pellucid(&["train", "--data", "x", "--train.stps", "5"], folder.path());
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong.stderr);
    assert!(said.contains("train.steps"), "{said}");
    let none = pellucid(&["train"], folder.path());
    assert!(text(&none.stderr).contains("--data"), "{}", text(&none.stderr));
}

#[test]
fn the_printed_config_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--train.steps", "7", "--optimizer.lr=0.5", "--model.positions", "rotary"];
    let toml = ok(&[&["train", "--print-config"][..], &flags].concat(), folder.path());
    assert!(toml.contains("steps = 7") && toml.contains("lr = 0.5"), "{toml}");
    assert!(toml.contains("positions = \"rotary\""), "{toml}");
    std::fs::write(folder.path().join("run.toml"), &toml).unwrap();
    assert_eq!(ok(&["train", "run.toml", "--print-config"], folder.path()), toml);
}

#[test]
fn completions_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = ok(&["completions", shell], folder.path());
        assert!(script.contains("tokenize") && script.contains("doctor"));
    }
}

#[test]
fn a_closed_pipe_is_silent() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pellucid"))
        .args(["inspect", "gpt2", "--list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{:?}", out.status);
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
}

#[test]
fn inspect_counts_gpt2() {
    let folder = tempfile::tempdir().unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&ok(&["inspect", "gpt2", "--json"], folder.path())).unwrap();
    assert_eq!(json["parameters"], 124_439_808);
    // 2 * (12 * 12 * 768² + 50257 * 768) + 4 * 12 * 768 * 512.
    assert_eq!(json["flops_per_token"]["forward"], 265_938_432u64);
    assert_eq!(json["bytes"]["cache_per_token"], 8 * 12 * 768);
}

#[test]
fn a_tokenizer_is_learnt_and_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let words = "the cat sat on the mat and the dog sat on the log\n".repeat(50);
    std::fs::write(folder.path().join("a.txt"), words).unwrap();
    ok(&["tokenize", "train", "a.txt", "--out", "tok", "--vocab", "300"], folder.path());
    let ids = ok(&["tokenize", "encode", "tok", "the cat sat"], folder.path());
    let list: Vec<&str> = ids.split_whitespace().collect();
    let decoded = ok(&[&["tokenize", "decode", "tok"][..], &list].concat(), folder.path());
    assert_eq!(decoded, "the cat sat\n");
    let about = ok(&["tokenize", "inspect", "tok", "--json"], folder.path());
    let about: serde_json::Value = serde_json::from_str(&about).unwrap();
    assert!(about["vocab"].as_u64().unwrap() > 256 && about["special"]["eos"].is_u64());
    let bad = pellucid(&["tokenize", "decode", "tok", "99999"], folder.path());
    assert_eq!(bad.status.code(), Some(1));
}

#[test]
fn train_generate_eval_and_continue() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("a.txt"), "hello world, hello moon. ".repeat(200)).unwrap();
    let flags = "--data a.txt --out run --model.layers 1 --model.width 32 --model.heads 2 --time 16 \
                 --batch 4 --lr 1e-2 --schedule.warmup 2 --evaluate.every 10 --evaluate.batches 2 --threads 1";
    let train = |steps: &str| -> serde_json::Value {
        let mut args: Vec<&str> = vec!["train", "--json", "--steps", steps];
        args.extend(flags.split_whitespace());
        serde_json::from_str(ok(&args, path).trim()).unwrap()
    };
    let first = train("20");
    assert_eq!(first["step"], 20);
    let second = train("40");
    assert_eq!(second["step"], 40);
    assert!(second["loss"].as_f64() < first["loss"].as_f64(), "{first} {second}");
    let continued =
        ok(&["generate", "run", "hello", "-n", "5", "-t", "0", "--json", "--threads", "1"], path);
    let row: serde_json::Value = serde_json::from_str(continued.trim()).unwrap();
    assert_eq!(row["ids"].as_array().unwrap().len(), 5);
    assert_eq!(row["stop"], "max tokens");
    let plain = ok(&["generate", "run", "hello", "-n", "5", "-t", "0", "--threads", "1"], path);
    speculation_changes_no_token(path);
    assert_eq!(plain.trim_end(), format!("hello{}", row["text"].as_str().unwrap()).trim_end());
    let long = "hello ".repeat(10);
    let refused = pellucid(&["generate", "run", &long], path);
    assert!(text(&refused.stderr).contains("--truncate-prompt"), "{}", text(&refused.stderr));
    ok(&["generate", "run", &long, "--truncate-prompt", "-n", "2"], path);
    let scores = ok(&["eval", "run", "a.txt", "--json", "--threads", "1"], path);
    let scores: serde_json::Value = serde_json::from_str(scores.trim()).unwrap();
    let (loss, bits) =
        (scores["loss"].as_f64().unwrap(), scores["bits_per_byte"].as_f64().unwrap());
    // One character is one byte here.
    assert!((bits - loss / std::f64::consts::LN_2).abs() < 1e-6, "{scores}");
    assert!(ok(&["inspect", "run"], path).contains("L=1 blocks"));
}

/// The first Ctrl-C saves and stops; the run then goes on from there.
#[cfg(unix)]
/// The run in `path` says the same with tokens guessed ahead, and tells what came of them.
fn speculation_changes_no_token(path: &Path) {
    let said = |flags: &[&str]| -> serde_json::Value {
        let base = ["generate", "run", "hello", "-n", "12", "-t", "0", "--json"];
        serde_json::from_str(&ok(&[&base[..], flags].concat(), path)).expect("an object")
    };
    let plain = said(&[]);
    assert!(plain["seconds"].as_f64().is_some_and(|s| s > 0.0) && plain["speculation"].is_null());
    for flags in [&["--speculate", "ngram"][..], &["--speculate", "run", "--speculate-tokens", "3"]]
    {
        let guessed = said(flags);
        assert_eq!(guessed["ids"], plain["ids"], "{flags:?}");
        let told = |key: &str| guessed["speculation"][key].as_u64().expect(key);
        assert!(told("accepted") <= told("proposed") && told("target_calls") <= 11, "{guessed}");
    }
    for kind in ["bf16", "int8", "int4"] {
        let plain = said(&["--weights", kind]);
        for who in ["ngram", "run"] {
            let guessed = said(&["--weights", kind, "--speculate", who]);
            assert_eq!(guessed["ids"], plain["ids"], "{kind} {who}");
        }
    }
    let refused = pellucid(
        &["generate", "run", "h", "--speculate", "ngram", "--speculate-tokens", "8"],
        path,
    );
    assert!(text(&refused.stderr).contains("at most 7"), "{}", text(&refused.stderr));
    let nowhere = pellucid(&["generate", "run", "h", "--speculate", "nowhere"], path);
    assert!(text(&nowhere.stderr).contains("nowhere"), "{}", text(&nowhere.stderr));
}

#[test]
fn ctrl_c_saves_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("a.txt"), "one two three four. ".repeat(100)).unwrap();
    let flags = "train --json --data a.txt --out run --model.layers 1 --model.width 16 --model.heads 1 \
                 --time 8 --batch 2 --threads 1 --evaluate.every 0";
    let mut args: Vec<&str> = flags.split_whitespace().collect();
    let child = Command::new(env!("CARGO_BIN_EXE_pellucid"))
        .args(&args)
        .args(["--steps", "10000000"])
        .current_dir(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = || std::fs::metadata(path.join("run/metrics.jsonl")).is_ok_and(|m| m.len() > 200);
    for _ in 0..600 {
        if begun() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(begun(), "training never began");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{:?} {}", out.status, text(&out.stderr));
    let stopped: serde_json::Value = serde_json::from_str(text(&out.stdout).trim()).unwrap();
    assert_eq!(stopped["reason"], "stopped on request");
    let step = stopped["step"].as_u64().unwrap();
    assert!(path.join("run").join(format!("step-{step:08}")).is_dir());
    let more = (step + 3).to_string();
    args.extend(["--steps", &more]);
    let on: serde_json::Value = serde_json::from_str(ok(&args, path).trim()).unwrap();
    assert_eq!((on["step"].as_u64(), &on["reason"]), (Some(step + 3), &"all steps done".into()));
}

#[test]
fn the_quick_demo_learns_answers_and_looks_inside() {
    let folder = tempfile::tempdir().unwrap();
    let said = ok(&["demo", "--quick", "--threads", "1"], folder.path());
    for part in ["A small world", "right answers", "logit lens", "Next:", "curve.svg"] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    let svg = std::fs::read_to_string(folder.path().join("runs/demo/attention.svg")).unwrap();
    assert!(svg.contains("who looks at whom"));
    // Again: nothing is trained, the same is shown.
    let again = ok(&["demo", "--quick", "--threads", "1"], folder.path());
    assert_eq!(said, again);
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    let refused = pellucid(&["demo", "--quick", "--fresh", "--out", "mine"], folder.path());
    assert!(text(&refused.stderr).contains("no demo wrote"), "{}", text(&refused.stderr));
}

#[test]
fn stories_260k_is_imported_and_tells_its_story() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/stories260K");
    let (Ok(weights), Ok(golden)) = (
        shared.join("stories260K.repaired.bin").canonicalize(),
        std::fs::read_to_string(shared.join("golden_greedy_ids.txt")),
    ) else {
        // Past the test harness, which hides what passing tests print.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no {}\n", shared.display()),
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let weights = weights.display().to_string();
    ok(&["import", &weights, "--out", "stories"], folder.path());
    let golden: Vec<&str> = golden.split_whitespace().collect();
    let flags = ["--ids", "1", "-t", "0", "-n", "200", "--threads", "1"];
    let said = ok(&[&["generate", "stories"][..], &flags].concat(), folder.path());
    let said: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(said.len(), 200);
    assert_eq!(said, golden[..200]);
    let refused = pellucid(&["generate", "stories", "Once"], folder.path());
    assert!(text(&refused.stderr).contains("--ids"), "{}", text(&refused.stderr));
}

#[test]
fn a_model_is_quantised_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let words = "the cat sat on the mat and the dog sat on the log\n".repeat(60);
    std::fs::write(folder.path().join("text.txt"), words).unwrap();
    let sizes = ["--model.layers", "2", "--model.width", "32", "--model.heads", "2"];
    let rest = ["--train.steps", "30", "--train.time", "16", "--data.tokenizer", "characters"];
    let train = ["train", "--data", "text.txt", "--checkpoint.folder", "run"];
    ok(&[&train[..], &sizes, &rest].concat(), folder.path());
    let loss = |args: &[&str]| -> f64 {
        let said = ok(
            &[&["eval"][..], args, &["text.txt", "--time", "16", "--json"]].concat(),
            folder.path(),
        );
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        value["loss"].as_f64().unwrap()
    };
    let plain = loss(&["run"]);
    for (kind, most) in [("bf16", 0.02), ("int8", 0.02), ("int4", 0.5)] {
        let said = ok(&["quantise", "run", "--to", kind, "--out", kind], folder.path());
        assert!(said.contains(kind), "{said}");
        let (held, read) = (loss(&["run", "--weights", kind]), loss(&[kind]));
        assert!((held - plain).abs() < most, "{kind}: {held} {plain}");
        assert!((read - held).abs() < 0.02, "{kind}: {read} {held}");
        assert!((loss(&[kind, "--weights", "f32"]) - read).abs() < 0.02);
        ok(&["generate", kind, "the ", "-n", "5", "-t", "0"], folder.path());
        ok(&["generate", "run", "the ", "-n", "5", "--weights", kind], folder.path());
    }
    let wrong = pellucid(&["generate", "int4", "a", "--weights", "int8"], folder.path());
    assert!(
        text(&wrong.stderr).contains("holds int4, but int8 is asked for"),
        "{}",
        text(&wrong.stderr)
    );
    let same = pellucid(&["quantise", "int4", "--to", "int4", "--out", "int4"], folder.path());
    assert!(text(&same.stderr).contains("would replace what it is made from"));
    ok(
        &["bench", "decode", "--recipe", "tiny", "--weights", "int4", "--tokens", "4"],
        folder.path(),
    );
    ok(
        &["bench", "prompt", "--recipe", "tiny", "--weights", "int8", "--tokens", "40"],
        folder.path(),
    );
}

/// Trains on words with tags and scores the tagger, for people and for scripts.
#[test]
fn a_tagger_is_trained_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tokenizer = here.join("../pellucid/tests/golden/text/bert.json");
    std::fs::copy(tokenizer, path.join("tokenizer.json")).unwrap();
    let sentence = "The O\nfox B-ANIMAL\nplayed O\n\na O\nlazy B-ANIMAL\ndog I-ANIMAL\nwon O\n\n";
    std::fs::write(path.join("train.conll"), sentence.repeat(8)).unwrap();
    let flags = "train --json --data train.conll --data.task tags --data.tokenizer tokenizer.json --out run \
                 --model.preset bert-mini --model.layers 1 --model.width 32 --model.heads 2 --time 32 --batch 8 \
                 --steps 60 --lr 1e-2 --evaluate.every 60 --threads 1";
    ok(&flags.split_whitespace().collect::<Vec<_>>(), path);
    let metrics = std::fs::read_to_string(path.join("run/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"validation_accuracy\":1.0"), "{metrics}");
    // The held-out file has one entity that the model cannot know to be none, and says so.
    let wrong = "The O\nfox O\nplayed O\n\na O\nlazy B-ANIMAL\ndog I-ANIMAL\nwon O\n\u{200d} O\n";
    std::fs::write(path.join("dev.conll"), wrong).unwrap();
    let scores = ok(&["eval", "run", "dev.conll", "--json", "--threads", "1"], path);
    let scores: serde_json::Value = serde_json::from_str(scores.trim()).unwrap();
    let animal = serde_json::json!({"precision": 0.5, "recall": 1.0, "f1": 2.0 / 3.0, "right": 1, "given": 2});
    assert_eq!(scores["types"]["ANIMAL"], animal, "{scores}");
    assert_eq!((&scores["f1"], &scores["accuracy"]), (&animal["f1"], &0.875.into()));
    assert_eq!((&scores["words"], &scores["words_without_tag"]), (&8.into(), &1.into()));
    let said = ok(&["eval", "run", "dev.conll", "--threads", "1"], path);
    let lines: Vec<Vec<&str>> = said.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["precision", "recall", "F1", "entities"]);
    assert_eq!(lines[1], ["ANIMAL", "0.5000", "1.0000", "0.6667", "1"]);
    assert_eq!(lines[2], ["all", "0.5000", "1.0000", "0.6667", "1"]);
    assert!(said.contains("8 words in 2 sentences: accuracy 0.8750"), "{said}");
    assert!(said.contains("1 word got no tag"), "{said}");
    // Another file's fields by name, and what the model does not know.
    let json = r#"{"w": ["fox", "won"], "t": ["B-ANIMAL", "X"]}"#;
    std::fs::write(path.join("dev.jsonl"), json).unwrap();
    let refused = pellucid(&["eval", "run", "dev.jsonl", "--columns", "w,t"], path);
    let refused = text(&refused.stderr);
    assert!(refused.contains("dev.jsonl:1: unknown label \"X\""), "{refused}");
}
