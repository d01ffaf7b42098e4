//! Tasks whose answers are found by their likelihood, after any number of examples.

use crate::model::Model;
use crate::out;
use crate::signal;
use clap::{Args, ValueEnum};
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::{Prompt, Prompts, Questions, Template, read_last_words, read_questions};
use pellucid::error::{Error, Kind, Result};
use pellucid::evaluate::{Answered, Choices, LastWords, Share};
use pellucid::model::continuations::{Continuations, Likelihood, Request};
use pellucid::train::plot::ascii_curve;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// What a task asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// {"text": "… last"}: whether the last word is what the model says, and its perplexity (LAMBADA)
    LastWord,
    /// {"question": "…" or "context": "…", "choices": ["…", …], "answer": 0 or "…"}: how often the right choice is the
    /// most probable; labels are choices too
    Choice,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Tasks")]
pub(crate) struct TaskArgs {
    /// A task in place of perplexity; answers are judged by their likelihood
    #[arg(long, value_enum, value_name = "KIND")]
    task: Option<Task>,
    /// Answered questions before each one; several numbers give a line each
    #[arg(long, value_name = "K,K", value_delimiter = ',', default_value = "0", requires = "task")]
    shots: Vec<usize>,
    /// Where answered questions are taken from, never the question itself; without it, from the task's own file
    #[arg(long, value_name = "FILE", requires = "task")]
    examples: Option<PathBuf>,
    /// How a question is put; \n is a new line. Without it "{question} {answer}" for contexts, and
    /// "Question: {question}\nAnswer: {answer}" for questions
    #[arg(long, value_name = "TEXT", requires = "task")]
    template: Option<String>,
    /// Between answered questions, and before the open one
    #[arg(long, value_name = "TEXT", default_value = "\\n\\n", requires = "task")]
    separator: String,
    /// Same seed, same examples
    #[arg(long, value_name = "N", default_value_t = 0, requires = "task")]
    seed: u64,
    /// Only the first N questions; without it, all
    #[arg(long, value_name = "N", requires = "task")]
    limit: Option<usize>,
}

impl TaskArgs {
    pub(crate) fn is_set(&self) -> bool {
        self.task.is_some()
    }
}

/// `\n`, `\t` and `\\` as what they stand for.
fn unescape(text: &str) -> String {
    let (mut all, mut letters) = (String::new(), text.chars());
    while let Some(c) = letters.next() {
        match (c, letters.clone().next()) {
            ('\\', Some(next @ ('n' | 't' | '\\'))) => {
                all.push(match next {
                    'n' => '\n',
                    't' => '\t',
                    _ => '\\',
                });
                letters.next();
            }
            _ => all.push(c),
        }
    }
    all
}

/// Scores of one number of shots.
struct Line {
    shots: usize,
    /// Questions of which something was cut on the left.
    cut: usize,
    tokens: usize,
    found: Found,
}

enum Found {
    Choices(Choices),
    Words(LastWords),
}

/// Runs a task; `field` holds the text whose last word is foretold.
pub(crate) fn run(
    args: &TaskArgs,
    model: &Model,
    pool: &Pool,
    (data, field): (&[PathBuf], &str),
    as_json: bool,
) -> Result<()> {
    let [file] = data else {
        let message = format!("{} files, but a task has one", data.len());
        return Err(Error::new(Kind::Input, "eval", message));
    };
    let task = args.task.unwrap_or(Task::Choice);
    let read = |path: &Path| match task {
        Task::LastWord => read_last_words(path, field),
        Task::Choice => read_questions(path),
    };
    let mut questions = read(file)?;
    let examples = match &args.examples {
        Some(path) => read(path)?,
        None => questions.clone(),
    };
    questions.all.truncate(args.limit.unwrap_or(usize::MAX).max(1));
    let template = args.template.as_deref().map(|t| Template::parse(&unescape(t))).transpose()?;
    let (separator, seed) = (unescape(&args.separator), args.seed);
    let prompts = Prompts { examples: &examples, template, separator, seed };
    let (config, stored) = (&model.config, model.stored.as_ref());
    let mut scorer = Continuations::new(config, stored, pool.threads())?;
    let mut lines = vec![];
    for &shots in &args.shots {
        lines.push(line(model, pool, &mut scorer, (&prompts, &questions, shots), task)?);
    }
    match as_json {
        true => json(&lines, questions.all.len(), (task, args)),
        false => print(&lines, questions.all.len(), model),
    }
}

