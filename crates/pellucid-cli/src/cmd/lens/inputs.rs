//! `pellucid lens inputs`, `rollout` and `neurons`.

use super::looked::Looked;
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::heat_map::HeatMap;
use pellucid::lens::input_attribution::{gradient_times_input, integrated_gradients};
use pellucid::lens::metric::Metric;
use pellucid::lens::neurons::{keys, knowledge, values};
use pellucid::lens::rollout::rollout;
use pellucid::model::observer::Text;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Inputs {
    #[command(flatten)]
    looked: Looked,
    /// What the model reads
    text: String,
    /// The token whose log-probability is asked about
    #[arg(long, value_name = "TEXT")]
    token: String,
    /// Steps of integrated gradients; 0: gradient times input
    #[arg(long, default_value_t = 50, value_name = "N")]
    steps: usize,
    #[command(flatten)]
    output: FindingArgs,
}

impl Inputs {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let ids = opened.ids(&self.text)?;
        let metric = Metric::LogProbability(opened.next(&self.text, &self.token)?);
        let found = match self.steps {
            0 => gradient_times_input(opened.subject(), &ids, &metric)?,
            steps => integrated_gradients(opened.subject(), &ids, &metric, None, steps)?,
        };
        let how = if self.steps == 0 { "gradient x input" } else { "integrated gradients" };
        let title = format!("What {:?} hangs on: {how}", self.token);
        let mut text = vec![format!("{} {:.4}", metric.name(), found.value)];
        if let (Some(baseline), Some(error)) = (found.baseline, found.completeness_error()) {
            text.push(format!(
                "without any input {baseline:.4}; shares miss the difference by {error:.4}"
            ));
        }
        let columns = opened.labels(&ids);
        let json = json!({ "tokens": columns, "shares": found.tokens, "value": found.value,
            "baseline": found.baseline, "completeness_error": found.completeness_error() });
        let rows = vec!["share".into()];
        let picture = HeatMap::new(title, rows, columns, found.tokens);
        self.output.show(&Finding::pictured(picture, text, json))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rollout {
    #[command(flatten)]
    looked: Looked,
    /// What the model reads
    text: String,
    /// Share of each position that stays with itself in a block
    #[arg(long, default_value_t = 0.5, value_name = "X")]
    residual: f64,
    #[command(flatten)]
    output: FindingArgs,
}

impl Rollout {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let ids = opened.ids(&self.text)?;
        let blocks = rollout(opened.subject(), Text::of(&ids), self.residual)?;
        let names = opened.labels(&ids);
        let title =
            "Attention multiplied through all blocks: where each position's content comes from"
                .to_owned();
        let json = json!({ "tokens": names, "blocks": blocks.iter().map(|b| b.chunks(ids.len()).collect::<Vec<_>>()).collect::<Vec<_>>() });
        let values = blocks.last().cloned().unwrap_or_default();
        let picture = HeatMap::new(title, names.clone(), names, values);
        self.output.show(&Finding::pictured(picture, vec![], json))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Neurons {
    #[command(flatten)]
    looked: Looked,
    /// Block
    #[arg(long, value_name = "N")]
    layer: usize,
    /// Neurons, such as 3,17
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    neurons: Vec<usize>,
    /// Text whose lines wake them
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Lines of it that are read
    #[arg(long, default_value_t = 1000, value_name = "N")]
    lines: usize,
    /// Finds the neurons of the block that this prompt's answer hangs on, in place of --neurons
    #[arg(long, value_name = "TEXT", requires = "answer")]
    prompt: Option<String>,
    /// The answer
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
    /// Shown of each
    #[arg(long, default_value_t = 5, value_name = "K")]
    top: usize,
    #[command(flatten)]
    output: FindingArgs,
}

impl Neurons {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let subject = opened.subject();
        let (mut which, mut text) = (self.neurons.clone(), vec![]);
        if let (Some(prompt), Some(answer)) = (&self.prompt, &self.answer) {
            let metric = Metric::Probability(opened.next(prompt, answer)?);
            let ids = opened.ids(prompt)?;
            let found = knowledge(subject, &ids, &metric, (self.layer, None), 20)?;
            let mut order: Vec<usize> = (0..found.shares.len()).collect();
            order.sort_by(|&a, &b| found.shares[b].total_cmp(&found.shares[a]).then(a.cmp(&b)));
            order.truncate(self.top);
            text.push(format!(
                "probability of {answer:?}: {:.4}, without block {}'s neurons {:.4}; they give:",
                found.value, self.layer, found.without
            ));
            text.extend(order.iter().map(|&n| format!("  neuron {n}: {:+.4}", found.shares[n])));
            which = order;
        }
        let mut list = vec![];
        for value in values(subject, (self.layer, &which), self.top)? {
            let words = |all: &[(u32, f32)]| -> Vec<String> {
                all.iter().map(|(id, _)| opened.labels(&[*id as i32]).remove(0)).collect()
            };
            let (raised, lowered) = (words(&value.raised), words(&value.lowered));
            text.push(format!("neuron {}: raises {raised:?}, lowers {lowered:?}", value.neuron));
            list.push(json!({ "neuron": value.neuron, "raises": raised, "lowers": lowered }));
        }
        if let Some(path) = &self.texts {
            let rows = opened.rows(path, self.lines)?;
            let found = keys(subject, &rows, (self.layer, &which), self.top, &mut |_| Ok(()))?;
            for (key, entry) in found.iter().zip(&mut list) {
                text.push(format!(
                    "neuron {}: above 0 at {:.1}% of positions",
                    key.neuron,
                    100.0 * key.active
                ));
                let mut places = vec![];
                for wake in &key.top {
                    let row = &rows[wake.row];
                    let from = wake.position.saturating_sub(8);
                    let before = opened.labels(&row[from..=wake.position]).concat();
                    text.push(format!("  {:>8.3}  …{before}", wake.value));
                    places.push(json!({ "value": wake.value, "text": before }));
                }
                entry["active"] = json!(key.active);
                entry["top"] = json!(places);
            }
        }
        let title = format!("Neurons of block {}", self.layer);
        self.output.show(&Finding { title, text, json: json!(list), ..Finding::default() })
    }
}
