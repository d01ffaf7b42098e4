//! Whole-model tests: one binary.
#![allow(clippy::print_stdout, clippy::print_stderr)] // Skips and seen differences.

mod adapters;
mod cost;
mod ctranslate2;
mod decode;
mod examples;
mod families;
mod folders;
mod gguf;
mod growing;
mod hf;
mod lens;
mod model;
mod observe;
mod parity;
mod standing;
mod stored;
mod support;
mod tasks;
