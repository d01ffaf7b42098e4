//! `pellucid verify`: the exact laws of a glass box, on somebody's own model.

use crate::cmd::lens::Looked;
use crate::out;
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::verify::{Law, Outcome, Texts, verify};
use pellucid::model::observer::Text;
use pellucid::tensor::random::Random;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    looked: Looked,
    /// Tokens of the texts, drawn at random
    #[arg(long, default_value_t = 12, value_name = "N")]
    tokens: usize,
    /// Of the texts
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let config = &opened.model.config;
        let t = self.tokens.min(config.context);
        let mut random = Random::new(self.seed, 3);
        let mut draw = |n: usize, vocab: usize| -> Vec<i32> {
            (0..n).map(|_| random.below(vocab) as i32).collect()
        };
        let ids = draw(t, config.vocab);
        let source = draw(if config.has_source() { t } else { 0 }, config.source_vocab());
        let mut other = ids.clone();
        // Another token in the middle, and another at the end of neither.
        let middle = t / 2;
        other[middle] = (other[middle] + 1) % config.vocab as i32;
        let text = |ids| Text { ids, source: &source, ..Text::default() };
        let texts = Texts { text: text(&ids), other: text(&other) };
        let laws = verify(opened.subject(), texts, &mut |law| {
            if self.json { Ok(()) } else { out::line(line(law)) }
        })?;
        let failed = laws.iter().filter(|l| l.outcome.held() == Some(false)).count();
        let held = laws.iter().filter(|l| l.outcome.held() == Some(true)).count();
        if self.json {
            let all: Vec<_> = laws.iter().map(value).collect();
            out::json(&json!({ "held": held, "failed": failed, "laws": all }))?;
        } else {
            out::line(format!(
                "\n{held} held, {failed} failed, {} say nothing about this model",
                laws.len() - held - failed
            ))?;
        }
        if failed == 0 {
            return Ok(());
        }
        let message = format!("{failed} laws do not hold for {}", opened.model.folder.display());
        Err(Error::new(Kind::Numeric, "verify", message).hint(
            "weights with huge or no numbers break them; else please report it with this model",
        ))
    }
}

fn line(law: &Law) -> String {
    let start = format!("{:>3}  {:<88}", law.number, law.name);
    match &law.outcome {
        Outcome::DoesNotApply(why) => format!("{start}  –  {why}"),
        Outcome::Measured { error, limit } => {
            let mark = if law.outcome.held() == Some(true) { "✓" } else { "✗" };
            format!("{start}  {mark}  {error:.1e} (limit {limit:.0e})")
        }
    }
}

fn value(law: &Law) -> serde_json::Value {
    match &law.outcome {
        Outcome::DoesNotApply(why) => {
            json!({ "number": law.number, "law": law.name, "held": null, "why": why })
        }
        Outcome::Measured { error, limit } => {
            json!({ "number": law.number, "law": law.name, "held": law.outcome.held(), "error": error, "limit": limit })
        }
    }
}
