//! Parquet: one column of texts; the other columns are not read.

use super::super::corpus::{CorpusOptions, Piece};
use super::{READ, enqueue};
use crate::error::{Error, Kind, Result};
use crate::files;
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Rows taken at a time.
const ROWS: usize = 256;

pub(super) struct Columns {
    reader: SerializedFileReader<File>,
    file: usize,
    path: PathBuf,
    column: usize,
    /// Definition level of a text that is there; below it the row is null.
    present: i16,
    limit: usize,
    group: usize,
    open: Option<ColumnReaderImpl<ByteArrayType>>,
    row: u64,
    queue: VecDeque<Piece>,
}

/// Runs the `parquet` crate, whose panics on strange files become errors.
fn guard<T>(path: &Path, run: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    let broken = |why: String| {
        Error::new(Kind::Format, READ, format!("{}: broken Parquet file: {why}", path.display()))
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|e| broken(e.to_string())),
        Err(_) => Err(broken("its parts contradict each other".into())),
    }
}

impl Columns {
    pub(super) fn open(file: usize, path: &Path, options: &CorpusOptions) -> Result<Self> {
        let source = files::open(READ, path)?;
        let reader = guard(path, || SerializedFileReader::new(source))?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let columns = schema.columns();
        let fail =
            |why: String| Error::new(Kind::Format, READ, format!("{}: {why}", path.display()));
        let named =
            |c: &parquet::schema::types::ColumnDescPtr| c.path().parts() == [options.field.clone()];
        let Some(column) = columns.iter().position(named) else {
            let names: Vec<_> =
                columns.iter().map(|c| format!("{:?}", c.path().string())).collect();
            return Err(fail(format!("no column {:?}", options.field))
                .fact(format!("its columns are {}", names.join(", ")))
                .hint("name the column that holds the text"));
        };
        let description = &columns[column];
        if description.physical_type() != Type::BYTE_ARRAY || description.max_rep_level() != 0 {
            let why = format!("column {:?} does not hold text", options.field);
            return Err(fail(why).fact(format!("it holds {}", description.physical_type())));
        }
        Ok(Self {
            present: description.max_def_level(),
            reader,
            file,
            path: path.to_owned(),
            column,
            limit: options.piece,
            group: 0,
            open: None,
            row: 0,
            queue: VecDeque::new(),
        })
    }

    /// The reader of the next row group, if there is one.
    fn next_group(&mut self) -> Result<bool> {
        if self.group >= self.reader.num_row_groups() {
            return Ok(false);
        }
        let (reader, group, column) = (&self.reader, self.group, self.column);
        let open = guard(&self.path, || reader.get_row_group(group)?.get_column_reader(column))?;
        let ColumnReader::ByteArrayColumnReader(open) = open else {
            let message = format!("{}: row group {group} is not text", self.path.display());
            return Err(Error::new(Kind::Format, READ, message));
        };
        self.open = Some(open);
        self.group += 1;
        Ok(true)
    }

    fn next_piece(&mut self) -> Result<Option<Piece>> {
        while self.queue.is_empty() {
            let Some(open) = &mut self.open else {
                if self.next_group()? {
                    continue;
                }
                return Ok(None);
            };
            let (mut levels, mut values) = (vec![], vec![]);
            let (rows, ..) = guard(&self.path, || {
                open.read_records(ROWS, Some(&mut levels), None, &mut values)
            })?;
            if rows == 0 {
                self.open = None;
            }
            self.accept(rows, &levels, values)?;
        }
        Ok(self.queue.pop_front())
    }

    fn accept(&mut self, rows: usize, levels: &[i16], values: Vec<ByteArray>) -> Result<()> {
        let mut values = values.into_iter();
        for row in 0..rows {
            self.row += 1;
            if self.present > 0 && levels.get(row).copied().unwrap_or(0) < self.present {
                continue;
            }
            let fail = |why: String| {
                let message = format!("{}: row {}: {why}", self.path.display(), self.row);
                Error::new(Kind::Format, READ, message)
            };
            let value = values.next().ok_or_else(|| fail("no value".into()))?;
            let bytes = guard(&self.path, || Ok(value.data().to_vec()))?;
            let text = String::from_utf8(bytes)
                .map_err(|e| fail(format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
            enqueue(text, self.file, self.row, self.limit, &mut self.queue);
        }
        Ok(())
    }
}

impl Iterator for Columns {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().transpose()
    }
}
