//! `pellucid lens sites`

use super::Looked;
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::names;
use pellucid::model::site::Sizes;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Sites {
    #[command(flatten)]
    looked: Looked,
    /// Only those that a name or glob means, such as `blocks.0-3.attn.hook_?`
    #[arg(default_value = "*")]
    names: Vec<String>,
    /// T of the shapes
    #[arg(long, default_value_t = 16, value_name = "N")]
    time: usize,
    #[command(flatten)]
    output: FindingArgs,
}

impl Sites {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let config = &opened.model.config;
        let sizes = Sizes { b: 1, t: self.time, s: self.time };
        let mut finding = Finding { title: "Sites".into(), ..Finding::default() };
        let mut list = vec![];
        for site in names::find_all(config, &self.names)? {
            let shape = site.shape(config, sizes);
            let axes: Vec<String> = site.part.axes().chars().map(|c| c.to_string()).collect();
            let doc = site.part.doc().trim();
            let numbers = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
            let name = site.to_string();
            finding.text.push(format!("{name:<40} ({})  {numbers}\n    {doc}", axes.join(", ")));
            list.push(
                json!({ "site": name, "axes": site.part.axes(), "shape": shape, "doc": doc }),
            );
        }
        finding.json = json!(list);
        self.output.show(&finding)
    }
}
