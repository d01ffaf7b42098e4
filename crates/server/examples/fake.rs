//! The page over a made-up model: `cargo run -p pellucid-server --example fake -- LAYERS HEADS [source] [RUN]`.
//! For building the page, and for its test in a browser.

use pellucid_server::fake::Fake;
use pellucid_server::serve::Server;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let size = |i: usize| args.get(i).map_or(Ok(4), |a| a.parse());
    let mut fake = Fake::new(size(0)?, size(1)?);
    fake.source = args.iter().any(|a| a == "source");
    let run = args.iter().skip(2).find(|a| *a != "source").map(PathBuf::from);
    let server = Server::bind(0)?;
    writeln!(std::io::stdout(), "{}", server.address())?;
    server.serve(Box::new(fake), run)?;
    Ok(())
}
