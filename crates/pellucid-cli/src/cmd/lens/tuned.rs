//! `pellucid lens tuned`

use super::looked::{Looked, Told};
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::tuned_lens::{Recipe, TunedLens, evaluate, train};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Tuned {
    #[command(flatten)]
    looked: Looked,
    /// Text to learn from, line by line; its last tenth judges
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
    /// Lines that are read
    #[arg(long, default_value_t = 2000, value_name = "N")]
    lines: usize,
    /// Batches
    #[arg(long, default_value_t = 250, value_name = "N")]
    steps: usize,
    /// Lines of a batch
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
    /// Of the first step
    #[arg(long, default_value_t = 0.1, value_name = "X")]
    rate: f32,
    #[command(flatten)]
    output: FindingArgs,
}

impl Tuned {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let rows = opened.rows(&self.texts, self.lines)?;
        if rows.len() < 10 {
            let message = format!("{} lines, but 10 are needed to learn and to judge", rows.len());
            return Err(Error::new(Kind::Input, "tuned lens", message));
        }
        let (learn, judge) = rows.split_at(rows.len() - rows.len() / 10);
        let mut lens = TunedLens::new(&opened.model.config);
        let recipe = Recipe { steps: self.steps, rate: self.rate, ..Recipe::default() };
        let told = Told::of(self.steps);
        let mut next = |step: usize| -> Result<Vec<Vec<i32>>> {
            let at = |i: usize| learn[(step * self.batch + i) % learn.len()].clone();
            Ok((0..self.batch.min(learn.len())).map(at).collect())
        };
        train(opened.subject(), &mut lens, &recipe, &mut next, &mut |seen| {
            told.at(seen.step);
            Ok(())
        })?;
        drop(told);
        let found = evaluate(opened.subject(), &lens, judge)?;
        let title =
            "How far the stream before each block is from what the model will say".to_owned();
        let mut text =
            vec![title.clone(), "(KL in nats on lines that were not learned from)".into()];
        for d in &found {
            text.push(format!(
                "block {:<3} logit lens {:.4}  tuned lens {:.4}",
                d.layer, d.logit_lens, d.tuned_lens
            ));
        }
        let json = json!(found
            .iter()
            .map(|d| json!({ "block": d.layer, "logit_lens": d.logit_lens, "tuned_lens": d.tuned_lens }))
            .collect::<Vec<_>>());
        let mut tensors = vec![];
        let c = opened.model.config.width;
        for (l, t) in lens.translators.iter().enumerate() {
            tensors.push((format!("{l}.weight"), vec![c, c], t.matrix.clone()));
            tensors.push((format!("{l}.bias"), vec![c], t.bias.clone()));
        }
        self.output.show(&Finding { title, text, json, tensors, ..Finding::default() })
    }
}
