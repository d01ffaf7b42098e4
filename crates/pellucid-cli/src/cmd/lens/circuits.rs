//! `pellucid lens circuits`

use super::looked::{Looked, Told};
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::circuits::{Composition, circuits};
use pellucid::lens::heat_map::HeatMap;
use serde_json::json;

/// Pairs that are named.
const NAMED: usize = 5;

#[derive(Debug, Args)]
pub(crate) struct Circuits {
    #[command(flatten)]
    looked: Looked,
    #[command(flatten)]
    output: FindingArgs,
}

impl Circuits {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let (layers, h) = (opened.model.config.layers, opened.model.config.heads);
        let told = Told::of(layers * h);
        let found = circuits(opened.subject(), &mut told.each())?;
        drop(told);
        let mut pictures = vec![];
        if let Some(values) = &found.copying {
            let columns = (0..h).map(|i| format!("head {i}")).collect();
            let title = "copying: would raise what it looks at";
            pictures.push(HeatMap::by_block(title, columns, values.clone()));
        }
        let n = layers * h;
        let name = |i: usize| format!("{}.{}", i / h, i % h);
        let (mut text, mut json) = (vec![], json!({ "heads": h, "copying": found.copying }));
        for (kind, scores) in Composition::ALL.iter().zip(&found.composition) {
            let mut best: Vec<usize> = (0..n * n).filter(|&i| scores[i] > 0.0).collect();
            best.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let said = |&i: &usize| format!("{} to {} {:.3}", name(i / n), name(i % n), scores[i]);
            let named: Vec<String> = best.iter().take(NAMED).map(said).collect();
            text.push(format!("{}: {}", kind.name(), named.join(", ")));
            json[kind.name()] = json!(scores.chunks(n).collect::<Vec<_>>());
            let title =
                format!("{}: what a head (down) wrote, in a later one (across)", kind.name());
            let names: Vec<String> = (0..n).map(name).collect();
            pictures.push(HeatMap::new(title, names.clone(), names, scores.clone()));
        }
        let title = "What heads would do by their weights".into();
        self.output.show(&Finding { title, text, pictures, json, ..Finding::default() })
    }
}
