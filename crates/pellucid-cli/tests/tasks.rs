//! `pellucid eval --task` against what `transformers` and numpy found on the same lines.

mod common;

use common::{ok, refused};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pellucid/tests/golden").join(path)
}

/// A folder with the golden model and its tokenizer in `model`, and the lines of both tasks.
fn prepared(folder: &Path) -> Value {
    let model = folder.join("model");
    std::fs::create_dir(&model).unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        std::fs::copy(golden("tasks").join(name), model.join(name)).unwrap();
    }
    std::fs::copy(golden("text/roberta.json"), model.join("tokenizer.json")).unwrap();
    let text = std::fs::read_to_string(golden("tasks/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    for task in ["choice", "last_word"] {
        let lines = expected[task]["lines"].as_array().unwrap();
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(folder.join(format!("{task}.jsonl")), lines).unwrap();
    }
    expected
}

fn close(found: &Value, name: &str, wanted: &Value) {
    let close = |found: &Value, wanted: &Value| {
        let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
        assert!(
            (found - wanted).abs() <= 2e-4 * wanted.abs().max(1.0),
            "{name}: {found}, not {wanted}"
        );
    };
    close(&found[name], &wanted[0]);
    close(&found[format!("{name}_stderr")], &wanted[1]);
}

#[test]
fn tasks_measure_what_python_measures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let expected = prepared(path);
    for (task, file) in [("choice", "choice"), ("last-word", "last_word")] {
        let args = ["eval", "model", &format!("{file}.jsonl"), "--task", task, "--json"];
        let found: Value = serde_json::from_str(&ok(&args, path)).unwrap();
        assert_eq!(found["task"], task);
        let lines = expected[file]["lines"].as_array().unwrap().len();
        assert_eq!(found["questions"].as_u64(), Some(lines as u64));
        let results = found["results"].as_array().unwrap();
        assert_eq!((results.len(), results[0]["shots"].as_u64()), (1, Some(0)));
        for (name, wanted) in expected[file]["found"].as_object().unwrap() {
            close(&results[0], name, wanted);
        }
        assert_eq!(results[0]["cut"], expected[file]["cut"]);
        assert!(results[0]["cut"].as_u64() > Some(0));
    }
}

#[test]
fn shots_give_a_table_and_a_plot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    prepared(path);
    let args = [
        "eval",
        "model",
        "choice.jsonl",
        "--task",
        "choice",
        "--shots",
        "0,1,2",
        "--separator",
        "\\n",
    ];
    let said = ok(&args, path);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("shots  acc ") && lines[0].contains("acc_norm"), "{said}");
    for (line, shots) in lines[1..4].iter().zip(["    0  0.2857 ± 0.1844 ", "    1  ", "    2  "])
    {
        assert!(line.starts_with(shots) && line.matches('±').count() == 3, "{said}");
    }
    assert!(
        said.contains("7 questions; blind guessing 0.3") && said.contains("acc over shots"),
        "{said}"
    );
    assert!(
        said.contains("after 2 shots and were cut on the left") && said.contains('┤'),
        "{said}"
    );
    assert_eq!(said, ok(&args, path));
    let last = ["eval", "model", "last_word.jsonl", "--task", "last-word", "--limit", "3"];
    let said = ok(&last, path);
    assert!(said.contains("perplexity") && said.contains("3 questions;"), "{said}");
}

#[test]
fn what_a_task_cannot_do_is_said_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    prepared(path);
    let choice = ["eval", "model", "choice.jsonl", "--task", "choice"];
    let more = |more: &[&'static str]| [&choice[..], more].concat();
    refused(
        &more(&["--shots", "7"]),
        path,
        &["choice.jsonl: 6 examples", "choice.jsonl:1, but 7 shots"],
    );
    refused(&more(&["--template", "Q: {question}"]), path, &["{answer} once"]);
    refused(&more(&["choice.jsonl"]), path, &["2 files, but a task has one"]);
    refused(
        &more(&["--examples", "last_word.jsonl"]),
        path,
        &["last_word.jsonl:1: no field \"question\""],
    );
    refused(
        &["eval", "model", "choice.jsonl", "--task", "last-word"],
        path,
        &["choice.jsonl:1: no field \"text\""],
    );
    refused(&["eval", "model", "choice.jsonl", "--shots", "1"], path, &["--task"]);
    let long = format!("{{\"text\": \"a {}\"}}\n", "x".repeat(60));
    std::fs::write(path.join("long.jsonl"), format!("{{\"text\": \"a b\"}}\n{long}")).unwrap();
    refused(
        &["eval", "model", "long.jsonl", "--task", "last-word"],
        path,
        &["but the context holds 24", "long.jsonl:2"],
    );
}

#[test]
fn an_encoder_decoder_has_a_perplexity_on_pairs_and_takes_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let pairs: String = (0..40).map(|i| format!("der hund {i}\tthe dog {i}\n")).collect();
    std::fs::write(path.join("pairs.tsv"), &pairs).unwrap();
    for (name, side) in [("de.txt", 0), ("en.txt", 1)] {
        let lines: String = pairs
            .lines()
            .map(|line| format!("{}\n", line.split('\t').nth(side).unwrap_or("")))
            .collect();
        std::fs::write(path.join(name), lines).unwrap();
    }
    let flags = "train --data.train de.txt --data.target en.txt --data.task translation --out run --model.preset transformer-tiny \
                 --model.layers 1 --model.decoder_layers 1 --model.width 16 --model.heads 2 --data.tokenizer bpe --data.vocab 300 --steps 30 \
                 --batch 16 --threads 1";
    ok(&flags.split_whitespace().collect::<Vec<_>>(), path);
    let loss = |data: &[&str]| -> Value {
        let said = ok(&[&["eval", "run"][..], data, &["--json"]].concat(), path);
        serde_json::from_str(&said).unwrap()
    };
    let (table, files) = (loss(&["pairs.tsv"]), loss(&["de.txt", "en.txt"]));
    assert_eq!(table, files);
    assert_eq!(table["pairs"], 40);
    let loss = table["loss"].as_f64().unwrap();
    assert!(loss > 0.0 && loss < 7.0, "{table}");
    assert!((table["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-6);
    refused(&["eval", "run", "de.txt"], path, &["de.txt"]);
    let line =
        "{\"context\": \"der hund 3\", \"choices\": [\"the dog 3\", \"x\"], \"answer\": 0}\n";
    std::fs::write(path.join("q.jsonl"), line).unwrap();
    let said = ok(&["eval", "run", "q.jsonl", "--task", "choice"], path);
    assert!(said.contains("1 questions; blind guessing 0.5"), "{said}");
}
