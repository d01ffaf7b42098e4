//! `pellucid lens edit-fact`

use super::looked::Looked;
use super::trace::subject_of;
use crate::finding::{Finding, FindingArgs};
use crate::store::{StoreArgs, Whole, elsewhere};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::fact_edit::{FactEdit, edit, moments};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct EditFact {
    #[command(flatten)]
    looked: Looked,
    /// The fact without its answer
    prompt: String,
    /// What of the prompt it is about
    #[arg(long, value_name = "TEXT")]
    subject: String,
    /// What should follow
    #[arg(long, value_name = "TEXT")]
    answer: String,
    /// The same fact said otherwise, without its answer; the subject stands in it as well
    #[arg(long, value_name = "TEXT")]
    also: Vec<String>,
    /// The block whose feed-forward is edited: where a trace has its early site
    #[arg(long, value_name = "N")]
    layer: usize,
    /// Ordinary text, a piece on each line: what must not change
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Lines of it that are read
    #[arg(long, default_value_t = 1000, value_name = "N")]
    lines: usize,
    /// Steps of the search
    #[arg(long, default_value_t = 30, value_name = "N")]
    steps: usize,
    /// Of each step
    #[arg(long, default_value_t = 0.2, value_name = "X")]
    rate: f32,
    /// How much the change is held down
    #[arg(long, default_value_t = 0.02, value_name = "X")]
    decay: f32,
    /// Folder of the edited model
    #[arg(long, short, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    output: FindingArgs,
}

impl EditFact {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        elsewhere("edit fact", &opened.model.folder, &self.out)?;
        let mut prompts = vec![];
        for prompt in std::iter::once(&self.prompt).chain(&self.also) {
            let subject = subject_of(&opened, prompt, &self.subject)?;
            prompts.push((opened.ids(prompt)?, subject.end - 1));
        }
        let answer = opened.continuation(&self.prompt, &self.answer)?;
        let rows = opened.rows(&self.text, self.lines)?;
        let subject = opened.subject();
        let known = moments(subject, self.layer, &rows, false)?;
        let (layer, steps, rate, decay) = (self.layer, self.steps, self.rate, self.decay);
        let how = FactEdit { layer, prompts, answer, steps, rate, decay };
        let (weights, done) = edit(subject, &how, &known)?;
        let folder = crate::model::find(&opened.model.folder)?;
        let mut whole = Whole::load(&folder)?;
        let layout = self.store.layout(whole.stored)?;
        whole.weights = weights;
        whole.save("edit fact", &self.out, layout)?;
        let [before, with_value, after] = done.log_probability;
        let title = format!("{} {}", self.prompt, self.answer.trim());
        let text = vec![
            title.clone(),
            format!(
                "log-probability {before:.3} before, {with_value:.3} with the value put in, {after:.3} edited"
            ),
            format!("the matrix moved by {:.4} of its length", done.change.0 / done.change.1),
            format!("edited model: {}", self.out.display()),
        ];
        let json = json!({ "log_probability": { "before": before, "value": with_value, "after": after },
            "change": done.change.0, "matrix": done.change.1, "out": self.out.display().to_string() });
        self.output.show(&Finding { title, text, json, ..Finding::default() })
    }
}
