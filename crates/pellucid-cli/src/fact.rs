//! One fact that the demo's model learned: where it is kept, and what it takes to rewrite it.

use crate::cmd::lens::{Opened, subject_of, trace_finding};
use crate::examine::ask;
use crate::out;
use pellucid::data::world::{Fact, Question, World};
use pellucid::error::Result;
use pellucid::files;
use pellucid::lens::fact_edit::{FactEdit, edit, moments};
use pellucid::lens::tracing::{self, Restored, Trace, Tracing, trace};
use std::path::Path;

/// Facts that must stay.
const NEIGHBOURS: usize = 200;
/// Lines of the world that say what a feed-forward is used to.
const ORDINARY: usize = 400;

/// Traces a fact, rewrites it, and counts which of its neighbours stayed. Changes nothing on disk but the picture.
pub(crate) fn trace_and_rewrite(opened: &mut Opened, world: &World, folder: &Path) -> Result<()> {
    let Some((fact, others)) = choose(opened, world)? else {
        return out::line("\nNo fact is known well enough to be traced.");
    };
    let found = traced(opened, fact)?;
    let (known, trace) = found;
    let picture = trace_finding(opened, &known, &trace);
    let path = folder.join("trace.svg");
    if let Some(first) = picture.pictures.first() {
        let svg = first.svg()?;
        files::replace("demo", &path, |w| w.write_all(svg.as_bytes()))?;
    }
    let Question { prompt, answer, .. } = &fact.question;
    out::line(format!("\nWhere is it kept? {prompt}{answer} ({})\n", path.display()))?;
    for line in &picture.text {
        out::line(line)?;
    }
    for picture in picture.pictures.iter().take(2) {
        out::line(format!("\n{}\n\n{}", picture.title, picture.ascii()?.trim_end()))?;
    }
    let place = early_and_late(&known, &trace)?;
    rewrite(opened, world, fact, &others, place)
}

/// A fact that is answered right, and others that are.
fn choose<'w>(opened: &Opened, world: &'w World) -> Result<Option<(&'w Fact, Vec<&'w Fact>)>> {
    let questions: Vec<Question> = world.facts.iter().map(|f| f.question.clone()).collect();
    let answers = ask(&opened.model, &opened.pool, &questions)?;
    let known: Vec<&Fact> =
        world.facts.iter().zip(&answers).filter(|(_, a)| a.right()).map(|(f, _)| f).collect();
    // Pets follow from nothing else, so a new one contradicts nothing.
    let Some(&fact) = known.iter().find(|f| f.question.prompt.contains("pet")) else {
        return Ok(None);
    };
    let others: Vec<&Fact> = known.into_iter().filter(|f| *f != fact).collect();
    // The same person's first, then evenly among all others.
    let (mut near, far): (Vec<&Fact>, Vec<&Fact>) =
        others.into_iter().partition(|f| f.name == fact.name);
    let step = (far.len() / (NEIGHBOURS - near.len().min(NEIGHBOURS)).max(1)).max(1);
    near.extend(far.into_iter().step_by(step));
    near.truncate(NEIGHBOURS);
    Ok(Some((fact, near)))
}

fn traced(opened: &Opened, fact: &Fact) -> Result<(tracing::Fact, Trace)> {
    let Question { prompt, answer, .. } = &fact.question;
    let ids = opened.ids(prompt)?;
    let subject = subject_of(opened, prompt, &fact.name)?;
    let known = tracing::Fact { ids, subject, answer: opened.next(prompt, answer)? };
    // Of a few blocks, a window of ten would be all.
    let how = Tracing { window: 1, ..Tracing::default() };
    let trace = trace(opened.subject(), &known, &how, &mut ())?;
    Ok((known, trace))
}

