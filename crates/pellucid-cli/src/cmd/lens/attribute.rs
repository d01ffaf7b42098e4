//! `pellucid lens attribute`

use super::Looked;
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::attribution::{Grain, attribute};
use pellucid::model::observer::Text;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Attribute {
    #[command(flatten)]
    looked: Looked,
    /// What the model reads
    text: String,
    /// The token whose score is asked about: the first of this continuation
    #[arg(long, value_name = "TEXT")]
    token: String,
    /// Less the score of this one
    #[arg(long, value_name = "TEXT")]
    versus: Option<String>,
    /// What its encoder reads, where it has two stacks
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Tells heads apart
    #[arg(long, conflicts_with = "neurons")]
    heads: bool,
    /// Tells the neurons of this block apart, and shows the strongest
    #[arg(long, value_name = "BLOCK")]
    neurons: Option<usize>,
    /// Components shown, the strongest
    #[arg(long, default_value_t = 20, value_name = "K")]
    top: usize,
    #[command(flatten)]
    output: FindingArgs,
}

impl Attribute {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let (ids, source) = (opened.ids(&self.text)?, opened.source(self.source.as_deref())?);
        let mut direction = vec![(opened.next(&self.text, &self.token)?, 1.0)];
        if let Some(versus) = &self.versus {
            direction.push((opened.next(&self.text, versus)?, -1.0));
        }
        let grain = match (self.heads, self.neurons) {
            (true, _) => Grain::Heads,
            (_, Some(layer)) => Grain::Neurons(layer),
            _ => Grain::Sublayers,
        };
        let text = Text { ids: &ids, source: &source, ..Text::default() };
        let found = attribute(opened.subject(), text, ids.len() - 1, &direction, grain)?;
        let largest = found.shares.iter().fold(1e-12f64, |m, s| m.max(s.value.abs()));
        let mut order: Vec<usize> = (0..found.shares.len()).collect();
        order.sort_by(|&a, &b| {
            let size = |i: usize| found.shares[i].value.abs();
            size(b).total_cmp(&size(a)).then(a.cmp(&b))
        });
        order.truncate(self.top);
        order.sort_unstable();
        let title = format!(
            "Who wrote {:?}{} after {:?}",
            self.token,
            self.versus.as_ref().map(|v| format!(" less {v:?}")).unwrap_or_default(),
            self.text
        );
        let mut lines = vec![title.clone(), String::new()];
        for i in order {
            let share = &found.shares[i];
            let length = (share.value.abs() / largest * 30.0).round() as usize;
            let bar = if share.value < 0.0 { "▒" } else { "█" }.repeat(length);
            lines.push(format!("{:<30} {:>9.4} {bar}", share.component, share.value));
        }
        lines.push(format!("{:<30} {:>9.4}", "sum of all", found.sum()));
        lines.push(format!("{:<30} {:>9.4}", "score", found.score));
        let shares = found.shares.iter();
        let shares: Vec<_> =
            shares.map(|s| json!({ "component": s.component, "value": s.value })).collect();
        let json = json!({ "shares": shares, "sum": found.sum(), "score": found.score });
        self.output.show(&Finding { title, text: lines, json, ..Finding::default() })
    }
}
