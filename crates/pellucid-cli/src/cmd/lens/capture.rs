//! `pellucid lens capture`

use super::Looked;
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::names;
use pellucid::model::observer::Text;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Capture {
    #[command(flatten)]
    looked: Looked,
    /// What the model reads
    text: String,
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
        let (ids, source) = (opened.ids(&self.text)?, opened.source(self.source.as_deref())?);
        let text = Text { ids: &ids, source: &source, ..Text::default() };
        let seen = opened.subject().observe(text, 1, &sites)?;
        let mut finding =
            Finding { title: format!("Inside, for {:?}", self.text), ..Finding::default() };
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
