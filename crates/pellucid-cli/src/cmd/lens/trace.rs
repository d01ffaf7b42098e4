//! `pellucid lens trace`

use super::looked::{Looked, Opened, SweepArgs};
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::heat_map::HeatMap;
use pellucid::lens::logit_lens;
use pellucid::lens::tracing::{Fact, Trace, Tracing, trace};
use pellucid::model::observer::Text;
use pellucid::model::site::Site;
use serde_json::json;
use std::ops::Range;

#[derive(Debug, Args)]
pub(crate) struct TraceCommand {
    #[command(flatten)]
    looked: Looked,
    /// The fact without its answer
    prompt: String,
    /// What of the prompt it is about
    #[arg(long, value_name = "TEXT")]
    subject: String,
    /// The answer; without it what the model says
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
    /// Noisy runs that are averaged
    #[arg(long, default_value_t = 10, value_name = "N")]
    samples: usize,
    /// The noise's standard deviation, in those of the embeddings
    #[arg(long, default_value_t = 3.0, value_name = "X")]
    noise: f32,
    /// Blocks whose attention or feed-forward are put back together
    #[arg(long, default_value_t = 10, value_name = "N")]
    window: usize,
    /// Of the noise
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(flatten)]
    output: FindingArgs,
}

/// Where `subject` stands among the tokens of `prompt`.
pub(crate) fn subject_of(opened: &Opened, prompt: &str, subject: &str) -> Result<Range<usize>> {
    let missing = || {
        Error::new(Kind::Input, "lens", format!("{subject:?} is not in {prompt:?}"))
            .hint("write the subject as the prompt has it")
    };
    let at = prompt.find(subject).filter(|_| !subject.is_empty()).ok_or_else(missing)?;
    // Tokens are counted on texts, as a subject may begin with a space that belongs to its first token.
    let count = |text: &str| -> Result<usize> {
        Ok(if text.is_empty() { 0 } else { opened.ids(text)?.len() })
    };
    let before = count(prompt[..at].trim_end())?;
    let after = count(&prompt[..at + subject.len()])?;
    if after > before { Ok(before..after) } else { Err(missing()) }
}

impl TraceCommand {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let ids = opened.ids(&self.prompt)?;
        let subject = subject_of(&opened, &self.prompt, &self.subject)?;
        let answer = match &self.answer {
            Some(text) => opened.next(&self.prompt, text)?,
            None => said(&opened, &ids)?,
        };
        let Self { samples, noise, window, seed, .. } = self;
        let how = Tracing { samples, noise, window, seed };
        let fact = Fact { ids, subject, answer };
        let question = json!({ "trace": fact.ids, "subject": [fact.subject.start, fact.subject.end],
            "answer": answer, "how": format!("{how:?}") });
        let mut told = self.sweep.follow(&opened, question)?;
        let found = trace(opened.subject(), &fact, &how, &mut told)?;
        drop(told);
        self.output.show(&finding(&opened, &fact, &found))
    }
}

/// The most probable next token.
fn said(opened: &Opened, ids: &[i32]) -> Result<u32> {
    let end = Site::logits(&opened.model.config);
    let seen = opened.subject().observe(Text::of(ids), 1, &[end])?;
    let v = opened.model.config.vocab;
    Ok(logit_lens::top(&seen.value(end)?[(ids.len() - 1) * v..], 1)?[0].0)
}

/// Three maps, blocks down, tokens across; those of the subject carry a star.
pub(crate) fn finding(opened: &Opened, fact: &Fact, found: &Trace) -> Finding {
    let t = fact.ids.len();
    let mut columns = opened.labels(&fact.ids);
    fact.subject.clone().for_each(|i| columns[i].push('*'));
    let answer = opened.labels(&[fact.answer as i32]).remove(0);
    let title = format!("Where {answer:?} can be brought back");
    let text = vec![format!(
        "probability of {answer:?}: {:.4} in the clean run, {:.4} with the subject (*) in noise; below, with one state put back",
        found.clean, found.corrupted
    )];
    let mut pictures = vec![];
    for (restored, values) in &found.maps {
        let title = format!("{} put back: probability above the noisy run's", restored.name());
        let above = values.iter().map(|v| v - found.corrupted).collect();
        pictures.push(HeatMap::by_block(title, columns.clone(), above));
    }
    let maps: serde_json::Map<String, serde_json::Value> = found
        .maps
        .iter()
        .map(|(r, v)| (r.name().to_owned(), json!(v.chunks(t).collect::<Vec<_>>())))
        .collect();
    let json = json!({ "tokens": opened.labels(&fact.ids), "subject": [fact.subject.start, fact.subject.end],
        "answer": answer, "clean": found.clean, "corrupted": found.corrupted, "maps": maps });
    Finding { title, text, pictures, json, ..Finding::default() }
}
