//! Tagged text: sentences in words, each word with a tag, such as named entities or parts of speech.

use super::rows::{self, Column, Faults};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;

const READ: &str = "read tagged text";

/// What begins a document in the files of CoNLL-2003; it is no word.
const DOCUMENT: &str = "-DOCSTART-";

/// Where words and tags are. In JSON lines they are fields that hold arrays; else a line is a word with its columns,
/// as in CoNLL's files, and a blank line ends a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedColumns {
    /// The word: a column, or the field of the words.
    pub words: Column,
    /// The tag: a column, or the field of the tags; without it the last column.
    pub tags: Option<Column>,
    /// Whether the first line names the columns. Where one is named, it does.
    pub header: bool,
}

impl Default for TaggedColumns {
    /// The first and the last column.
    fn default() -> Self {
        Self { words: Column::Number(1), tags: None, header: false }
    }
}

/// A sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagged {
    /// Its words.
    pub words: Vec<String>,
    /// The tag of each.
    pub tags: Vec<String>,
    /// Line in the file on which it begins, from 1.
    pub line: u64,
}

/// Reads tagged text; with `known`, other tags are faults. A line with the word `-DOCSTART-` is left out. Columns are
/// told apart by tabs if the first line has one, else by blanks.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, or has no word; a column or field that is not there; where the last column
/// is the tag, lines with other numbers of columns; empty or unknown tags; fields with other numbers of words and tags:
/// the first ten are listed with their lines.
pub fn read_tagged(
    path: &Path,
    columns: &TaggedColumns,
    known: Option<&[String]>,
) -> Result<Vec<Tagged>> {
    let text = rows::read(READ, path)?;
    let mut faults = Faults::new(READ, path);
    let (all, hint) = match rows::ending(path).as_str() {
        "jsonl" | "ndjson" => (
            fields(path, &text, columns, &mut faults)?,
            "a line is a sentence, such as {\"tokens\": [\"Rome\"], \"tags\": [\"B-LOC\"]}",
        ),
        _ => (
            lines(path, &text, columns, &mut faults)?,
            "a line is a word and its columns; a blank line ends a sentence",
        ),
    };
    faults.check(hint)?;
    if all.is_empty() {
        let message = format!("{}: no words in it", path.display());
        return Err(Error::new(Kind::Input, READ, message));
    }
    if let Some(known) = known {
        check_known(path, &all, known)?;
    }
    Ok(all.into_iter().map(|(sentence, _)| sentence).collect())
}

/// Each sentence with the line of each word.
type Lined = (Tagged, Vec<u64>);

fn check_known(path: &Path, all: &[Lined], known: &[String]) -> Result<()> {
    let names: HashSet<&str> = known.iter().map(String::as_str).collect();
    let mut faults = Faults::new(READ, path);
    for (sentence, lines) in all {
        for (tag, line) in sentence.tags.iter().zip(lines) {
            if !names.contains(tag.as_str()) {
                faults.add(*line, format!("unknown label {tag:?}"));
            }
        }
    }
    faults.check(&format!("the known labels are {}", rows::list(known)))
}

fn lines(
    path: &Path,
    text: &str,
    columns: &TaggedColumns,
    faults: &mut Faults,
) -> Result<Vec<Lined>> {
    let blank = |line: &str| line.trim_matches([' ', '\t']).is_empty();
    let content = |line: &str| !blank(line) && !line.starts_with(DOCUMENT);
    let Some((number, first)) = rows::lines(text).find(|(_, line)| content(line)) else {
        return Ok(vec![]);
    };
    let tabs = first.contains('\t');
    let named =
        matches!(columns.words, Column::Name(_)) || matches!(columns.tags, Some(Column::Name(_)));
    let header = (named || columns.header).then_some(number);
    let names: Vec<String> = cells(first, tabs).map(Into::into).collect();
    let place = |column: &Column| match column {
        Column::Number(number) => number.checked_sub(1).ok_or_else(|| {
            Error::new(Kind::Config, READ, "column 0").hint("columns are counted from 1")
        }),
        Column::Name(name) => names.iter().position(|other| other == name).ok_or_else(|| {
            Error::new(
                Kind::Format,
                READ,
                format!("{}:{number}: no column {name:?}", path.display()),
            )
            .fact(format!("its columns are {}", rows::list(&names)))
            .hint("name one of them, or give columns by number, from 1, if there is no header")
        }),
    };
    let word = place(&columns.words)?;
    let tag = columns.tags.as_ref().map(place).transpose()?;
    let mut reading = Reading { word, tag, tabs, count: None, all: vec![], ended: true };
    for (number, line) in rows::lines(text).filter(|(number, _)| Some(*number) != header) {
        if blank(line) {
            reading.ended = true;
        } else if let Err(fault) = reading.line(number, line) {
            faults.add(number, fault);
        }
    }
    Ok(reading.all)
}

