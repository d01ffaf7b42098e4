//! `pellucid lens capture`

use super::looked::{Looked, Opened, Told};
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::checkpoint::NpyWriter;
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid::lens::names;
use pellucid::model::observer::Text;
use pellucid::model::site::{Site, Sizes};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Capture {
    #[command(flatten)]
    looked: Looked,
    /// What the model reads
    #[arg(required_unless_present = "texts")]
    text: Option<String>,
    /// A file of texts, one a line, in place of one text: each site becomes an .npy file with a row for every token
    #[arg(long, value_name = "FILE", requires = "to", conflicts_with_all = ["text", "source"])]
    texts: Option<PathBuf>,
    /// Lines that are read, at most
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true, value_name = "N")]
    lines: usize,
    /// The folder of those files
    #[arg(long, value_name = "FOLDER", requires = "texts")]
    to: Option<PathBuf>,
    /// What its encoder reads, where it has two stacks
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Names or globs of sites
    #[arg(long, value_name = "GLOB", default_value = "*")]
    sites: Vec<String>,
    #[command(flatten)]
    output: FindingArgs,
}

impl Capture {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let sites = names::find_all(&opened.model.config, &self.sites)?;
        if let (Some(texts), Some(to)) = (&self.texts, &self.to) {
            let rows = opened.rows(texts, self.lines)?;
            return self.output.show(&stream(&opened, &sites, &rows, to)?);
        }
        let text = self.text.unwrap_or_default();
        let (ids, source) = (opened.ids(&text)?, opened.source(self.source.as_deref())?);
        let read = Text { ids: &ids, source: &source, ..Text::default() };
        let seen = opened.subject().observe(read, 1, &sites)?;
        let mut finding = Finding { title: format!("Inside, for {text:?}"), ..Finding::default() };
        let mut list = vec![];
        for receipt in seen.receipts()? {
            let shape: Vec<String> = receipt.shape.iter().map(ToString::to_string).collect();
            let norm = receipt.norm.unwrap_or(f64::NAN);
            finding.text.push(format!(
                "{:<40} {:>20}  fired {}  norm {norm:.4}",
                receipt.site,
                shape.join(" × "),
                receipt.fired
            ));
            list.push(json!({ "site": receipt.site, "shape": receipt.shape, "fired": receipt.fired, "norm": norm }));
        }
        for &site in &sites {
            let shape = site.shape(&opened.model.config, seen.sizes());
            finding.tensors.push((site.to_string(), shape, seen.read(site)?));
        }
        finding.json = json!({ "tokens": opened.labels(&ids), "sites": list });
        self.output.show(&finding)
    }
}

/// Writes what every token of many texts has at these sites, text by text: no more than one is held in memory.
fn stream(opened: &Opened, sites: &[Site], rows: &[Vec<i32>], to: &Path) -> Result<Finding> {
    files::create_folder("lens", to)?;
    let config = &opened.model.config;
    let mut writers = vec![];
    for &site in sites {
        if !site.part.axes().starts_with("BT") {
            let message = format!("{site} has axes {}: no row for each token", site.part.axes());
            return Err(Error::new(Kind::Input, "lens", message)
                .hint("name sites of single positions: --sites '*resid_post*' --sites '*hook_z'"));
        }
        let shape = site.shape(config, Sizes { b: 1, t: 1, s: 0 });
        let name = format!("{site}.npy");
        writers.push((site, NpyWriter::<f32>::create(&to.join(&name), &shape[2..])?, name));
    }
    let mut tokens = NpyWriter::<i32>::create(&to.join("tokens.npy"), &[])?;
    let told = Told::of(rows.len());
    let (mut first, mut places) = (0, vec![]);
    for (done, row) in rows.iter().enumerate() {
        let seen = opened.subject().observe(Text::of(row), 1, sites)?;
        for (site, writer, _) in &mut writers {
            writer.add(&seen.read(*site)?)?;
        }
        tokens.add(row)?;
        places.push([first, row.len()]);
        first += row.len();
        told.at(done + 1);
    }
    drop(told);
    tokens.finish()?;
    let (mut text, mut list) = (vec![format!("{} texts, {first} tokens", rows.len())], vec![]);
    for (site, writer, name) in writers {
        let shape = writer.finish()?;
        text.push(format!("{name:<44} {shape:?}"));
        list.push(json!({ "site": site.to_string(), "file": name, "shape": shape }));
    }
    let index = json!({ "sites": list, "tokens": "tokens.npy", "texts": places });
    let written = format!("{index:#}\n");
    files::replace("lens", &to.join("index.json"), |w| w.write_all(written.as_bytes()))?;
    Ok(Finding { title: "Inside, token by token".into(), text, json: index, ..Finding::default() })
}
