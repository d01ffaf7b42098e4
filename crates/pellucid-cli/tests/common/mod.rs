//! The binary, run in a folder. Nothing of the user's own hub is read, and nothing is fetched.

#![allow(dead_code)] // Each test binary uses a part.

use std::path::Path;
use std::process::{Command, Output};

pub(crate) fn pellucid(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pellucid"))
        .args(args)
        .current_dir(folder)
        .env("HF_HOME", folder.join("home"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that succeeds prints.
pub(crate) fn ok(args: &[&str], folder: &Path) -> String {
    let out = pellucid(args, folder);
    assert!(out.status.success(), "{args:?}\n{}", text(&out.stderr));
    text(&out.stdout)
}

/// A command fails, and its error has all `parts`.
pub(crate) fn refused(args: &[&str], folder: &Path, parts: &[&str]) {
    let out = pellucid(args, folder);
    assert!(!out.status.success(), "{args:?}");
    let said = text(&out.stderr);
    parts.iter().for_each(|part| assert!(said.contains(part), "{part:?} is not in\n{said}"));
}
