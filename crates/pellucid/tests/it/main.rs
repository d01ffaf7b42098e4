//! Whole-model tests: one binary.

mod decode;
mod golden;
mod model;
mod observe;
mod parity;
mod support;