/// Says where the two sites of Meng et al. 2022 are, if they are there; block and position of the feed-forward that
/// brings most back.
fn early_and_late(fact: &tracing::Fact, trace: &Trace) -> Result<(usize, usize)> {
    let t = fact.ids.len();
    let (at, end) = (fact.subject.end - 1, t - 1);
    let best = |restored: Restored, position: usize| -> Option<(usize, f64)> {
        let map = trace.maps.get(&restored)?;
        let column = map.iter().skip(position).step_by(t).map(|v| v - trace.corrupted);
        // What the last block writes at an earlier token is read by nobody.
        let blocks = map.len() / t - usize::from(position < end);
        column.take(blocks).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let whole = (trace.clean - trace.corrupted).max(1e-9);
    let said = |what: &str, place: &str, found: Option<(usize, f64)>| match found {
        Some((layer, gain)) => {
            format!("{what} at {place}: block {layer} brings back {:.0}%", 100.0 * gain / whole)
        }
        None => format!("{what} at {place}: there is none"),
    };
    let (early, late) = (best(Restored::FeedForward, at), best(Restored::FeedForward, end));
    out::line("")?;
    out::line(said("feed-forward", "the subject's last token", early))?;
    out::line(said("attention", "the subject's last token", best(Restored::Attention, at)))?;
    out::line(said("feed-forward", "the last token", late))?;
    out::line(said("attention", "the last token", best(Restored::Attention, end)))?;
    let (early, late) = (early.unwrap_or_default(), late.unwrap_or_default());
    if early.1 >= late.1 {
        out::line("The early site is there: the fact is looked up at the subject.")?;
        return Ok((early.0, at));
    }
    out::line("There is no early site: this small model looks the fact up at the last token.")?;
    Ok((late.0, end))
}

/// What the feed-forward is used to where it is edited: ordinary lines at the subject; at the last token the ends of
/// other questions, none of which is asked afterwards.
fn used_to(
    opened: &Opened,
    world: &World,
    (fact, others): (&Fact, &[&Fact]),
    (layer, position): (usize, usize),
) -> Result<Vec<f64>> {
    let subject = opened.subject();
    let last = position + 1 == opened.ids(&fact.question.prompt)?.len();
    let mut rows = vec![];
    if last {
        for other in world.facts.iter().filter(|f| *f != fact && !others.contains(f)) {
            rows.push(opened.ids(&other.question.prompt)?);
        }
    }
    if rows.is_empty() {
        for line in world.text.lines().take(ORDINARY) {
            rows.push(opened.ids(line)?);
        }
        return moments(subject, layer, &rows, false);
    }
    moments(subject, layer, &rows, true)
}

fn rewrite(
    opened: &mut Opened,
    world: &World,
    fact: &Fact,
    others: &[&Fact],
    (layer, position): (usize, usize),
) -> Result<()> {
    let Question { prompt, answer, .. } = &fact.question;
    let other = world.facts.iter().find(|f| f.sort == fact.sort && f.question.answer != *answer);
    let Some(new) = other.map(|f| f.question.answer.clone()) else { return Ok(()) };
    let known = used_to(opened, world, (fact, others), (layer, position))?;
    let how = FactEdit {
        layer,
        prompts: vec![(opened.ids(prompt)?, position)],
        answer: opened.continuation(prompt, &new)?,
        steps: 40,
        rate: 0.2,
        decay: 0.02,
    };
    let (weights, done) = edit(opened.subject(), &how, &known)?;
    let before = std::mem::replace(&mut opened.model.weights, weights);
    let changed = Question { answer: new.clone(), ..fact.question.clone() };
    let kept: Vec<Question> = others.iter().map(|f| f.question.clone()).collect();
    let now = ask(&opened.model, &opened.pool, std::slice::from_ref(&changed))?;
    let stayed = ask(&opened.model, &opened.pool, &kept)?;
    opened.model.weights = before;
    let same = stayed.iter().filter(|a| a.right()).count();
    out::line(format!(
        "\nRewritten by a change of rank one in block {layer}'s feed-forward ({:.1}% of the matrix's length):\n\n  \
         {} {prompt}{}   (wanted:{new})\n  {same} of {} other facts stay as they were",
        100.0 * done.change.0 / done.change.1,
        if now[0].right() { "✓" } else { "✗" },
        now[0].first(),
        kept.len()
    ))
}
