//! NumPy's `.npy` files, version 1.0, written row by row: how many rows there are is known at the end.
//!
//! ```text
//! \x93NUMPY 1 0 | length of the header, u16 | {'descr': '<f4', 'fortran_order': False, 'shape': (N, ..), } .. \n | data
//! ```

use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const OPERATION: &str = "write npy";
/// Bytes before the data, enough for any shape; a multiple of 64, as NumPy has it.
const HEADER: usize = 256;

/// Elements that such a file can hold.
pub trait Element: bytemuck::Pod {
    /// Its type, as NumPy writes it.
    const DESCR: &'static str;
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";
}

impl Element for i32 {
    const DESCR: &'static str = "<i4";
}

/// A file that is being written. Until [`Self::finish`] nothing stands at its path.
#[derive(Debug)]
pub struct NpyWriter<E> {
    to: BufWriter<NamedTempFile>,
    path: PathBuf,
    /// Shape of a row.
    row: Vec<usize>,
    /// Elements so far.
    elements: usize,
    of: std::marker::PhantomData<E>,
}

impl<E: Element> NpyWriter<E> {
    /// Begins a file of rows of such a shape.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn create(path: &Path, row: &[usize]) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(folder).map_err(|e| Error::io(OPERATION, path, e))?;
        let mut to = BufWriter::new(file);
        to.write_all(&[0; HEADER]).map_err(|e| Error::io(OPERATION, path, e))?;
        let of = std::marker::PhantomData;
        Ok(Self { to, path: path.to_owned(), row: row.to_vec(), elements: 0, of })
    }

    /// Adds whole rows.
    ///
    /// # Errors
    /// A part of a row; a full disk.
    pub fn add(&mut self, rows: &[E]) -> Result<()> {
        let row: usize = self.row.iter().product();
        if row == 0 || !rows.len().is_multiple_of(row) {
            let message = format!("{} elements, but a row of {:?} has {row}", rows.len(), self.row);
            return Err(Error::new(Kind::Shape, OPERATION, message));
        }
        self.elements += rows.len();
        // Little-endian machines only: the crate refuses others.
        self.to
            .write_all(bytemuck::cast_slice(rows))
            .map_err(|e| Error::io(OPERATION, &self.path, e))
    }

    /// Writes the header and puts the file in its place; its shape.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(self) -> Result<Vec<usize>> {
        let Self { to, path, row, elements, .. } = self;
        let io = |e| Error::io(OPERATION, &path, e);
        let mut shape = vec![elements / row.iter().product::<usize>().max(1)];
        shape.extend(&row);
        let mut file = to.into_inner().map_err(|e| io(e.into_error()))?;
        write_header(file.as_file_mut(), E::DESCR, &shape).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|e| io(e.error))?;
        Ok(shape)
    }
}

fn write_header(file: &mut File, descr: &str, shape: &[usize]) -> std::io::Result<()> {
    let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let length = HEADER - 10;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(length as u16).to_le_bytes())?;
    // Longer than the room would need some fifty axes.
    let text: String = text.chars().take(length - 1).collect();
    writeln!(file, "{text:<width$}", width = length - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_header_and_rows_and_appears_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let mut writer = NpyWriter::<f32>::create(&path, &[2, 3]).unwrap();
        let rows: Vec<f32> = (0..18).map(|i| i as f32).collect();
        writer.add(&rows[..6]).unwrap();
        writer.add(&rows[6..]).unwrap();
        assert!(writer.add(&rows[..5]).unwrap_err().to_string().contains("has 6"));
        assert!(!path.exists());
        assert_eq!(writer.finish().unwrap(), [3, 2, 3]);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), HEADER + 4 * 18);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\xf6\x00");
        let header = std::str::from_utf8(&bytes[10..HEADER]).unwrap();
        let want = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 3, ), }";
        assert!(header.starts_with(want) && header.ends_with(" \n"), "{header}");
        assert_eq!(&bytes[HEADER..], bytemuck::cast_slice::<f32, u8>(&rows));
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = NpyWriter::<i32>::create(&folder.path().join("x.npy"), &[]).unwrap();
        writer.add(&[1, 2, 3]).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
