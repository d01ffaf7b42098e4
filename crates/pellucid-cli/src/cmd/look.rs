//! `pellucid look`

use crate::inside::Glass;
use crate::out;
use crate::plan;
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid_server::serve::Server;
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[derive(Debug, Args)]
pub(crate) struct Look {
    /// A model folder, or the folder of a run, which may still be training
    model: PathBuf,
    /// The text to begin with
    #[arg(long)]
    text: Option<String>,
    /// The source to begin with, for an encoder-decoder
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Where to listen on this computer; 0 takes any port that is free
    #[arg(long, default_value_t = 0, value_name = "N")]
    port: u16,
    /// Opens the page in the browser
    #[arg(long)]
    open: bool,
    /// Worker threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

impl Look {
    pub(crate) fn run(self) -> Result<()> {
        let mut glass = Glass::open(&self.model, plan::pool(self.threads))?;
        glass.begin_with(self.text, self.source);
        let server = Server::bind(self.port).map_err(|e| {
            let message = format!("port {}: {e}", self.port);
            Error::new(Kind::Resource, "look", message).hint("leave --port out to take a free one")
        })?;
        out::line(server.address())?;
        out::note("Ctrl-C ends. Only this computer can reach the page");
        if self.open {
            open(&server.address());
        }
        server
            .serve(Box::new(glass), Some(self.model))
            .map_err(|e| Error::new(Kind::Resource, "look", e.to_string()))
    }
}

/// Asks the system for its browser; where there is none, the address was printed.
fn open(address: &str) {
    let (program, before): (&str, &[&str]) = match std::env::consts::OS {
        "macos" => ("open", &[]),
        "windows" => ("cmd", &["/C", "start", ""]),
        _ => ("xdg-open", &[]),
    };
    let mut command = Command::new(program);
    command.args(before).arg(address);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.spawn().is_err() {
        out::note(&format!("no browser could be started with {program}"));
    }
}
