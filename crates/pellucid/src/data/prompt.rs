//! Questions to texts: how one is put, and answered ones before it (Brown et al. 2020, in-context learning).

use super::questions::{Form, Question, Questions};
use super::random::{bits, permute};
use crate::error::{Error, Kind, Result};

const PUT: &str = "put questions";

/// How a question and its answer are put: text with `{question}`, then `{answer}`, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: String,
    between: String,
    after: String,
}

impl Template {
    /// Reads `… {question} … {answer} …`.
    ///
    /// # Errors
    /// Not each of the two once, in this order.
    pub fn parse(text: &str) -> Result<Self> {
        let once = |name: &str| text.matches(name).count() == 1;
        let parts = text.split_once("{question}").and_then(|(before, rest)| {
            let (between, after) = rest.split_once("{answer}")?;
            Some([before, between, after].map(str::to_owned))
        });
        match parts {
            Some([before, between, after]) if once("{question}") && once("{answer}") => {
                Ok(Self { before, between, after })
            }
            _ => Err(Error::new(Kind::Config, PUT, format!("template {text:?}"))
                .hint("it has {question} once and after it {answer} once, as in \"Q: {question}\\nA: {answer}\"")),
        }
    }

    /// How a question is put if nothing else is said.
    fn of(form: Form) -> Self {
        let (before, between) = match form {
            Form::Context => ("", " "),
            Form::Question => ("Question: ", "\nAnswer: "),
            // It ends with its own white space.
            Form::LastWord => ("", ""),
        };
        Self { before: before.into(), between: between.into(), after: String::new() }
    }
}

/// A question as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Answered questions, then this one up to its answer.
    pub context: String,
    /// The answers.
    pub choices: Vec<String>,
    /// The right one, from 0.
    pub answer: usize,
}

/// How questions are put.
#[derive(Clone, Debug)]
pub struct Prompts<'a> {
    /// Where answered questions are taken from.
    pub examples: &'a Questions,
    /// Of questions; none: `{question} {answer}` for contexts, `Question: {question}\nAnswer: {answer}` for questions.
    pub template: Option<Template>,
    /// Between answered questions, and before the open one.
    pub separator: String,
    /// Which examples are taken is a function of this and the number of the question.
    pub seed: u64,
}

impl Prompts<'_> {
    /// Question `number`, from 0, of `questions`, after `shots` answered ones. Fewer shots are a part of more, and
    /// the question itself, with the same text and right answer, is never among them.
    ///
    /// # Errors
    /// Too few examples; no such question.
    pub fn put(&self, questions: &Questions, number: usize, shots: usize) -> Result<Prompt> {
        let Some(question) = questions.all.get(number) else {
            let message = format!("{}: no question {number}", questions.path.display());
            return Err(Error::new(Kind::Input, PUT, message));
        };
        let pool = &self.examples.all;
        let (n, key) = (pool.len() as u64, bits(self.seed, number as u64, 0));
        let drawn = (0..n).map(|i| &pool[permute(i, n, key) as usize]);
        let chosen: Vec<&Question> = drawn.filter(|e| !same(e, question)).take(shots).collect();
        if chosen.len() < shots {
            let (path, line) = (questions.path.display(), question.line);
            let message = format!(
                "{}: {} examples other than the question at {path}:{line}, but {shots} shots are asked for",
                self.examples.path.display(),
                chosen.len()
            );
            return Err(Error::new(Kind::Input, PUT, message)
                .hint("ask for fewer shots, or give a longer file of examples"));
        }
        let mut context = String::new();
        for example in chosen {
            self.open(example, &mut context);
            context.push_str(&example.choices[example.answer]);
            context.push_str(&self.template(example).after);
            context.push_str(&self.separator);
        }
        self.open(question, &mut context);
        Ok(Prompt { context, choices: question.choices.clone(), answer: question.answer })
    }

    fn template(&self, question: &Question) -> Template {
        self.template.clone().unwrap_or_else(|| Template::of(question.form))
    }

    /// A question up to its answer.
    fn open(&self, question: &Question, to: &mut String) {
        let template = self.template(question);
        for part in [&template.before, &question.text, &template.between] {
            to.push_str(part);
        }
    }
}

/// Whether both are the same question.
fn same(a: &Question, b: &Question) -> bool {
    let right = |q: &Question| q.choices[q.answer].trim().to_owned();
    a.text.trim() == b.text.trim() && right(a) == right(b)
}
