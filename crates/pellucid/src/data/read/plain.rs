//! Plain text, streamed: one document per file, or documents between separators.

use super::super::corpus::{CorpusOptions, Piece};
use super::READ;
use crate::error::{Error, Kind, Result};
use crate::text::{Origin, piece_end};
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) struct Plain {
    source: Box<dyn Read + Send>,
    file: usize,
    path: PathBuf,
    separator: Option<String>,
    limit: usize,
    /// Read and known to be text; used up to `start`, which is at `origin` of the file.
    text: String,
    start: usize,
    origin: Origin,
    /// Begins a character whose rest is not yet read.
    partial: Vec<u8>,
    at_end: bool,
    begins: bool,
}

impl Plain {
    pub(super) fn new(
        source: Box<dyn Read + Send>,
        file: usize,
        path: &Path,
        options: &CorpusOptions,
    ) -> Self {
        Self {
            source,
            file,
            path: path.to_owned(),
            separator: options.separator.clone(),
            limit: options.piece,
            text: String::new(),
            start: 0,
            origin: Origin::default(),
            partial: vec![],
            at_end: false,
            begins: true,
        }
    }

    /// Reads until two pieces are there, or the end.
    fn fill(&mut self) -> Result<()> {
        if self.at_end || self.text.len() - self.start >= 2 * self.limit {
            return Ok(());
        }
        self.text.drain(..self.start);
        self.start = 0;
        let first = self.origin == Origin::default() && self.text.is_empty();
        while !self.at_end && self.text.len() < 3 * self.limit {
            let mut bytes = std::mem::take(&mut self.partial);
            let wanted = self.limit as u64;
            let read = self.source.by_ref().take(wanted).read_to_end(&mut bytes);
            let read = read.map_err(|e| Error::io(READ, &self.path, e))?;
            self.at_end = read == 0;
            self.accept(&bytes)?;
        }
        // A byte-order mark is not text.
        if first && self.text.starts_with('\u{FEFF}') {
            self.skip('\u{FEFF}'.len_utf8());
        }
        Ok(())
    }

    fn accept(&mut self, bytes: &[u8]) -> Result<()> {
        let at = self.origin.byte + self.text.len() as u64;
        if let Some(nul) = bytes.iter().position(|&b| b == 0) {
            return Err(self.binary(&format!("NUL byte at byte {}", at + nul as u64)));
        }
        let (valid, broken) = match std::str::from_utf8(bytes) {
            Ok(_) => (bytes.len(), false),
            Err(e) => (e.valid_up_to(), e.error_len().is_some() || self.at_end),
        };
        if broken {
            return Err(self.binary(&format!("not UTF-8 at byte {}", at + valid as u64)));
        }
        self.text.push_str(&String::from_utf8_lossy(&bytes[..valid]));
        self.partial = bytes[valid..].to_vec();
        Ok(())
    }

    fn binary(&self, why: &str) -> Error {
        Error::new(Kind::Format, READ, format!("{}: not text: {why}", self.path.display())).hint(
            "convert it to UTF-8 text, or leave it out with a glob such as \"folder/**/*.txt\"",
        )
    }

    fn skip(&mut self, length: usize) {
        let skipped = &self.text[self.start..self.start + length];
        self.origin.line += skipped.matches('\n').count() as u64;
        self.origin.byte += length as u64;
        self.start += length;
    }

    /// The next piece; its text may be empty where a separator follows a full piece.
    fn next_piece(&mut self) -> Result<Option<Piece>> {
        loop {
            self.fill()?;
            let rest = &self.text[self.start..];
            if rest.is_empty() {
                return Ok(None);
            }
            let found = self.separator.as_deref().and_then(|s| Some((rest.find(s)?, s.len())));
            // Text that may begin a separator must stay.
            let keep = match &self.separator {
                Some(s) if !self.at_end => s.len() - 1,
                _ => 0,
            };
            let (length, gap, ends) = match found {
                Some((at, gap)) if at <= self.limit => (at, gap, true),
                _ if self.at_end && rest.len() <= self.limit => (rest.len(), 0, true),
                _ => {
                    let bound = found.map_or(rest.len() - keep, |(at, _)| at);
                    (piece_end(rest, self.limit.min(bound)), 0, false)
                }
            };
            let (begins, origin) = (self.begins, self.origin);
            let text = rest[..length].to_owned();
            self.skip(length + gap);
            self.begins = ends;
            // Nothing between two separators is no document.
            if !(text.is_empty() && begins) {
                return Ok(Some(Piece { text, file: self.file, row: 0, origin, begins, ends }));
            }
        }
    }
}

impl Iterator for Plain {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().transpose()
    }
}
