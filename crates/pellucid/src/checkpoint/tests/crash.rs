//! Interrupted writers, full disks, two writers.

use super::super::*;
use super::{gpt2, holds, llama, write};
use crate::error::Kind;
use crate::model::config::Config;
use std::fs;
use std::path::Path;

#[test]
fn a_crash_at_any_step_leaves_old_or_new() {
    let (old, new) = (gpt2(), llama());
    let (mut seen_old, mut seen_new) = (0, 0);
    for step in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write(path, &old, 1, Some("{\"old\":1}")).unwrap();
        fault::crash_at(Some(step));
        let result = write(path, &new, 2, None);
        let crashed = fault::crashed();
        fault::crash_at(None);
        if !crashed {
            result.unwrap();
            assert!(holds(path, &new, 2, None));
            break;
        }
        assert_eq!(result.unwrap_err().kind(), Kind::Interrupted);
        let (config, seed, tokenizer) = match load(path).unwrap().config == new {
            true => (&new, 2, None),
            false => (&old, 1, Some("{\"old\":1}")),
        };
        assert!(holds(path, config, seed, tokenizer), "step {step}");
        assert!(seen_new == 0 || seed == 2, "once new, always new: step {step}");
        if seed == 1 {
            seen_old += 1
        } else {
            seen_new += 1
        }
        // The next reader after recovery, and the next writer without it, both work.
        if step % 2 == 0 {
            recover(path).unwrap();
            assert!(holds(path, config, seed, tokenizer));
            assert!(
                fs::read_dir(path).unwrap().all(|e| !e
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with(".pel"))
            );
        }
        write(path, &old, 9, Some("{}")).unwrap();
        assert!(holds(path, &old, 9, Some("{}")));
    }
    assert!(seen_old > 8 && seen_new > 5, "{seen_old} {seen_new}");
}

/// A crash while a recovery is under way, at any step of it.
#[test]
fn a_crash_during_recovery_is_recovered() {
    for step in 1..12 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write(path, &gpt2(), 1, Some("{}")).unwrap();
        // Find the first crash after the decisive rename.
        let committed = (9..40).find(|&n| {
            fault::crash_at(Some(n));
            let error = write(path, &llama(), 2, None).unwrap_err();
            assert_eq!(error.kind(), Kind::Interrupted, "{error}");
            fault::crash_at(None);
            path.join(".pellucid-next").is_dir()
        });
        assert!(committed.is_some());
        fault::crash_at(Some(step));
        let _ = recover(path);
        fault::crash_at(None);
        assert!(holds(path, &llama(), 2, None), "step {step}");
        recover(path).unwrap();
        assert!(holds(path, &llama(), 2, None), "step {step}");
    }
}

#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, &gpt2(), 1, Some("{}")).unwrap();
    for space in [0, 1, 500, 1500, 2000, 10_000, 30_000] {
        fault::full_after(Some(space));
        let error = write(path, &llama(), 2, None).unwrap_err();
        fault::full_after(None);
        assert!(error.to_string().contains("free some disk space"), "{error}");
        assert!(holds(path, &gpt2(), 1, Some("{}")));
        assert_eq!(fs::read_dir(path).unwrap().count(), 4, "no remains");
    }
}

/// The real thing: a process that saves over and over, killed at random moments.
#[cfg(unix)]
#[test]
fn kill_nine_leaves_a_whole_checkpoint() {
    const FOLDER: &str = "PELLUCID_TEST_SAVE_FOREVER";
    // Every part differs between the two, the tokenizer too.
    let one = (gpt2(), 1, Some("{}"));
    let two = (llama(), 2, None);
    let put =
        |folder: &Path, (c, seed, t): &(Config, u64, Option<&str>)| write(folder, c, *seed, *t);
    if let Some(folder) = std::env::var_os(FOLDER) {
        loop {
            put(Path::new(&folder), &two).unwrap();
            put(Path::new(&folder), &one).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    put(path, &one).unwrap();
    let mut seen = [0; 2];
    for i in 0..24 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "checkpoint::tests::crash::kill_nine_leaves_a_whole_checkpoint"])
            .env(FOLDER, path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Reading while it writes, too.
        let end = std::time::Instant::now() + std::time::Duration::from_millis(60 + 17 * i % 50);
        while std::time::Instant::now() < end {
            let _ = holds(path, &one.0, one.1, one.2);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let new = holds(path, &two.0, two.1, two.2);
        seen[usize::from(new)] += 1;
        assert!(new != holds(path, &one.0, one.1, one.2));
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn two_writers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Transaction::begin(folder.path()).unwrap();
    let text = Transaction::begin(folder.path()).unwrap_err().to_string();
    assert!(text.contains("another process is writing"), "{text}");
    drop(first);
    Transaction::begin(folder.path()).unwrap();
}
