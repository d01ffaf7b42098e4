//! `pellucid completions`

use crate::args::Cli;
use crate::out;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use pellucid::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "pellucid", &mut script);
        out::write(&String::from_utf8_lossy(&script))
    }
}
