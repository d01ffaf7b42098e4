//! JSON lines: one object per line, whose text is in one field.

use super::super::corpus::{CorpusOptions, Piece};
use super::{READ, enqueue};
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest line, so that a file without line ends does not fill the memory.
const LONGEST: u64 = 1 << 28;

pub(super) struct Lines {
    source: BufReader<File>,
    file: usize,
    path: PathBuf,
    field: String,
    limit: usize,
    number: u64,
    queue: VecDeque<Piece>,
}

impl Lines {
    pub(super) fn new(source: File, file: usize, path: &Path, options: &CorpusOptions) -> Self {
        Self {
            source: BufReader::with_capacity(1 << 16, source),
            file,
            path: path.to_owned(),
            field: options.field.clone(),
            limit: options.piece,
            number: 0,
            queue: VecDeque::new(),
        }
    }

    fn fail(&self, why: &str) -> Error {
        Error::new(Kind::Format, READ, format!("{}:{}: {why}", self.path.display(), self.number))
    }

    fn next_piece(&mut self) -> Result<Option<Piece>> {
        let mut line = vec![];
        while self.queue.is_empty() {
            line.clear();
            let read = self.source.by_ref().take(LONGEST).read_until(b'\n', &mut line);
            if read.map_err(|e| Error::io(READ, &self.path, e))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.len() as u64 == LONGEST && line.last() != Some(&b'\n') {
                return Err(self
                    .fail(&format!("a line of more than {LONGEST} bytes"))
                    .hint("one JSON object per line; a JSON array is not JSON lines"));
            }
            let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let text = self.text(line)?;
            enqueue(text, self.file, self.number, self.limit, &mut self.queue);
        }
        Ok(self.queue.pop_front())
    }

    fn text(&self, line: &[u8]) -> Result<String> {
        let value: Value = serde_json::from_slice(line).map_err(|e| {
            self.fail(&format!("not JSON at column {}: {e}", e.column()))
                .hint("one JSON object per line, such as {\"text\": \"…\"}")
        })?;
        let Value::Object(mut fields) = value else {
            return Err(self
                .fail("not a JSON object")
                .hint("one JSON object per line, such as {\"text\": \"…\"}"));
        };
        match fields.get_mut(&self.field).map(Value::take) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => {
                Err(self.fail(&format!("field {:?} is {}, not text", self.field, kind(&other))))
            }
            None => {
                let names: Vec<_> = fields.keys().map(|name| format!("{name:?}")).collect();
                Err(self
                    .fail(&format!("no field {:?}", self.field))
                    .fact(format!("its fields are {}", names.join(", ")))
                    .hint("name the field that holds the text"))
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Iterator for Lines {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().transpose()
    }
}
