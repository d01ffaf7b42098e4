//! `pellucid lens probe`

use super::looked::Looked;
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::data::{Label, LabelKind, LabelledColumns, read_labelled};
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::names;
use pellucid::lens::probe::{Control, ProbeOptions, classify};
use pellucid::model::observer::Text;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Probe {
    #[command(flatten)]
    looked: Looked,
    /// A table of texts and labels, as `data.task = labels` reads it
    table: PathBuf,
    /// Columns of text and label
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "1,2")]
    columns: Vec<String>,
    /// Sites whose value at a text's last token is read
    #[arg(long, value_name = "GLOB", default_value = "blocks.*.hook_resid_post")]
    sites: Vec<String>,
    /// Texts that are read
    #[arg(long, default_value_t = 2000, value_name = "N")]
    texts: usize,
    /// Of the split and of the control
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    output: FindingArgs,
}

impl Probe {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let config = &opened.model.config;
        let sites = names::find_all(config, &self.sites)?;
        let [text, label] = &self.columns[..] else {
            let message = format!("{} columns are named", self.columns.len());
            return Err(Error::new(Kind::Input, "probe", message)
                .hint("name text and label: --columns 1,2"));
        };
        let columns = LabelledColumns {
            text: text.as_str().into(),
            second: None,
            label: label.as_str().into(),
            header: self.columns.iter().any(|c| c.parse::<usize>().is_err()),
        };
        let data = read_labelled(&self.table, &columns, LabelKind::Classes)?;
        let mut vectors: Vec<Vec<f32>> = vec![vec![]; sites.len()];
        let (mut labels, mut widths) = (vec![], vec![0; sites.len()]);
        for example in data.rows.iter().take(self.texts) {
            let Label::Class(label) = example.label else { continue };
            let mut ids = opened.ids(&example.text)?;
            ids.truncate(config.context);
            let seen = opened.subject().observe(Text::of(&ids), 1, &sites)?;
            for (i, &site) in sites.iter().enumerate() {
                let values = seen.read(site)?;
                widths[i] = values.len() / ids.len();
                vectors[i].extend_from_slice(&values[values.len() - widths[i]..]);
            }
            labels.push(label as usize);
        }
        let options = ProbeOptions { seed: self.seed, ..ProbeOptions::default() };
        let classes = data.classes.len();
        let (mut text, mut list) = (vec![], vec![]);
        for ((site, x), d) in sites.iter().zip(&vectors).zip(widths) {
            let found =
                classify(&opened.pool, (x, d), (&labels, classes), Control::Shuffled, &options)?;
            text.push(format!(
                "{:<36} right {:.1}%  shuffled labels {:.1}%  always the commonest {:.1}%  (training {:.1}%)",
                site.to_string(),
                100.0 * found.accuracy,
                100.0 * found.control,
                100.0 * found.majority,
                100.0 * found.train_accuracy
            ));
            list.push(json!({ "site": site.to_string(), "accuracy": found.accuracy, "control": found.control,
                "majority": found.majority, "train_accuracy": found.train_accuracy, "rows": found.rows }));
        }
        let title = "What a linear probe reads at each site".into();
        self.output.show(&Finding { title, text, json: json!(list), ..Finding::default() })
    }
}
