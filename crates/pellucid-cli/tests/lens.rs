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
fn what_a_text_leaves_while_it_is_written_is_what_it_leaves_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let [grown, read] = ["grown", "read"].map(|n| folder.path().join(n).display().to_string());
    let model = golden("lens/llama");
    let inside = ["--capture", "*", "--capture-to", &grown, "--ignore-end", "--json"];
    let args = ["generate", &model, "--ids", "5 11 3", "-n", "4"];
    let made = ok(&[&args[..], &inside].concat(), Path::new("."));
    let made: Value = serde_json::from_str(&made).unwrap();
    let ids = [&made["prompt_ids"], &made["ids"]].map(|ids| ids.as_array().unwrap().clone());
    let text: Vec<String> = ids.concat().iter().take(6).map(ToString::to_string).collect();
    json(&["lens", "capture", &model, &text.join(" "), "--tensors", &read]);
    let [grown, read] =
        [&grown, &read].map(|p| pellucid::checkpoint::load_tensors(Path::new(p)).unwrap());
    assert_eq!(grown.shape("blocks.1.attn.hook_pattern").unwrap(), [1, 4, 6, 6]);
    let names: Vec<String> = grown.names().map(str::to_owned).collect();
    assert_eq!(names.len(), read.names().count() - 1, "all but the scores of tokens");
    for name in names {
        assert_eq!(grown.shape(&name).unwrap(), read.shape(&name).unwrap(), "{name}");
        let (a, b) = (grown.read(&name).unwrap(), read.read(&name).unwrap());
        let near = |(a, b): (&f32, &f32)| a == b || (a - b).abs() <= 1e-4;
        assert!(a.iter().zip(&b).all(near), "{name}");
    }
    let two = failure(&[
        "generate",
        &model,
        "--ids",
        "5",
        "--ids",
        "3",
        "--capture",
        "*",
        "--capture-to",
        "x",
    ]);
    assert!(two.contains("one prompt"), "{two}");
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

#[test]
fn a_stopped_sweep_goes_on_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sweep");
    let (model, path) = (golden("lens/llama"), file.display().to_string());
    let base = ["lens", "patch", &model, "5 11 3 8", "5 2 3 8", "--right", "7"];
    let whole = json(&base);
    let asked = [&base[..], &["--resume", &path]].concat();
    assert_eq!(json(&asked), whole);
    let kept = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = kept.lines().collect();
    assert_eq!(lines.len(), 1 + 2 * 4, "{kept}");
    // Three cells are known, one of them as something else.
    let (first, cell) = lines[1].split_once(',').unwrap();
    assert!(cell.ends_with(']'));
    std::fs::write(&file, format!("{}\n{first},77.5]\n{}\n{}\n[2,", lines[0], lines[2], lines[3]))
        .unwrap();
    let again = json(&asked);
    // Five were run, and the broken line is gone.
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1 + 3 + 5);
    let values = |v: &Value| -> Vec<f64> {
        let rows = v["values"].as_array().unwrap();
        rows.iter().flat_map(|r| r.as_array().unwrap()).map(|x| x.as_f64().unwrap()).collect()
    };
    let (again, whole) = (values(&again), values(&whole));
    let differ: Vec<usize> = (0..8).filter(|&i| !((again[i] - whole[i]).abs() < 1e-4)).collect();
    assert_eq!(differ.len(), 1);
    assert_eq!(again[differ[0]], 77.5);
    let other = failure(&[
        "lens", "patch", &model, "5 11 3 8", "5 2 3 8", "--right", "6", "--resume", &path,
    ]);
    assert!(other.contains("another question"), "{other}");
}

#[test]
fn sums_are_taken_apart_into_frequencies() {
    let model = golden("lens/llama");
    let found = json(&["lens", "fourier", &model, "--modulus", "7"]);
    assert_eq!(found["power"].as_array().unwrap().len(), 3);
    // Random weights know nothing of sums.
    let loss = found["loss"].as_f64().unwrap();
    assert!((loss - 7f64.ln()).abs() < 1.0, "{loss}");
    let even = failure(&["lens", "fourier", &model, "--modulus", "8"]);
    assert!(even.contains("p is odd"), "{even}");
}

