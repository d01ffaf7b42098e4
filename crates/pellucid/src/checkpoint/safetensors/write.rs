//! Writing: the header first, then each tensor in pieces small enough for the cache.

use super::{StoredType, shape_text};
use crate::error::{Error, Kind, Result};
use half::slice::HalfFloatSliceExt;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

const OPERATION: &str = "save tensors";
/// Elements converted at a time: 64 KiB of f32.
const PIECE: usize = 16 * 1024;
/// Columns gathered at a time from a transposed matrix: one cache line of each row.
const COLUMNS: usize = 16;

/// Where a tensor's elements come from.
pub(crate) enum Values<'a> {
    /// As they lie.
    Plain(&'a [f32]),
    /// A row-major matrix whose transpose is stored; the tensor's shape is (columns, rows) of it.
    Transposed(&'a [f32]),
    /// All zero.
    Zeros,
}

/// A tensor to be written.
pub(crate) struct Entry<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values<'a>,
}

impl Entry<'_> {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Writes tensors `(name, shape, elements)` and `metadata` to one file, in F32; the file is replaced whole or not at all.
///
/// # Errors
/// Two tensors of one name, a shape that does not fit its elements, the disk.
pub fn save_tensors(
    path: &Path,
    tensors: &[(&str, &[usize], &[f32])],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let entries = entries(tensors)?;
    crate::files::replace(OPERATION, path, |w| write(w, &entries, metadata, StoredType::F32))
}

/// As [`save_tensors`], to any writer, such as that of [`Transaction::write`](super::super::Transaction::write).
///
/// # Errors
/// As [`save_tensors`]; faults of the tensors have kind `InvalidInput`.
pub fn write_tensors(
    w: &mut dyn Write,
    tensors: &[(&str, &[usize], &[f32])],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let entries =
        entries(tensors).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    write(w, &entries, metadata, StoredType::F32)
}

fn entries<'a>(tensors: &[(&str, &[usize], &'a [f32])]) -> Result<Vec<Entry<'a>>> {
    let mut names = HashSet::new();
    let mut list = Vec::with_capacity(tensors.len());
    for &(name, shape, values) in tensors {
        let fault = |message: String| Err(Error::new(Kind::Shape, OPERATION, message));
        if name == "__metadata__" || !names.insert(name) {
            return fault(format!("the name {name:?} is taken"));
        }
        let len = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        if len != Some(values.len()) {
            let count = values.len();
            return fault(format!("{name} has {count} elements, but shape {}", shape_text(shape)));
        }
        list.push(Entry { name: name.into(), shape: shape.into(), values: Values::Plain(values) });
    }
    Ok(list)
}

/// Writes a whole file. Names are distinct and shapes fit: the callers see to it.
pub(crate) fn write(
    w: &mut dyn Write,
    entries: &[Entry<'_>],
    metadata: &BTreeMap<String, String>,
    stored: StoredType,
) -> io::Result<()> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.len() * stored.bytes();
        header.insert(
            entry.name.clone(),
            json!({"dtype": stored.name(), "shape": entry.shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    // The data starts on a multiple of 8, as the format asks.
    text.resize(text.len().next_multiple_of(8), b' ');
    w.write_all(&(text.len() as u64).to_le_bytes())?;
    w.write_all(&text)?;
    let mut encoder = Encoder { stored, bytes: Vec::with_capacity(4 * PIECE) };
    for entry in entries {
        match entry.values {
            Values::Plain(values) => encoder.put(w, values)?,
            Values::Transposed(values) => encoder.put_transposed(w, values, &entry.shape)?,
            Values::Zeros => encoder.put(w, &vec![0.0; entry.len()])?,
        }
    }
    Ok(())
}

struct Encoder {
    stored: StoredType,
    bytes: Vec<u8>,
}

impl Encoder {
    fn put(&mut self, w: &mut dyn Write, values: &[f32]) -> io::Result<()> {
        for piece in values.chunks(PIECE) {
            self.bytes.clear();
            match self.stored {
                StoredType::F32 => {
                    self.bytes.extend(piece.iter().flat_map(|x| x.to_le_bytes()));
                }
                StoredType::Bf16 => {
                    let mut halves = vec![half::bf16::ZERO; piece.len()];
                    halves.convert_from_f32_slice(piece);
                    self.bytes.extend(halves.iter().flat_map(|x| x.to_le_bytes()));
                }
                StoredType::F16 => {
                    let mut halves = vec![half::f16::ZERO; piece.len()];
                    halves.convert_from_f32_slice(piece);
                    self.bytes.extend(halves.iter().flat_map(|x| x.to_le_bytes()));
                }
            }
            w.write_all(&self.bytes)?;
        }
        Ok(())
    }

    /// `values` is (r, c) row-major; stored is its transpose of `shape` (c, r).
    fn put_transposed(
        &mut self,
        w: &mut dyn Write,
        values: &[f32],
        shape: &[usize],
    ) -> io::Result<()> {
        let (columns, rows) = (shape[0], shape[1]);
        let mut block = vec![0.0; COLUMNS.min(columns) * rows];
        for first in (0..columns).step_by(COLUMNS) {
            let wide = COLUMNS.min(columns - first);
            for (row, line) in values.chunks_exact(columns).enumerate() {
                for (j, x) in line[first..first + wide].iter().enumerate() {
                    block[j * rows + row] = *x;
                }
            }
            self.put(w, &block[..wide * rows])?;
        }
        Ok(())
    }
}
