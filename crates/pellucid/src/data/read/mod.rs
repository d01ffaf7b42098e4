//! Readers of the formats: each streams the documents of one file.

mod columns;
mod lines;
mod plain;

use super::corpus::{CorpusOptions, Format, Piece, SourceFile};
use crate::error::Result;
use crate::files;
use crate::text::{Origin, piece_end};
use std::collections::VecDeque;
use std::io::{Cursor, Read};
use std::sync::Arc;

pub(super) const READ: &str = "read corpus";

/// Pieces of one file.
pub(super) type Stream = Box<dyn Iterator<Item = Result<Piece>> + Send>;

pub(super) fn open(index: usize, file: &SourceFile, options: &CorpusOptions) -> Result<Stream> {
    if let Some(text) = &file.memory {
        let bytes: Box<dyn Read + Send> = Box::new(Cursor::new(Shared(text.clone())));
        return Ok(Box::new(plain::Plain::new(bytes, index, &file.path, options)));
    }
    Ok(match file.format {
        Format::Text => {
            let bytes = Box::new(files::open(READ, &file.path)?);
            Box::new(plain::Plain::new(bytes, index, &file.path, options))
        }
        Format::JsonLines => {
            Box::new(lines::Lines::new(files::open(READ, &file.path)?, index, &file.path, options))
        }
        Format::Parquet => Box::new(columns::Columns::open(index, &file.path, options)?),
    })
}

struct Shared(Arc<str>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Queues one whole document in pieces of at most `limit` bytes; an empty one gives none.
fn enqueue(text: String, file: usize, row: u64, limit: usize, queue: &mut VecDeque<Piece>) {
    if text.len() <= limit {
        if !text.is_empty() {
            let origin = Origin::default();
            queue.push_back(Piece { text, file, row, origin, begins: true, ends: true });
        }
        return;
    }
    let mut origin = Origin::default();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (part, after) = rest.split_at(piece_end(rest, limit));
        let (begins, ends) = (origin.byte == 0, after.is_empty());
        queue.push_back(Piece { text: part.into(), file, row, origin, begins, ends });
        origin.byte += part.len() as u64;
        origin.line += part.matches('\n').count() as u64;
        rest = after;
    }
}
