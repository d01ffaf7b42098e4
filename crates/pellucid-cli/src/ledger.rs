//! What a long sweep has found so far, in a file: a sweep that is stopped goes on from there.
//!
//! The first line is the question, each further one `[cell, value]`. It is written line by line, so a stop loses the
//! last one at most.

use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file, and what it held when it was opened.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    known: BTreeMap<usize, f64>,
}

impl Ledger {
    /// Opens or begins the ledger of a question.
    ///
    /// # Errors
    /// One of another question; a line in it that is no cell.
    pub(crate) fn open(path: &Path, question: &Value) -> Result<Self> {
        let old = if path.exists() { files::read_text("lens", path)? } else { String::new() };
        // A stop in the middle of a line leaves no line.
        let whole = &old[..old.rfind('\n').map_or(0, |end| end + 1)];
        let mut lines = whole.lines();
        let bad = |what: String| {
            Error::new(Kind::Input, "lens", format!("{}: {what}", path.display()))
                .hint("name another file, or remove this one to begin again")
        };
        if let Some(first) = lines.next() {
            let asked: Option<Value> = serde_json::from_str(first).ok();
            if asked.as_ref() != Some(question) {
                return Err(bad("it belongs to another question or another model".into()));
            }
        }
        let mut known = BTreeMap::new();
        for line in lines {
            let cell: (usize, Option<f64>) =
                serde_json::from_str(line).map_err(|_| bad(format!("{line:?} is no cell")))?;
            known.extend(cell.1.map(|value| (cell.0, value)));
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.map_err(|e| Error::io("lens", path, e))?;
        file.set_len(whole.len() as u64).map_err(|e| Error::io("lens", path, e))?;
        if whole.is_empty() {
            writeln!(file, "{question}").map_err(|e| Error::io("lens", path, e))?;
        }
        Ok(Self { path: path.to_owned(), file, known })
    }

    /// A cell's value, if it was there.
    pub(crate) fn known(&self, cell: usize) -> Option<f64> {
        self.known.get(&cell).copied()
    }

    /// Adds a cell.
    pub(crate) fn add(&mut self, cell: usize, value: f64) -> Result<()> {
        writeln!(self.file, "{}", json!([cell, value]))
            .map_err(|e| Error::io("lens", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_known_again_and_other_questions_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep");
        let question = json!({ "ids": [1, 2] });
        let mut ledger = Ledger::open(&path, &question).unwrap();
        ledger.add(7, 0.1 + 0.2).unwrap();
        ledger.add(2, f64::NAN).unwrap();
        drop(ledger);
        // A stop in the middle of a line.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}[3,0.")).unwrap();
        let mut ledger = Ledger::open(&path, &question).unwrap();
        assert_eq!(ledger.known(7), Some(0.1 + 0.2));
        assert_eq!((ledger.known(2), ledger.known(3)), (None, None));
        ledger.add(3, 1.5).unwrap();
        assert_eq!(Ledger::open(&path, &question).unwrap().known(3), Some(1.5));
        let other = Ledger::open(&path, &json!({ "ids": [1] })).unwrap_err().to_string();
        assert!(other.contains("another question"), "{other}");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + "[x]\n").unwrap();
        assert!(Ledger::open(&path, &question).unwrap_err().to_string().contains("no cell"));
    }
}
