//! `pellucid lens patch`

use super::looked::{Looked, Opened, SweepArgs};
use super::two_texts::{TwoTexts, demand_different, said};
use crate::finding::{Finding, FindingArgs};
use clap::{Args, ValueEnum};
use pellucid::error::Result;
use pellucid::lens::heat_map::HeatMap;
use pellucid::lens::metric::Metric;
use pellucid::lens::names;
use pellucid::lens::patching::{Grid, Map, Pair, estimate, patch};
use pellucid::model::site::Part;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct PatchCommand {
    #[command(flatten)]
    looked: Looked,
    #[command(flatten)]
    texts: TwoTexts,
    /// What is put in: the short name of a site, such as resid_pre, attn_out, mlp_out, z, q, pattern
    #[arg(long, default_value = "resid_pre", value_name = "SITE")]
    site: String,
    /// What a column of the map is
    #[arg(long, value_enum, default_value = "positions")]
    by: By,
    /// To first order, by one run forward and back: attribution patching
    #[arg(long, conflicts_with = "resume")]
    estimate: bool,
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(flatten)]
    output: FindingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// A position of each block
    Positions,
    /// A head of each block, at all positions
    Heads,
    /// A position of each head
    HeadPositions,
}

impl PatchCommand {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let (clean, corrupted) = self.texts.ids(&opened)?;
        let metric = self.texts.metric(&opened)?;
        let part = names::find(&opened.model.config, &format!("{}0", self.site))?[0].part;
        let grid = self.grid(part);
        let pair = Pair { clean: &clean, corrupted: &corrupted };
        let map = if self.estimate {
            estimate(opened.subject(), pair, &metric, grid)?
        } else {
            let question = json!({ "patch": [clean, corrupted], "site": self.site,
                "by": format!("{:?}", self.by), "metric": format!("{metric:?}") });
            let mut told = self.sweep.follow(&opened, question)?;
            patch(opened.subject(), pair, &metric, grid, &mut told)?
        };
        self.show(&opened, &corrupted, &metric, &map)
    }

    fn grid(&self, part: Part) -> Grid {
        match self.by {
            By::Positions => Grid::Positions(part),
            By::Heads => Grid::Heads(part),
            By::HeadPositions => Grid::HeadPositions(part),
        }
    }

    fn show(&self, opened: &Opened, ids: &[i32], metric: &Metric, map: &Map) -> Result<()> {
        let columns: Vec<String> = match self.by {
            By::Heads => (0..map.columns).map(|h| format!("head {h}")).collect(),
            _ => opened.labels(ids),
        };
        let how = if self.estimate { "estimated" } else { "patched" };
        let title = format!("{} {how}: share of the {} brought back", self.site, metric.name());
        let text = vec![said(metric, map)];
        let json = json!({ "site": self.site, "metric": metric.name(), "clean": map.clean, "corrupted": map.corrupted,
            "estimated": self.estimate, "rows": map.rows, "columns": columns,
            "values": map.values.chunks(map.columns).collect::<Vec<_>>() });
        let (rows, values) = (map.rows.clone(), map.shares());
        demand_different(metric, map)?;
        let picture = HeatMap::new(title, rows, columns, values);
        self.output.show(&Finding::pictured(picture, text, json))
    }
}
