//! `pellucid lens diff`

use super::looked::{Looked, Opened, Told};
use crate::finding::{Finding, FindingArgs};
use crate::model::Model;
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::diff::{Difference, compare};
use pellucid::lens::heat_map::HeatMap;
use pellucid::lens::subject::Subject;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    looked: Looked,
    /// The other checkpoint
    other: PathBuf,
    /// Text that both read, line by line
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
    /// Lines that are read
    #[arg(long, default_value_t = 64, value_name = "N")]
    lines: usize,
    /// Sites that are shown
    #[arg(long, default_value_t = 12, value_name = "K")]
    top: usize,
    #[command(flatten)]
    output: FindingArgs,
}

impl Diff {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let other = Model::load(&self.other)?;
        let rows = opened.rows(&self.texts, self.lines)?;
        let Opened { model, pool } = &opened;
        let second = Subject { config: &other.config, weights: &other.weights, pool };
        let told = Told::of(rows.len());
        let found = compare(opened.subject(), second, &rows, &mut told.each())?;
        drop(told);
        let (layers, heads) = (model.config.layers, model.config.heads);
        let mut values = vec![0.0; layers * heads];
        for h in &found.heads {
            values[h.layer * heads + h.head] = h.moved;
        }
        let title = "Share of its attention that each head moved".to_owned();
        let mut text = vec![format!(
            "next tokens diverge by {:.4} nats and agree at {:.1}% of {} positions",
            found.divergence,
            100.0 * found.agreement,
            found.positions
        )];
        if let Some((a, b)) = found.losses {
            text.push(format!("loss {a:.4} and {b:.4} nats"));
        }
        for site in found.sites.iter().take(self.top) {
            text.push(format!(
                "{:<36} changed by {:.1}%, cosine {:.4}",
                site.site,
                100.0 * site.relative,
                site.cosine
            ));
        }
        let json = json(&found);
        let columns = (0..heads).map(|h| format!("head {h}")).collect();
        let picture = HeatMap::by_block(title, columns, values);
        self.output.show(&Finding::pictured(picture, text, json))
    }
}

/// Everything, for scripts.
fn json(found: &Difference) -> serde_json::Value {
    let sites: Vec<_> = found
        .sites
        .iter()
        .map(|s| json!({ "site": s.site, "relative": s.relative, "cosine": s.cosine }))
        .collect();
    let moved: Vec<_> = found
        .heads
        .iter()
        .map(|h| json!({ "block": h.layer, "head": h.head, "moved": h.moved }))
        .collect();
    json!({ "divergence": found.divergence, "agreement": found.agreement, "losses": found.losses,
        "positions": found.positions, "sites": sites, "heads": moved })
}