/// A file of lines, as far as it was read.
struct Reading {
    word: usize,
    tag: Option<usize>,
    tabs: bool,
    /// Where the last column is the tag: columns of a line, and the line that says so.
    count: Option<(usize, u64)>,
    all: Vec<Lined>,
    /// Whether the next word begins a sentence.
    ended: bool,
}

impl Reading {
    fn line(&mut self, number: u64, line: &str) -> Result<(), String> {
        let cells: Vec<&str> = cells(line, self.tabs).collect();
        if cells.first() == Some(&DOCUMENT) {
            self.ended = true;
            return Ok(());
        }
        let n = cells.len();
        let tag = match self.tag {
            Some(tag) => tag,
            None => {
                let (count, first) = *self.count.get_or_insert((n, number));
                if n != count {
                    return Err(format!("{}, but {count} on line {first}", number_of(n)));
                }
                // A word alone has no tag.
                (n - 1).max(self.word + 1)
            }
        };
        let least = self.word.max(tag) + 1;
        if n < least {
            return Err(format!("{}; {least} are needed", number_of(n)));
        }
        match (cells[self.word], cells[tag]) {
            ("", _) => return Err("the word is empty".into()),
            (_, "") => return Err("the tag is empty".into()),
            (word, tag) => self.push(number, word, tag),
        }
        Ok(())
    }

    fn push(&mut self, number: u64, word: &str, tag: &str) {
        if self.ended || self.all.is_empty() {
            self.all.push((Tagged { line: number, ..Tagged::default() }, vec![]));
            self.ended = false;
        }
        if let Some((sentence, lines)) = self.all.last_mut() {
            sentence.words.push(word.into());
            sentence.tags.push(tag.into());
            lines.push(number);
        }
    }
}

fn number_of(columns: usize) -> String {
    if columns == 1 { "1 column".into() } else { format!("{columns} columns") }
}

/// Cells of a line: between tabs without the blanks around them, or between runs of blanks.
fn cells(line: &str, tabs: bool) -> Box<dyn Iterator<Item = &str> + '_> {
    match tabs {
        true => Box::new(line.split('\t').map(|cell| cell.trim_matches(' '))),
        false => Box::new(line.split([' ', '\t']).filter(|cell| !cell.is_empty())),
    }
}

/// JSON objects with an array of words and one of tags.
fn fields(
    path: &Path,
    text: &str,
    columns: &TaggedColumns,
    faults: &mut Faults,
) -> Result<Vec<Lined>> {
    let named = |column: Option<&Column>, default: &str| match column {
        Some(Column::Name(name)) => Ok(name.clone()),
        None | Some(Column::Number(1)) => Ok(default.to_owned()),
        Some(Column::Number(number)) => Err(Error::new(
            Kind::Config,
            READ,
            format!("{}: JSON lines have fields by name, not column {number}", path.display()),
        )
        .hint("name the field of the words and that of the tags")),
    };
    let words = named(Some(&columns.words), "tokens")?;
    let tags = named(columns.tags.as_ref(), "tags")?;
    let mut all = vec![];
    for (line, fields) in rows::objects(READ, path, text)? {
        let both = array(&fields, &words).and_then(|words| Ok((words, array(&fields, &tags)?)));
        let (words, tags) = match both {
            Ok((words, _)) if words.is_empty() => {
                faults.add(line, "no word");
                continue;
            }
            Ok((words, tags)) if words.len() == tags.len() => (words, tags),
            Ok((words, tags)) => {
                faults.add(line, format!("{} words, but {} tags", words.len(), tags.len()));
                continue;
            }
            Err(fault) => {
                faults.add(line, fault);
                continue;
            }
        };
        match words.iter().zip(&tags).position(|(word, tag)| word.is_empty() || tag.is_empty()) {
            Some(at) => faults.add(line, format!("word {} or its tag is empty", at + 1)),
            None => {
                let lines = vec![line; words.len()];
                all.push((Tagged { words, tags, line }, lines));
            }
        }
    }
    Ok(all)
}

/// The texts of an array; numbers as they are written.
fn array(fields: &Map<String, Value>, name: &str) -> Result<Vec<String>, String> {
    let items = match fields.get(name) {
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(format!("field {name:?} is {}, not an array", rows::kind(other)));
        }
        None => {
            let names: Vec<String> = fields.keys().cloned().collect();
            return Err(format!("no field {name:?}; its fields are {}", rows::list(&names)));
        }
    };
    let text = |(at, item): (usize, &Value)| match item {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("item {} of {name:?} is {}, not text", at + 1, rows::kind(other))),
    };
    items.iter().enumerate().map(text).collect()
}