#[test]
fn a_stopped_ablation_goes_on_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let [texts, file] = ["texts", "sweep"].map(|n| folder.path().join(n).display().to_string());
    std::fs::write(&texts, "5 11 3\n8 2 4 6\n").unwrap();
    let model = golden("lens/llama");
    let base = ["lens", "ablate", &model, "--texts", &texts];
    let whole = json(&base);
    let asked = [&base[..], &["--resume", &file]].concat();
    assert_eq!(json(&asked), whole);
    let kept = std::fs::read_to_string(&file).unwrap();
    // Two batches of: everything, and without each of two blocks' four heads, attention and feed-forward.
    assert_eq!(kept.lines().count(), 1 + 2 * (1 + 2 * 6), "{kept}");
    let half: Vec<&str> = kept.lines().take(10).collect();
    std::fs::write(&file, half.join("\n") + "\n").unwrap();
    assert_eq!(json(&asked), whole);
    let other = failure(&[&asked[..], &["--by", "zero"]].concat());
    assert!(other.contains("another question"), "{other}");
}

#[test]
fn many_texts_become_rows_of_npy_files() {
    let folder = tempfile::tempdir().unwrap();
    let (texts, to) = (folder.path().join("texts"), folder.path().join("seen"));
    std::fs::write(&texts, "5 11 3\n\n8 2\n").unwrap();
    let (texts, to) = (texts.display().to_string(), to.display().to_string());
    let model = golden("lens/llama");
    let sites = ["--sites", "blocks.1.attn.hook_z", "--sites", "blocks.0.hook_resid_post"];
    let base = ["lens", "capture", &model, "--texts", &texts, "--to", &to];
    let index = json(&[&base[..], &sites].concat());
    assert_eq!(index["texts"], serde_json::json!([[0, 3], [3, 2]]));
    assert_eq!(index["sites"][0]["shape"], serde_json::json!([5, 4, 4]));
    let data = |name: &str| -> Vec<f32> {
        let bytes = std::fs::read(Path::new(&to).join(name)).unwrap();
        assert_eq!(&bytes[..6], b"\x93NUMPY");
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        bytes[start..].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let z = data("blocks.1.attn.hook_z.npy");
    // The second text alone, by the other way.
    let file = folder.path().join("alone.safetensors").display().to_string();
    json(&["lens", "capture", &model, "8 2", "--sites", sites[1], "--tensors", &file]);
    let bytes = std::fs::read(&file).unwrap();
    let alone: Vec<f32> = bytes[bytes.len() - 4 * 32..]
        .chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    assert_eq!(z[3 * 16..], alone);
    let patterns = failure(&[&base[..], &["--sites", "blocks.0.attn.hook_pattern"]].concat());
    assert!(patterns.contains("no row for each token"), "{patterns}");
}

#[test]
fn paths_circuits_context_and_the_toy_answer() {
    let model = golden("lens/llama");
    let paths = json(&["lens", "paths", &model, "5 11 3 8", "5 2 3 8", "--right", "7", "--heads"]);
    let (from, to) = (paths["from"].as_array().unwrap(), paths["to"].as_array().unwrap());
    assert_eq!((from.len(), to.len()), (2 * 5, 5));
    assert_eq!((&from[4], &to[4]), (&"block 0 feed-forward".into(), &"scores".into()));
    // Nobody is heard by those before it.
    assert_eq!(paths["values"][9][0], paths["corrupted"]);
    assert_ne!(paths["values"][9][4], paths["corrupted"]);
    let circuits = json(&["lens", "circuits", &model]);
    assert_eq!(circuits["copying"].as_array().unwrap().len(), 8);
    let k = &circuits["k-composition"];
    assert!(k[0][4].as_f64().unwrap() > 0.0 && k[4][0] == 0.0, "{k}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    let ids: Vec<String> = (0..40).map(|i| (i * 7 % 23).to_string()).collect();
    std::fs::write(&file, ids.join(" ")).unwrap();
    let file = file.display().to_string();
    let context = json(&["lens", "context", &model, &file, "--tokens", "16"]);
    assert_eq!((&context["windows"], &context["tokens"]), (&2.into(), &serde_json::json!([1, 15])));
    assert_eq!(context["curve"].as_array().unwrap().len(), 15);
    let asked = ["lens", "superposition", "--sparsity", "0", "--importance", "0.9", "--json"];
    let toy: Value = serde_json::from_str(&ok(&asked, Path::new("."))).unwrap();
    assert!((toy["loss"].as_f64().unwrap() - 0.1829).abs() < 0.002, "{}", toy["loss"]);
    assert_eq!(toy["products"].as_array().unwrap().len(), 5);
}
