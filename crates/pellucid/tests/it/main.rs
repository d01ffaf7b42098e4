//! Whole-model tests: one binary.

mod decode;
mod model;
mod observe;
mod parity;
mod support;
