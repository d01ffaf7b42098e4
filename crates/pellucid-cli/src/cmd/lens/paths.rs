//! `pellucid lens paths`

use super::looked::{Looked, SweepArgs};
use super::two_texts::{TwoTexts, demand_different, said};
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::heat_map::HeatMap;
use pellucid::lens::patching::Pair;
use pellucid::lens::path_patching::path_map;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Paths {
    #[command(flatten)]
    looked: Looked,
    #[command(flatten)]
    texts: TwoTexts,
    /// Each head sends on its own, not each attention as a whole
    #[arg(long)]
    heads: bool,
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(flatten)]
    output: FindingArgs,
}

impl Paths {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let (clean, corrupted) = self.texts.ids(&opened)?;
        let metric = self.texts.metric(&opened)?;
        let question = json!({ "paths": [clean, corrupted], "heads": self.heads,
            "metric": format!("{metric:?}") });
        let mut told = self.sweep.follow(&opened, question)?;
        let pair = Pair { clean: &clean, corrupted: &corrupted };
        let (map, to) = path_map(opened.subject(), pair, &metric, self.heads, &mut told)?;
        drop(told);
        demand_different(&metric, &map)?;
        let columns: Vec<String> = to.iter().map(ToString::to_string).collect();
        let title = format!("Direct paths: share of the {} brought back", metric.name());
        let json = json!({ "metric": metric.name(), "clean": map.clean, "corrupted": map.corrupted,
            "from": map.rows, "to": columns, "values": map.values.chunks(map.columns).collect::<Vec<_>>() });
        let (rows, values) = (map.rows.clone(), map.shares());
        let picture = HeatMap::new(title, rows, columns, values);
        let text = vec![said(&metric, &map)];
        self.output.show(&Finding::pictured(picture, text, json))
    }
}
