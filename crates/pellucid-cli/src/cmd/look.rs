//! `pellucid look`

use crate::inside::Glass;
use crate::out;
use crate::plan;
use clap::{Args, ValueEnum};
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid_server::inside::{Fault, HeadAt, Inside, Prompt};
use pellucid_server::serve::Server;
use pellucid_server::{export, still};
use std::path::{Path, PathBuf};
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
    /// Writes one figure as a page that stands alone, instead of listening
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Which figure is written
    #[arg(long, value_enum, default_value_t = View::Attention, requires = "save")]
    view: View,
    /// Whose head is written
    #[arg(long, default_value_t = 0, value_name = "N", requires = "save")]
    layer: usize,
    /// Which head of the layer
    #[arg(long, default_value_t = 0, value_name = "N", requires = "save")]
    head: usize,
    /// Worker threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// A figure that can be written without a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum View {
    /// Who looks at whom
    Attention,
    /// What the stream would say at each depth
    Lens,
}

impl Look {
    pub(crate) fn run(self) -> Result<()> {
        let mut glass = Glass::open(&self.model, plan::pool(self.threads))?;
        glass.begin_with(self.text.clone(), self.source.clone());
        if let Some(file) = &self.save {
            return self.save(&mut glass, file);
        }
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

/// Positions of the lens in a saved page.
const POSITIONS: usize = 16;

impl Look {
    /// Writes a page that stands alone.
    fn save(&self, glass: &mut Glass, file: &Path) -> Result<()> {
        let card = glass.card();
        let prompt = Prompt { text: card.text, source: card.source };
        let (layer, head) = (self.layer, self.head);
        let stack = card.stacks.first().map(|s| s.name.clone()).unwrap_or_default();
        let (name, title, data) = match self.view {
            View::Attention => {
                let title = format!("{}: attention of layer {layer}, head {head}", card.title);
                let at = HeadAt { stack, layer, head };
                ("attention", title, still::attention(glass, &prompt, &at))
            }
            View::Lens => {
                let title = format!("{}: the stream at each depth", card.title);
                ("lens", title, still::lens(glass, &prompt, POSITIONS))
            }
        };
        let failed = |fault: Fault| Error::new(Kind::Input, "look", fault.message);
        let more = match self.view {
            View::Attention => format!("--layer {layer} --head {head}"),
            View::Lens => String::new(),
        };
        let quoted = format!("'{}'", prompt.text.replace('\'', "'\\''"));
        let out = file.display();
        let command = format!("{} --text {quoted} --save {out} --view {name} {more}", card.command);
        let page = export::page(name, &title, command.trim_end(), &data.map_err(failed)?);
        files::replace("look", file, |to| to.write_all(page.as_bytes()))?;
        out::line(format!("{out}"))
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
