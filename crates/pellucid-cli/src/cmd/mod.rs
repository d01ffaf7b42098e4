//! A file per command.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod lens;
pub(crate) mod look;
pub(crate) mod quantise;
pub(crate) mod tokenize;
pub(crate) mod train;
pub(crate) mod translate;
pub(crate) mod verify;

use crate::args::Command;
use pellucid::error::Result;

/// Runs the command that was chosen.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(c) => c.run(),
        Command::Train(c) => c.run(),
        Command::Generate(c) => c.run(),
        Command::Chat(c) => c.run(),
        Command::Translate(c) => c.run(),
        Command::Embed(c) => c.run(),
        Command::Eval(c) => c.run(),
        Command::Tokenize(c) => c.run(),
        Command::Inspect(c) => c.run(),
        Command::Lens(c) => c.run(),
        Command::Verify(c) => c.run(),
        Command::Look(c) => c.run(),
        Command::Import(c) => c.run(),
        Command::Export(c) => c.run(),
        Command::Quantise(c) => c.run(),
        Command::Doctor(c) => c.run(),
        Command::Bench(c) => c.run(),
        Command::Completions(c) => c.run(),
    }
}
