//! `pellucid lens patch`

use super::looked::{Looked, Opened, Told};
use crate::finding::{Finding, FindingArgs};
use clap::{Args, ValueEnum};
use pellucid::error::{Error, Kind, Result};
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
    /// The text whose insides are put in
    clean: String,
    /// The text they are put into: as many tokens, but another answer
    corrupted: String,
    /// What should follow the clean text
    #[arg(long, value_name = "TEXT")]
    right: String,
    /// What follows the corrupted one; without it the right one's log-probability is measured, not a difference
    #[arg(long, value_name = "TEXT")]
    wrong: Option<String>,
    /// What is put in: the short name of a site, such as resid_pre, attn_out, mlp_out, z, q, pattern
    #[arg(long, default_value = "resid_pre", value_name = "SITE")]
    site: String,
    /// What a column of the map is
    #[arg(long, value_enum, default_value = "positions")]
    by: By,
    /// To first order, by one run forward and back: attribution patching
    #[arg(long)]
    estimate: bool,
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
        let (clean, corrupted) = (opened.ids(&self.clean)?, opened.ids(&self.corrupted)?);
        self.check(&opened, &clean, &corrupted)?;
        let right = opened.next(&self.clean, &self.right)?;
        let metric = match &self.wrong {
            Some(wrong) => Metric::Difference { right, wrong: opened.next(&self.clean, wrong)? },
            None => Metric::LogProbability(right),
        };
        let part = names::find(&opened.model.config, &format!("{}0", self.site))?[0].part;
        let grid = self.grid(part);
        let pair = Pair { clean: &clean, corrupted: &corrupted };
        let map = if self.estimate {
            estimate(opened.subject(), pair, &metric, grid)?
        } else {
            let told = Told::new();
            let mut begin = |forecast: &_| {
                told.begin(forecast);
                Ok(())
            };
            let mut each = |done| {
                told.at(done);
                Ok(())
            };
            patch(opened.subject(), pair, &metric, grid, &mut begin, &mut each)?
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

    fn check(&self, opened: &Opened, clean: &[i32], corrupted: &[i32]) -> Result<()> {
        if clean.len() == corrupted.len() {
            return Ok(());
        }
        let tokens = |ids: &[i32]| opened.labels(ids).join("|");
        let message = format!("{} and {} tokens", clean.len(), corrupted.len());
        Err(Error::new(Kind::Input, "lens", message)
            .fact(tokens(clean))
            .fact(tokens(corrupted))
            .hint("both texts need as many tokens, so that positions mean the same"))
    }

    fn show(&self, opened: &Opened, ids: &[i32], metric: &Metric, map: &Map) -> Result<()> {
        let columns: Vec<String> = match self.by {
            By::Heads => (0..map.columns).map(|h| format!("head {h}")).collect(),
            _ => opened.labels(ids),
        };
        let how = if self.estimate { "estimated" } else { "patched" };
        let title = format!("{} {how}: share of the {} brought back", self.site, metric.name());
        let text = vec![format!(
            "{} of the clean text {:.4}, of the corrupted one {:.4}",
            metric.name(),
            map.clean,
            map.corrupted
        )];
        let json = json!({ "site": self.site, "metric": metric.name(), "clean": map.clean, "corrupted": map.corrupted,
            "estimated": self.estimate, "rows": map.rows, "columns": columns,
            "values": map.values.chunks(map.columns).collect::<Vec<_>>() });
        let (rows, values) = (map.rows.clone(), map.shares());
        if map.clean == map.corrupted {
            let message = format!("both texts have the same {}: {}", metric.name(), map.clean);
            return Err(Error::new(Kind::Input, "lens", message)
                .hint("choose a corrupted text with another answer"));
        }
        let picture = HeatMap { title: title.clone(), rows, columns, values, ..HeatMap::default() };
        self.output.show(&Finding {
            title,
            text,
            pictures: vec![picture],
            json,
            ..Finding::default()
        })
    }
}
