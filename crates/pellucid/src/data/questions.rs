//! Questions with their answers, one JSON object a line.

use super::rows::{self, Column, Faults};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const READ: &str = "read questions";
const CHOICE: &str = "a line is {\"question\": \"…\", \"choices\": [\"…\", \"…\"], \"answer\": 0}, or has \"context\" in place of \
                      \"question\"; the answer is the number of a choice, from 0, or its text";
const LAST_WORD: &str = "a line is {\"text\": \"… last\"}: its last word is foretold";

/// A text and what may follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What stands before an answer.
    pub text: String,
    /// The answers; of a last word, the word alone.
    pub choices: Vec<String>,
    /// The right one, from 0.
    pub answer: usize,
    /// How it is put where no template is given.
    pub form: Form,
    /// Line in the file, from 1.
    pub line: u64,
}

/// What a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A text that an answer continues.
    Context,
    /// A question in words.
    Question,
    /// A text without its last word, white space at its end included.
    LastWord,
}

/// All questions of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// The file.
    pub path: PathBuf,
    /// In its order.
    pub all: Vec<Question>,
}

/// Reads JSON lines of `{"question": …, "choices": [a, b, …], "answer": …}`, or with `"context"` in place of
/// `"question"`. The answer is the number of a choice, from 0, or its text.
///
/// # Errors
/// A file that cannot be read or is not UTF-8; a line without these fields; fewer than two choices, an empty one, two
/// alike; an answer that is not among them: the first ten are listed with their lines. No line.
pub fn read_questions(path: &Path) -> Result<Questions> {
    read(path, CHOICE, choice)
}

/// Reads JSON lines whose `field` ends with the word that is to be foretold.
///
/// # Errors
/// A file that cannot be read or is not UTF-8; a line without the field, or with fewer than two words in it: the first
/// ten are listed with their lines. No line.
pub fn read_last_words(path: &Path, field: &str) -> Result<Questions> {
    let column = Column::Name(field.into());
    read(path, LAST_WORD, |fields| last_word(fields, &column))
}

fn read(
    path: &Path,
    hint: &str,
    question: impl Fn(&Map<String, Value>) -> Result<Question, String>,
) -> Result<Questions> {
    let text = rows::read(READ, path)?;
    let mut faults = Faults::new(READ, path);
    let mut all = vec![];
    let lines = rows::objects(READ, path, &text).map_err(|e| e.hint(hint))?;
    for (line, fields) in lines {
        match question(&fields) {
            Ok(question) => all.push(Question { line, ..question }),
            Err(fault) => faults.add(line, fault),
        }
    }
    faults.check(hint)?;
    if all.is_empty() {
        let message = format!("{}: no questions in it", path.display());
        return Err(Error::new(Kind::Input, READ, message).hint(hint));
    }
    Ok(Questions { path: path.to_owned(), all })
}

fn choice(fields: &Map<String, Value>) -> Result<Question, String> {
    let get = |name: &str| match rows::field(fields, &Column::Name(name.into()))? {
        text if text.trim().is_empty() => Err(format!("the {name} is empty")),
        text => Ok(text),
    };
    let (text, form) = match (fields.contains_key("context"), fields.contains_key("question")) {
        (true, true) => return Err("both a context and a question".into()),
        (true, false) => (get("context")?, Form::Context),
        (false, _) => (get("question")?, Form::Question),
    };
    let choices = match fields.get("choices") {
        Some(Value::Array(list)) => choices(list)?,
        Some(other) => return Err(format!("\"choices\" is {}, not an array", rows::kind(other))),
        None => return Err(missing(fields, "choices")),
    };
    let answer = match fields.get("answer") {
        None => return Err(missing(fields, "answer")),
        Some(Value::Number(number)) => {
            let index = number.as_u64().map(|n| n as usize).filter(|&n| n < choices.len());
            index.ok_or_else(|| {
                format!("answer {number}, but choices are 0..={}", choices.len() - 1)
            })?
        }
        Some(Value::String(text)) => {
            let same = |choice: &String| choice.trim() == text.trim();
            choices.iter().position(same).ok_or_else(|| {
                format!("answer {text:?} is not among the choices {}", rows::list(&choices))
            })?
        }
        Some(other) => {
            return Err(format!("answer is {}, not a number or text", rows::kind(other)));
        }
    };
    Ok(Question { text, choices, answer, form, line: 0 })
}

fn missing(fields: &Map<String, Value>, name: &str) -> String {
    let names: Vec<String> = fields.keys().cloned().collect();
    format!("no field {name:?}; its fields are {}", rows::list(&names))
}

fn choices(list: &[Value]) -> Result<Vec<String>, String> {
    let mut choices: Vec<String> = vec![];
    for (index, value) in list.iter().enumerate() {
        let Value::String(text) = value else {
            return Err(format!("choice {index} is {}, not text", rows::kind(value)));
        };
        if text.trim().is_empty() {
            return Err(format!("choice {index} is empty"));
        }
        if let Some(other) = choices.iter().position(|other| other.trim() == text.trim()) {
            return Err(format!("choices {other} and {index} are both {text:?}"));
        }
        choices.push(text.clone());
    }
    if choices.len() < 2 {
        return Err(format!("{} choices; there must be at least two", choices.len()));
    }
    Ok(choices)
}

fn last_word(fields: &Map<String, Value>, column: &Column) -> Result<Question, String> {
    let text = rows::field(fields, column)?;
    let text = text.trim_end();
    let at = text.char_indices().rev().find(|(_, c)| c.is_whitespace());
    let start = at.map_or(0, |(at, space)| at + space.len_utf8());
    let (before, word) = text.split_at(start);
    if before.trim().is_empty() {
        return Err(match word.is_empty() {
            true => "the text is empty".into(),
            false => "the text is one word: nothing foretells it".into(),
        });
    }
    let (text, choices) = (before.to_owned(), vec![word.to_owned()]);
    Ok(Question { text, choices, answer: 0, form: Form::LastWord, line: 0 })
}
