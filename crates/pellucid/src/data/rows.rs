//! Lines, columns and fields of small files that are read whole, and all that is wrong with them.

use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Faults that are listed; the others are counted.
const LISTED: usize = 10;

/// A file of rows.
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) rows: Rows,
}

/// Rows, each with its line, from 1.
pub(super) enum Rows {
    /// Cells of a text table; the header, if there is one, is the first.
    Cells(Vec<(u64, Vec<String>)>),
    /// Fields of JSON objects.
    Fields(Vec<(u64, Map<String, Value>)>),
}

/// A column of a table or a field of JSON objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By the name in the header or by the name of the field.
    Name(String),
    /// By its number, from 1; only in tables.
    Number(usize),
}

impl From<&str> for Column {
    /// Digits alone are a number.
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(number) if number > 0 => Self::Number(number),
            _ => Self::Name(text.into()),
        }
    }
}

/// Faults of one file, each with its line.
pub(super) struct Faults {
    operation: &'static str,
    path: PathBuf,
    listed: Vec<String>,
    count: usize,
}

impl Faults {
    pub(super) fn new(operation: &'static str, path: &Path) -> Self {
        Self { operation, path: path.to_owned(), listed: vec![], count: 0 }
    }

    pub(super) fn add(&mut self, line: u64, fault: impl Into<String>) {
        if self.listed.len() < LISTED {
            self.listed.push(format!("{}:{line}: {}", self.path.display(), fault.into()));
        }
        self.count += 1;
    }

    /// The error, if there was a fault.
    pub(super) fn check(self, hint: &str) -> Result<()> {
        let mut listed = self.listed.into_iter();
        let Some(first) = listed.next() else { return Ok(()) };
        let mut error = Error::new(Kind::Format, self.operation, first);
        for fault in listed {
            error = error.fact(fault);
        }
        if self.count > LISTED {
            error = error.fact(format!("and {} more", self.count - LISTED));
        }
        Err(if hint.is_empty() { error } else { error.hint(hint) })
    }
}

/// All text of a file, without a byte-order mark; the error names the line.
pub(super) fn read(operation: &'static str, path: &Path) -> Result<String> {
    let mut bytes = files::read(operation, path)?;
    let fail = |why: String| Error::new(Kind::Format, operation, why);
    if bytes.starts_with(&[0x1F, 0x8B]) {
        return Err(fail(format!("{}: compressed with gzip", path.display()))
            .hint("unpack it first: gunzip --keep FILE"));
    }
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let before = &e.as_bytes()[..at];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let byte = at - before.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
        fail(format!("{}:{line}: not UTF-8 at byte {byte} of the line", path.display()))
            .hint("convert the file to UTF-8")
    })
}

/// Lines without their ends, each with its number; a line end at the end of the file begins no
/// line. Only `\n` and `\r\n` end a line.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    text.lines().enumerate().map(|(index, line)| (index as u64 + 1, line))
}

/// The ending of a file's name, in lower case.
pub(super) fn ending(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase()
}

/// JSON objects, one a line; blank lines are left out.
pub(super) fn objects(
    operation: &'static str,
    path: &Path,
    text: &str,
) -> Result<Vec<(u64, Map<String, Value>)>> {
    let mut faults = Faults::new(operation, path);
    let mut rows = vec![];
    for (line, text) in lines(text).filter(|(_, text)| !text.trim().is_empty()) {
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => rows.push((line, fields)),
            Ok(other) => faults.add(line, format!("{}, not a JSON object", kind(&other))),
            Err(e) => faults.add(line, format!("not JSON at column {}: {e}", e.column())),
        }
    }
    faults.check("one JSON object per line")?;
    Ok(rows)
}

/// Reads a file as its ending says: `.jsonl` and `.ndjson` are JSON lines, `.tsv` has tabs and no
/// quotes, `.csv` has commas and quotes as in RFC 4180. Where the ending is another, or the first
/// line of a `.csv` has a tab and no comma before it, tabs tell the cells apart.
pub(super) fn table(operation: &'static str, path: &Path) -> Result<Table> {
    let text = read(operation, path)?;
    let tabs = |text: &str| {
        let first = text.lines().next().unwrap_or("");
        first.find('\t').is_some_and(|tab| first.find(',').is_none_or(|comma| tab < comma))
    };
    let rows = match ending(path).as_str() {
        "jsonl" | "ndjson" => Rows::Fields(objects(operation, path, &text)?),
        "csv" if !tabs(&text) => Rows::Cells(commas(operation, path, &text)?),
        _ => Rows::Cells(
            lines(&text)
                .filter(|(_, text)| !text.is_empty())
                .map(|(line, text)| (line, text.split('\t').map(Into::into).collect()))
                .collect(),
        ),
    };
    let path = path.to_owned();
    let empty = match &rows {
        Rows::Cells(rows) => rows.is_empty(),
        Rows::Fields(rows) => rows.is_empty(),
    };
    if empty {
        let message = format!("{}: no rows in it", path.display());
        return Err(Error::new(Kind::Input, operation, message));
    }
    Ok(Table { path, rows })
}

