//! Builds the candle peer, a crate outside the workspace, as candle advises: for the processor at hand.

use crate::root;
use std::path::PathBuf;
use std::process::Command;

/// Where the program lies once built.
pub(super) fn program() -> PathBuf {
    root().join("target/candle/release/pellucid-peer-candle")
}

/// Builds it; the first time takes minutes and downloads candle.
pub(super) fn build() -> Result<(), String> {
    println!("$ cargo build --release --locked   (lab/peers/candle)");
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked"])
        .current_dir(root().join("lab/peers/candle"))
        .env("CARGO_TARGET_DIR", root().join("target/candle"))
        .env("RUSTFLAGS", "-C target-cpu=native")
        .status()
        .map_err(|e| format!("cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err("its build failed".into()) }
}