/// Measures after `shots` examples.
fn line(
    model: &Model,
    pool: &Pool,
    scorer: &mut Continuations,
    (prompts, questions, shots): (&Prompts<'_>, &Questions, usize),
    task: Task,
) -> Result<Line> {
    let put = |number| prompts.put(questions, number, shots);
    let all: Vec<Prompt> = (0..questions.all.len()).map(put).collect::<Result<_>>()?;
    let mut requests = vec![];
    for (prompt, question) in all.iter().zip(&questions.all) {
        let place = || format!("of {}:{}", questions.path.display(), question.line);
        for choice in &prompt.choices {
            let request = model.continued(pool, &prompt.context, choice);
            requests.push(request.map_err(|e| e.fact(place()))?);
        }
    }
    let found = score(model, pool, scorer, &requests)?;
    let tokens = requests.iter().map(|r| r.continuation.len()).sum();
    let (mut rest, mut cut) = (requests.iter().zip(found), 0);
    let answered: Vec<(usize, Vec<Answered>)> = all
        .iter()
        .map(|prompt| {
            let both: Vec<_> = rest.by_ref().take(prompt.choices.len()).collect();
            cut += usize::from(both.iter().any(|(_, found)| found.cut > 0));
            let one = |((request, found), text): ((&Request, Likelihood), &String)| Answered {
                log_probability: found.log_probability,
                greedy: found.greedy,
                tokens: request.continuation.len(),
                bytes: text.len(),
            };
            (prompt.answer, both.into_iter().zip(&prompt.choices).map(one).collect())
        })
        .collect();
    let found = match task {
        Task::Choice => Found::Choices(Choices::of(&answered)?),
        Task::LastWord => {
            let words: Vec<Answered> = answered.iter().map(|(_, word)| word[0]).collect();
            Found::Words(LastWords::of(&words)?)
        }
    };
    Ok(Line { shots, cut, tokens, found })
}

/// Scores with a bar.
pub(crate) fn score(
    model: &Model,
    pool: &Pool,
    scorer: &mut Continuations,
    requests: &[Request],
) -> Result<Vec<Likelihood>> {
    let bar = out::bar(requests.len(), "continuations");
    let found = scorer.score(pool, &model.weights, requests, &mut |done| {
        bar.set_position(done as u64);
        match signal::stopped() {
            true => Err(Error::new(Kind::Interrupted, "eval", "stopped")),
            false => Ok(()),
        }
    });
    bar.finish_and_clear();
    found
}

/// What is measured, by its name in lm-evaluation-harness where it has one there.
fn measures(found: &Found) -> Vec<(&'static str, f64, Option<f64>)> {
    let share = |name, s: Share| (name, s.value(), s.standard_error());
    match found {
        Found::Choices(c) => vec![
            share("acc", c.sum),
            share("acc_norm", c.per_byte),
            share("acc_token", c.per_token),
        ],
        Found::Words(w) => {
            vec![share("acc", w.accuracy), ("perplexity", w.perplexity, w.perplexity_error)]
        }
    }
}

fn chance(found: &Found) -> Option<f64> {
    if let Found::Choices(c) = found { Some(c.chance) } else { None }
}

fn json(lines: &[Line], questions: usize, (task, args): (Task, &TaskArgs)) -> Result<()> {
    let one = |line: &Line| -> Value {
        let mut all = Map::new();
        all.insert("shots".into(), line.shots.into());
        for (name, value, error) in measures(&line.found) {
            all.insert(name.into(), value.into());
            all.insert(format!("{name}_stderr"), error.into());
        }
        all.insert("cut".into(), line.cut.into());
        all.insert("tokens".into(), line.tokens.into());
        all.into()
    };
    let name = task.to_possible_value().map(|v| v.get_name().to_owned());
    out::json(&json!({
        "task": name, "questions": questions, "seed": args.seed,
        "chance": lines.first().and_then(|line| chance(&line.found)),
        "results": lines.iter().map(one).collect::<Vec<_>>(),
    }))
}

fn print(lines: &[Line], questions: usize, model: &Model) -> Result<()> {
    let Some(first) = lines.first() else { return Ok(()) };
    let names = measures(&first.found);
    let head: String = names.iter().map(|(name, ..)| format!("  {name:<18}")).collect();
    out::line(format!("shots{head}").trim_end())?;
    for line in lines {
        let cells: String = measures(&line.found)
            .into_iter()
            .map(|(_, value, error)| {
                // The perplexity of words that a model never saw has no end.
                let text = |x: f64| if x < 1e5 { format!("{x:.4}") } else { format!("{x:.2e}") };
                let error = error.map_or(String::new(), |e| format!(" ± {}", text(e)));
                format!("  {:<18}", format!("{}{error}", text(value)))
            })
            .collect();
        out::line(format!("{:>5}{cells}", line.shots).trim_end())?;
    }
    let mut about = format!("{} questions", out::count(questions as u64));
    if let Some(chance) = chance(&first.found) {
        about.push_str(&format!("; blind guessing {chance:.4}"));
    }
    out::line(format!("{about}; ± is one standard error"))?;
    for line in lines.iter().filter(|line| line.cut > 0) {
        let (cut, context) = (out::count(line.cut as u64), model.config.context);
        let after =
            if lines.len() > 1 { format!(" after {} shots", line.shots) } else { String::new() };
        out::line(format!(
            "{cut} were longer than the context of {context}{after} and were cut on the left"
        ))?;
    }
    let points: Vec<(f64, f64)> =
        lines.iter().map(|line| (line.shots as f64, measures(&line.found)[0].1)).collect();
    if points.len() > 1 {
        out::line("acc over shots")?;
        out::write(&ascii_curve(&points, 60, 10))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_lines_are_written_with_a_backslash() {
        assert_eq!(unescape("a\\nb\\\\n\\t\\x\\"), "a\nb\\n\t\\x\\");
    }
}
