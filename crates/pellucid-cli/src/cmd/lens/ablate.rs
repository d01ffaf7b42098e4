//! `pellucid lens ablate`

use super::looked::{Looked, SweepArgs};
use crate::finding::{Finding, FindingArgs};
use clap::{Args, ValueEnum};
use pellucid::error::Result;
use pellucid::lens::ablation::{Component, Removal, loss_without};
use pellucid::lens::heat_map::HeatMap;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Ablate {
    #[command(flatten)]
    looked: Looked,
    /// Text whose loss is measured, line by line
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
    /// Lines that are read
    #[arg(long, default_value_t = 64, value_name = "N")]
    lines: usize,
    /// What stands in a component's place
    #[arg(long, value_enum, default_value = "mean")]
    by: By,
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(flatten)]
    output: FindingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// 0
    Zero,
    /// Its mean over all positions
    Mean,
    /// What it is in the next line, where all lines are as long
    Resample,
}

impl Ablate {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let config = &opened.model.config;
        let rows = opened.rows(&self.texts, self.lines)?;
        let removal = match self.by {
            By::Zero => Removal::Zero,
            By::Mean => Removal::Mean,
            By::Resample => Removal::Resample,
        };
        let question = json!({ "ablate": rows, "by": format!("{:?}", self.by) });
        let mut told = self.sweep.follow(&opened, question)?;
        let found = loss_without(opened.subject(), &rows, removal, &mut told)?;
        drop(told);
        let columns: Vec<String> = (0..config.heads)
            .map(|h| format!("head {h}"))
            .chain(["attention".into(), "feed-forward".into()])
            .collect();
        let mut values = vec![0.0; config.layers * columns.len()];
        for &(component, loss) in &found.without {
            let (layer, column) = match component {
                Component::Head(l, h) => (l, h),
                Component::Attention(l) => (l, config.heads),
                Component::FeedForward(l) => (l, config.heads + 1),
            };
            values[layer * columns.len() + column] = loss - found.whole;
        }
        let title = "Loss that is added when a component is taken out, in nats".to_owned();
        let mut text = vec![format!("loss with everything there: {:.4} nats", found.whole)];
        for (component, change) in found.changes().into_iter().take(10) {
            text.push(format!("{change:>+9.4}  without {component}"));
        }
        let all: Vec<_> = found
            .without
            .iter()
            .map(|(c, loss)| json!({ "component": c.to_string(), "loss": loss, "added": loss - found.whole }))
            .collect();
        let json = json!({ "loss": found.whole, "without": all });
        let picture = HeatMap::by_block(title, columns, values);
        self.output.show(&Finding::pictured(picture, text, json))
    }
}
