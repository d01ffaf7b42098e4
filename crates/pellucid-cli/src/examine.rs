//! Questions to a model, and how many it answers.

use crate::model::Model;
use crate::out;
use crate::view;
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::world::{Kind, Question};
use pellucid::error::Result;
use pellucid::files;
use pellucid::generate::{Flow, GenerateOptions, Sampling};
use std::collections::BTreeMap;
use std::path::Path;

/// A question and what the model said.
pub(crate) struct Answered<'q> {
    pub(crate) question: &'q Question,
    said: String,
}

impl Answered<'_> {
    /// The answer ends with its full stop; what is said after that does not count.
    pub(crate) fn right(&self) -> bool {
        self.said.trim_start().starts_with(self.question.answer.trim())
    }

    /// What was said, up to its first full stop.
    pub(crate) fn first(&self) -> &str {
        self.said.split_inclusive('.').next().unwrap_or_default().trim_end()
    }
}

/// Asks them all, greedily, 64 at a time.
pub(crate) fn ask<'q>(
    model: &Model,
    pool: &Pool,
    questions: &'q [Question],
) -> Result<Vec<Answered<'q>>> {
    let prompts = questions.iter().map(|q| model.encode(&q.prompt)).collect::<Result<Vec<_>>>()?;
    let options = GenerateOptions {
        max_new: 12,
        sampling: Sampling::greedy(),
        stop_ids: model.ends(),
        stop_strings: vec!["\n".into()],
        ..GenerateOptions::default()
    };
    let said = model.generate(pool, &prompts, 64, &options, &mut |_| Ok(Flow::Continue))?;
    let pairs = questions.iter().zip(said);
    Ok(pairs.map(|(question, g)| Answered { question, said: g.text }).collect())
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Person => "facts about people",
        Kind::Stranger => "strangers, from what the prompt tells",
        Kind::Sum => "sums",
        Kind::Comparison => "comparisons",
        _ => "others",
    }
}

/// Some answers of each sort, then the score.
pub(crate) fn report(answers: &[Answered<'_>]) -> Result<()> {
    let mut sorts: BTreeMap<(Kind, bool), Vec<&Answered<'_>>> = BTreeMap::new();
    for a in answers {
        sorts.entry((a.question.kind, a.question.held_out)).or_default().push(a);
    }
    out::line("\nWhat it says (✓ right, ✗ wrong):")?;
    for ((kind, held_out), all) in &sorts {
        let from = if *held_out { "never in the text" } else { "in the text" };
        out::line(format!("\n  {}, {from}", name(*kind)))?;
        // As many right ones as there are among all, so that the sample tells the truth.
        let right = all.iter().filter(|a| a.right()).count();
        let shown = all.len().min(3);
        let good = (right * shown + all.len() / 2) / all.len();
        let some = |wanted: bool, n: usize| all.iter().filter(move |a| a.right() == wanted).take(n);
        for a in some(true, good).chain(some(false, shown - good)) {
            let (prompt, said) = (&a.question.prompt, a.first());
            match a.right() {
                true => out::line(format!("    ✓ {prompt}{said}"))?,
                false => {
                    out::line(format!("    ✗ {prompt}{said}   ({})", a.question.answer.trim()))?
                }
            }
        }
    }
    out::line(format!(
        "\n  {:<40} {:>14} {:>20}",
        "right answers", "in the text", "never in the text"
    ))?;
    for kind in [Kind::Person, Kind::Stranger, Kind::Sum, Kind::Comparison] {
        let cell = |held_out: bool| match sorts.get(&(kind, held_out)) {
            Some(all) => format!("{} / {}", all.iter().filter(|a| a.right()).count(), all.len()),
            None => "–".into(),
        };
        out::line(format!("  {:<40} {:>14} {:>20}", name(kind), cell(false), cell(true)))?;
    }
    Ok(())
}

/// One stranger's question, answered right if there is one: who looks where, and what is said when.
pub(crate) fn look_inside(
    model: &Model,
    pool: &Pool,
    answers: &[Answered<'_>],
    folder: &Path,
) -> Result<()> {
    let sort = |a: &&Answered<'_>| a.question.kind == Kind::Stranger;
    let right = answers.iter().filter(sort).find(|a| a.right());
    let Some(a) = right.or_else(|| answers.iter().find(sort)) else { return Ok(()) };
    let tokenizer = model.tokenizer()?;
    let ids = tokenizer.encode(&a.question.prompt)?;
    let whole = tokenizer.encode(&format!("{}{}", a.question.prompt, a.question.answer))?;
    let Some(&answer) = whole.get(ids.len()) else { return Ok(()) };
    let seen = view::look(model, pool, &ids, answer)?;
    let path = folder.join("attention.svg");
    files::replace("demo", &path, |w| w.write_all(seen.svg.as_bytes()))?;
    out::line(format!("\nInside, for: {} …", a.question.prompt))?;
    let (block, head) = (seen.block, seen.head);
    out::line(format!(
        "\nBlock {block}, head {head}: each row is a token, dark where it looks ({})\n\n{}",
        path.display(),
        seen.map
    ))?;
    out::line(format!(
        "What the model would say after each block (the logit lens):\n\n{}",
        seen.lens
    ))
}
