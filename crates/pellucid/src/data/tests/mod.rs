// A skipped test says so.
#![allow(clippy::print_stderr)]

mod batches;
mod corpora;
mod instructions;
mod labels;
mod masks;
mod questions;
mod ragged;
mod shards;
mod tags;
mod worlds;

use super::*;
use crate::error::{Error, Kind, Result};
use crate::text::{Origin, Specials, Tokenizer};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::writer::SerializedFileWriter;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn options(separator: Option<&str>, piece: usize) -> CorpusOptions {
    CorpusOptions { separator: separator.map(Into::into), piece, ..CorpusOptions::default() }
}

/// Whole documents, put together from their pieces; checks the marks and the places on the way.
fn documents(corpus: &Corpus) -> Result<Vec<String>> {
    let mut documents: Vec<String> = vec![];
    let mut open = false;
    for piece in corpus.pieces() {
        let piece = piece?;
        assert_eq!(piece.begins, !open);
        assert!(piece.text.len() <= corpus.options().piece);
        if piece.begins {
            documents.push(String::new());
        }
        documents.last_mut().unwrap().push_str(&piece.text);
        open = !piece.ends;
    }
    assert!(!open, "the last document ends");
    Ok(documents)
}

fn corpus(path: &Path) -> Result<Corpus> {
    Corpus::open(&[path], CorpusOptions::default())
}

/// Column "text" with nulls, column "n", and a list of texts.
fn write_parquet(path: &Path, texts: &[Option<&str>]) {
    let schema = "message m { optional binary text (UTF8); required int32 n; \
                  optional group tags (LIST) { repeated group list { optional binary element (UTF8); } } }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    for part in texts.chunks(2) {
        let mut group = writer.next_row_group().unwrap();
        let levels: Vec<i16> = part.iter().map(|t| i16::from(t.is_some())).collect();
        let values: Vec<ByteArray> = part.iter().flatten().map(|&t| ByteArray::from(t)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&vec![7; part.len()], None, None).unwrap();
        column.close().unwrap();
        let (absent, one) = (vec![0; part.len()], vec![0; part.len()]);
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&absent), Some(&one)).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn memory(text: &str, separator: Option<&str>) -> Corpus {
    Corpus::from_text("text", text, options(separator, 64)).unwrap()
}
