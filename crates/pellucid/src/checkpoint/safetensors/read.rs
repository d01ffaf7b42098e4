//! Reading: the header is judged once, then tensors are read piece by piece.

use super::{StoredType, shape_text};
use crate::error::{Error, Kind, Result};
use ::safetensors::Dtype;
use ::safetensors::tensor::{Metadata, TensorInfo};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

const OPERATION: &str = "read tensors";
/// The format's own limit of a header.
const MOST_HEADER: u64 = 100_000_000;
/// Elements read at a time.
const PIECE: usize = 64 * 1024;

/// An open safetensors file: names, shapes and metadata are in memory, elements stay in the file until asked for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    source: Source,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Source {
    File(File),
    Memory(Vec<u8>),
}

impl Source {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Self::File(file) => std::os::unix::fs::FileExt::read_exact_at(file, into, at),
            #[cfg(windows)]
            Self::File(file) => {
                let mut done = 0;
                while done < into.len() {
                    let position = at + done as u64;
                    match std::os::windows::fs::FileExt::seek_read(
                        file,
                        &mut into[done..],
                        position,
                    )? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        n => done += n,
                    }
                }
                Ok(())
            }
            Self::Memory(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let found = start.checked_add(into.len()).and_then(|end| bytes.get(start..end));
                into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// Opens a file written by [`save_tensors`](super::save_tensors) or any other safetensors writer.
///
/// # Errors
/// No such file, a truncated file, a header that contradicts itself or the file's length.
pub fn load_tensors(path: &Path) -> Result<TensorFile> {
    TensorFile::open(crate::files::open(OPERATION, path)?, path)
}

impl TensorFile {
    /// Reads the header of an open file; `path` is for messages.
    ///
    /// # Errors
    /// As [`load_tensors`].
    pub fn open(file: File, path: &Path) -> Result<Self> {
        Self::new(Source::File(file), path)
    }

    /// A file that is already in memory; `name` is for messages.
    ///
    /// # Errors
    /// As [`load_tensors`].
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<Self> {
        Self::new(Source::Memory(bytes), Path::new(name))
    }

    fn new(source: Source, path: &Path) -> Result<Self> {
        let io = |e| Error::io(OPERATION, path, e);
        let len = source.len().map_err(io)?;
        if len < 8 {
            return Err(broken(path, format!("{len} bytes cannot hold a header; it is truncated")));
        }
        let mut count = [0; 8];
        source.read_at(&mut count, 0).map_err(io)?;
        let count = u64::from_le_bytes(count);
        if count > MOST_HEADER {
            let fault = format!("a header of {count} bytes is longer than the format allows");
            return Err(broken(path, fault).hint("this may not be a safetensors file"));
        }
        if count > len - 8 {
            let fault =
                format!("the header needs {count} bytes, but {} follow; it is truncated", len - 8);
            return Err(broken(path, fault));
        }
        let mut header = vec![0; count as usize];
        source.read_at(&mut header, 8).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| broken(path, format!("the header is wrong: {e}")).source(e))?;
        let (needed, there) = (header.data_len() as u64, len - 8 - count);
        if needed != there {
            let state = if there < needed { "truncated" } else { "too long" };
            return Err(broken(
                path,
                format!(
                    "the header promises {needed} bytes of tensors, but {there} follow; it is {state}"
                ),
            ));
        }
        Ok(Self {
            path: path.into(),
            source,
            data_start: 8 + count,
            tensors: header.tensors().into_iter().map(|(n, info)| (n, info.clone())).collect(),
            metadata: header.metadata().clone().into_iter().flatten().collect(),
        })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's own strings.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// No such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.info(name)?.shape)
    }

    /// How a tensor's elements are stored.
    ///
    /// # Errors
    /// No such tensor, or a type other than F32, F16 and BF16.
    pub fn stored(&self, name: &str) -> Result<StoredType> {
        match self.info(name)?.dtype {
            Dtype::F32 => Ok(StoredType::F32),
            Dtype::F16 => Ok(StoredType::F16),
            Dtype::BF16 => Ok(StoredType::Bf16),
            other => Err(broken(&self.path, format!("{name} is stored as {other:?}"))
                .hint("convert it to F32, F16 or BF16")),
        }
    }

    /// The bytes of a tensor of any type, which must be `dtype` and of this shape.
    ///
    /// # Errors
    /// No such tensor, another type or shape, the disk.
    pub(crate) fn read_bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Vec<u8>> {
        let info = self.info(name)?;
        if info.dtype != dtype || info.shape != shape {
            let (found, wanted) = (shape_text(&info.shape), shape_text(shape));
            let message =
                format!("{name} is {:?} {found}, but {dtype:?} {wanted} is wanted", info.dtype);
            return Err(broken(&self.path, message));
        }
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.source
            .read_at(&mut bytes, self.data_start + start as u64)
            .map_err(|e| Error::io(OPERATION, &self.path, e))?;
        Ok(bytes)
    }

    /// Elements of all tensors together.
    pub(crate) fn elements(&self) -> u128 {
        let len = |t: &TensorInfo| t.shape.iter().map(|&s| s as u128).product::<u128>();
        self.tensors.values().map(len).sum()
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| {
            let count = self.tensors.len();
            broken(&self.path, format!("no tensor is named {name:?} among the {count} there"))
        })
    }

    /// A tensor's elements, row-major.
    ///
    /// # Errors
    /// As [`Self::read_into`].
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.shape(name)?.iter().product()];
        self.read_into(name, &mut values)?;
        Ok(values)
    }

    /// A tensor's elements, row-major, into `values`.
    ///
    /// # Errors
    /// No such tensor, an unsupported type, another number of elements, the disk.
    pub fn read_into(&self, name: &str, values: &mut [f32]) -> Result<()> {
        let (stored, info) = (self.stored(name)?, self.info(name)?);
        let len: usize = info.shape.iter().product();
        if len != values.len() {
            let (shape, wanted) = (shape_text(&info.shape), values.len());
            let message = format!("{name} {shape} has {len} elements, but {wanted} are wanted");
            return Err(Error::new(Kind::Shape, OPERATION, message)
                .fact(format!("in {}", self.path.display())));
        }
        debug_assert_eq!(stored.bytes() * len, info.data_offsets.1 - info.data_offsets.0);
        self.read_part(name, 0, values)
    }

    /// As many of a tensor's elements as `values` holds, from element `start` on.
    ///
    /// # Errors
    /// As [`Self::read_into`].
    pub(crate) fn read_part(&self, name: &str, start: usize, values: &mut [f32]) -> Result<()> {
        let (stored, info) = (self.stored(name)?, self.info(name)?);
        let len: usize = info.shape.iter().product();
        if start.checked_add(values.len()).is_none_or(|end| end > len) {
            let message =
                format!("{name} has {len} elements; {} from {start} are wanted", values.len());
            return Err(Error::new(Kind::Shape, OPERATION, message));
        }
        if stored == StoredType::F32 && cfg!(target_endian = "little") {
            let at = self.data_start + (info.data_offsets.0 + start * stored.bytes()) as u64;
            return self
                .source
                .read_at(bytemuck::cast_slice_mut(values), at)
                .map_err(|e| Error::io(OPERATION, &self.path, e));
        }
        self.for_range(name, start..start + values.len(), 1, |at, piece| {
            values[at - start..][..piece.len()].copy_from_slice(piece);
            Ok(())
        })
    }

    /// Reads a tensor in pieces: `f(index of the first element, elements)`. Pieces start at multiples of `unit`.
    pub(crate) fn for_pieces(
        &self,
        name: &str,
        unit: usize,
        f: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let len = self.shape(name)?.iter().product();
        self.for_range(name, 0..len, unit, f)
    }

    /// As [`Self::for_pieces`], of these elements only, which the tensor has; pieces are multiples of `unit` long.
    fn for_range(
        &self,
        name: &str,
        range: Range<usize>,
        unit: usize,
        mut f: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (stored, info) = (self.stored(name)?, self.info(name)?);
        let base = self.data_start + info.data_offsets.0 as u64;
        let len = range.len();
        let piece = PIECE.next_multiple_of(unit.max(1)).min(len);
        let (mut bytes, mut values) = (vec![0; piece * stored.bytes()], vec![0.0f32; piece]);
        let mut start = range.start;
        while start < range.end {
            let count = piece.min(range.end - start);
            let (bytes, values) = (&mut bytes[..count * stored.bytes()], &mut values[..count]);
            self.source
                .read_at(bytes, base + (start * stored.bytes()) as u64)
                .map_err(|e| Error::io(OPERATION, &self.path, e))?;
            decode(stored, bytes, values);
            f(start, values)?;
            start += count;
        }
        Ok(())
    }
}

fn decode(stored: StoredType, bytes: &[u8], values: &mut [f32]) {
    let pairs = bytes.as_chunks::<2>().0;
    match stored {
        StoredType::F32 => {
            for (x, b) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
        StoredType::Bf16 => {
            for (x, b) in values.iter_mut().zip(pairs) {
                *x = half::bf16::from_le_bytes(*b).to_f32();
            }
        }
        StoredType::F16 => {
            for (x, b) in values.iter_mut().zip(pairs) {
                *x = half::f16::from_le_bytes(*b).to_f32();
            }
        }
    }
}

fn broken(path: &Path, message: String) -> Error {
    Error::new(Kind::Format, OPERATION, format!("{}: {message}", path.display()))
}