/// Cells between commas. A quoted cell may hold commas, line ends and, doubled, quotes; a quote
/// inside a cell that does not begin with one is a quote.
fn commas(operation: &'static str, path: &Path, text: &str) -> Result<Vec<(u64, Vec<String>)>> {
    let mut rows: Vec<(u64, Vec<String>)> = vec![];
    let (mut row, mut cell) = (vec![], String::new());
    let (mut line, mut begun) = (1, 1);
    let mut letters = text.chars().peekable();
    let mut quoted = None;
    while let Some(c) = letters.next() {
        line += u64::from(c == '\n');
        match c {
            '"' if quoted.is_some() && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' if quoted.is_some() => quoted = None,
            _ if quoted.is_some() => cell.push(c),
            '"' if cell.is_empty() => quoted = Some(line),
            ',' => row.push(std::mem::take(&mut cell)),
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' => {
                row.push(std::mem::take(&mut cell));
                rows.push((begun, std::mem::take(&mut row)));
                begun = line;
            }
            _ => cell.push(c),
        }
    }
    if let Some(line) = quoted {
        let message = format!("{}:{line}: a quote begins here and never ends", path.display());
        return Err(Error::new(Kind::Format, operation, message)
            .hint("write a quote inside a quoted cell twice, or use tabs, which need no quotes"));
    }
    if !(row.is_empty() && cell.is_empty()) {
        row.push(cell);
        rows.push((begun, row));
    }
    rows.retain(|(_, row)| row.iter().any(|cell| !cell.is_empty()));
    Ok(rows)
}

/// Takes the wanted columns of each row: text as it is, numbers and truth values of JSON as they
/// are written. Where a column is named, the first row of a table is the header; `header` says
/// that there is one although none is named.
pub(super) fn select(
    operation: &'static str,
    table: Table,
    columns: &[&Column],
    header: bool,
) -> Result<Vec<(u64, Vec<String>)>> {
    let Table { path, rows } = table;
    let mut faults = Faults::new(operation, &path);
    let mut chosen = vec![];
    match rows {
        Rows::Cells(rows) => {
            let named = columns.iter().any(|column| matches!(column, Column::Name(_)));
            let head = if named { rows.first() } else { None };
            let places = places(operation, &path, columns, head)?;
            for (line, mut cells) in rows.into_iter().skip(usize::from(named || header)) {
                let least = places.iter().max().map_or(0, |&most| most + 1);
                if cells.len() < least {
                    faults.add(line, format!("{} columns; {least} are needed", cells.len()));
                    continue;
                }
                // A column that is wanted twice is taken twice.
                let row = match places.as_slice() {
                    [one] => vec![std::mem::take(&mut cells[*one])],
                    _ => places.iter().map(|&place| cells[place].clone()).collect(),
                };
                chosen.push((line, row));
            }
        }
        Rows::Fields(rows) => {
            for (line, fields) in rows {
                match columns.iter().map(|column| field(&fields, column)).collect() {
                    Ok(row) => chosen.push((line, row)),
                    Err(fault) => faults.add(line, fault),
                }
            }
        }
    }
    faults.check("")?;
    Ok(chosen)
}

fn places(
    operation: &'static str,
    path: &Path,
    columns: &[&Column],
    head: Option<&(u64, Vec<String>)>,
) -> Result<Vec<usize>> {
    let find = |column: &&Column| match column {
        Column::Number(0) => {
            Err(Error::new(Kind::Config, operation, "column 0").hint("columns are counted from 1"))
        }
        Column::Number(number) => Ok(number - 1),
        Column::Name(name) => {
            let (line, names) = head.map_or((1, &[][..]), |(line, names)| (*line, names));
            names.iter().position(|other| other.trim() == name).ok_or_else(|| {
                let message = format!("{}:{line}: no column {name:?}", path.display());
                Error::new(Kind::Format, operation, message)
                    .fact(format!("its columns are {}", list(names)))
                    .hint("name one of them, or give columns by number, from 1, if there is no header")
            })
        }
    };
    columns.iter().map(find).collect()
}

/// The value of a field as text, or what is wrong with it.
pub(super) fn field(fields: &Map<String, Value>, column: &Column) -> Result<String, String> {
    let Column::Name(name) = column else {
        return Err("JSON lines have fields by name, not columns by number".into());
    };
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(other) => Err(format!("field {name:?} is {}, not text", kind(other))),
        None => {
            let names: Vec<String> = fields.keys().cloned().collect();
            Err(format!("no field {name:?}; its fields are {}", list(&names)))
        }
    }
}

/// Names in quotes with commas between them; of many, the first.
pub(super) fn list(names: &[String]) -> String {
    const MOST: usize = 20;
    let quoted: Vec<_> = names.iter().take(MOST).map(|name| format!("{name:?}")).collect();
    match names.len().checked_sub(MOST) {
        None | Some(0) => quoted.join(", "),
        Some(more) => format!("{} and {more} more", quoted.join(", ")),
    }
}

/// What a JSON value is, for errors.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
