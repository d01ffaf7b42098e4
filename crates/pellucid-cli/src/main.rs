//! The `pellucid` command: parse, call the library, print.

mod args;
mod attention_bench;
mod changes;
mod cmd;
mod decode_bench;
mod examine;
mod fact;
mod finding;
mod gauges;
mod input;
mod inside;
mod labels;
mod ledger;
mod lens_bench;
mod measure;
mod model;
mod out;
mod pairs;
mod plan;
mod profile;
mod progress;
mod recorder;
mod session;
mod signal;
mod speculate;
mod step_bench;
mod step_sizes;
mod store;
mod synthetic;
mod tags;
mod tasks;
mod view;

use clap::Parser;
use pellucid::error::Kind;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = args::Cli::parse_from(args::dotted(std::env::args_os()));
    match cmd::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough: not an error.
        Err(error) if error.kind() == Kind::Interrupted && out::pipe_closed() => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
