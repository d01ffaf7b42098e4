//! Questions about the inside, through the binary.

mod common;

use common::{ok, pellucid, text};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pellucid/tests/golden");
    root.join(name).display().to_string()
}

fn json(args: &[&str]) -> Value {
    let args = [args, &["--json", "--threads", "1"]].concat();
    serde_json::from_str(&ok(&args, Path::new("."))).unwrap()
}

fn failure(args: &[&str]) -> String {
    let out = pellucid(args, Path::new("."));
    assert!(!out.status.success(), "{args:?}");
    text(&out.stderr)
}

#[test]
fn sites_are_listed_and_what_is_missing_is_explained() {
    let model = golden("families/gpt2");
    let all = json(&["lens", "sites", &model]);
    assert_eq!(all.as_array().unwrap().len(), 42);
    let some = json(&["lens", "sites", &model, "blocks.*.attn.hook_pattern"]);
    assert_eq!(some[1]["site"], "blocks.1.attn.hook_pattern");
    assert_eq!(some[1]["axes"], "BHTS");
    let missing = failure(&["lens", "sites", &model, "blocks.0.attn.hook_rot_q"]);
    assert!(missing.contains("does not rotate"), "{missing}");
    let typo = failure(&["lens", "sites", &model, "blocks.0.hook_resid_prea"]);
    assert!(typo.contains("nearest: blocks.0.hook_resid_pre"), "{typo}");
}

#[test]
fn a_capture_is_written_with_names_and_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen.safetensors");
    let path = file.display().to_string();
    let model = golden("lens/llama");
    let seen = json(&[
        "lens",
        "capture",
        &model,
        "5 11 3",
        "--sites",
        "blocks.*.attn.hook_z",
        "--tensors",
        &path,
    ]);
    assert_eq!(seen["sites"][0]["shape"], serde_json::json!([1, 3, 4, 4]));
    assert_eq!(seen["sites"][0]["fired"], 1);
    let bytes = std::fs::read(&file).unwrap();
    let header = String::from_utf8_lossy(&bytes[8..400]).into_owned();
    assert!(header.contains("blocks.1.attn.hook_z") && header.contains("[1,3,4,4]"), "{header}");
}

#[test]
fn patching_says_what_the_golden_file_says() {
    let model = golden("lens/llama");
    let text = std::fs::read_to_string(golden("lens/llama.json")).unwrap();
    let want: Value = serde_json::from_str(&text).unwrap();
    let ids = |key: &str| -> String {
        let all = want[key].as_array().unwrap().iter().map(ToString::to_string);
        all.collect::<Vec<_>>().join(" ")
    };
    let (clean, corrupted) = (ids("clean"), ids("corrupted"));
    let args = [
        "lens", "patch", &model, &clean, &corrupted, "--right", "7", "--wrong", "31", "--site",
        "z", "--by", "heads",
    ];
    let found = json(&args);
    for (row, wanted) in want["patch"]["z_heads"].as_array().unwrap().iter().enumerate() {
        for (head, wanted) in wanted.as_array().unwrap().iter().enumerate() {
            let got = found["values"][row][head].as_f64().unwrap();
            let error = (got - wanted.as_f64().unwrap()).abs();
            assert!(error <= 1e-4, "block {row} head {head}: {got}");
        }
    }
    let short = failure(&["lens", "patch", &model, &clean, "1 2", "--right", "7"]);
    assert!(short.contains("as many tokens"), "{short}");
}

#[test]
fn every_question_answers_and_exports() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, ids) = (golden("families/gpt2"), "5 11 3 17 40");
    std::fs::write(path("lines"), "1 2 3 4 5 6\n7 8 9 10 11 12\n".repeat(8)).unwrap();
    let (html, svg, lines) = (path("a.html"), path("a.svg"), path("lines"));
    let questions: &[&[&str]] = &[
        &["attention", ids, "--layer", "1", "--head", "1"],
        &["logit", ids],
        &["heads", "--samples", "2", "--tokens", "8"],
        &["rollout", ids],
        &["inputs", ids, "--token", "7", "--steps", "8"],
        &["patch", ids, "5 11 29 17 40", "--right", "7", "--estimate"],
        &["trace", ids, "--subject", "11 3", "--samples", "2"],
        &["ablate", "--texts", &lines],
    ];
    for question in questions {
        let mut args = vec!["lens", question[0], &model];
        args.extend(&question[1..]);
        args.extend(["--html", &html, "--svg", &svg]);
        let said = ok(&args, Path::new("."));
        assert!(said.contains("█ is"), "{question:?}: {said}");
        let page = std::fs::read_to_string(&html).unwrap();
        assert!(page.contains(&format!("pellucid lens {}", question[0])), "its command");
        assert!(!page.contains("http:") || page.contains("http://www.w3.org/2000/svg"));
        assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    }
}

#[test]
fn questions_with_numbers_of_their_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (model, ids, lines) = (golden("families/gpt2"), "5 11 3 17 40", path("lines"));
    std::fs::write(&lines, "1 2 3 4 5 6\n7 8 9 10 11 12\n".repeat(8)).unwrap();
    let shares =
        json(&["lens", "attribute", &model, ids, "--token", "7", "--versus", "31", "--heads"]);
    let (sum, score) = (shares["sum"].as_f64().unwrap(), shares["score"].as_f64().unwrap());
    assert!((sum - score).abs() <= 1e-4, "{sum} {score}");
    let same = json(&["lens", "diff", &model, &model, "--texts", &lines]);
    assert_eq!(same["divergence"].as_f64().unwrap(), 0.0);
    let sae = path("sae");
    let args = ["lens", "sae", &model, "--site", "resid_post0", "--texts", &lines, "--steps", "20"];
    let args = [&args[..], &["--batch", "32", "--k", "4", "--out", &sae]].concat();
    assert!(json(&args)["l0"].as_f64().unwrap() <= 4.0 + 1e-9);
    assert!(folder.path().join("sae/sae_weights.safetensors").is_file());
    let edited = path("edited");
    let args = ["lens", "edit-fact", &model, ids, "--subject", "11 3", "--answer", "7"];
    let args = [&args[..], &["--layer", "0", "--text", &lines, "--out", &edited]].concat();
    let found = json(&args);
    let p = |key: &str| found["log_probability"][key].as_f64().unwrap();
    assert!(p("after") > p("before"), "{found}");
}

#[test]
fn verify_holds_on_every_family() {
    for name in ["families/gpt2", "lens/llama", "families/bert", "families/t5"] {
        let found = json(&["verify", &golden(name)]);
        assert_eq!(found["failed"], 0, "{name}: {found}");
        assert!(found["held"].as_u64().unwrap() >= 7, "{name}");
    }
}
