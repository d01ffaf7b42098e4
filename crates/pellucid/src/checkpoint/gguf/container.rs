//! The container: a header of counts, keys with values, then names, shapes and places of tensors, then their bytes.
//!
//! Everything is little-endian; lengths are 64 bits. No length is believed: what a count needs at least is compared
//! with what is left of the file before memory is asked for.

use super::blocks::{MOST_ELEMENTS, Stored, type_name};
use super::dequantise::dequantise;
use super::value::{Number, Value};
use super::{IMPORT, listed};
use crate::checkpoint::generation::fault;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Where tensors start is a multiple of it, unless the file says otherwise.
pub(super) const ALIGNMENT: u64 = 32;
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Dimensions of a tensor at most.
const MOST_DIMENSIONS: u32 = 4;
/// Fewest bytes of a key with its value, and of a tensor's description.
const LEAST: (u64, u64) = (8 + 4 + 1, 8 + 4 + 8 + 4 + 8);
/// Arrays within arrays at most.
const MOST_NESTED: u32 = 4;

/// A file whose tensors are still in it.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) path: PathBuf,
    file: File,
    pub(super) values: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

/// A tensor of a file.
#[derive(Debug)]
pub(super) struct Tensor {
    /// Row-major: the file has it the other way round.
    pub(super) shape: Vec<usize>,
    stored: Stored,
    /// First byte, and bytes.
    place: (u64, u64),
}

impl Container {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = crate::files::open(IMPORT, path)?;
        let left = file.metadata().map_err(|e| Error::io(IMPORT, path, e))?.len();
        let reader = BufReader::with_capacity(1 << 16, &file);
        let mut parser = Parser { reader, len: left, left, path };
        let (tensors, keys) = parser.counts()?;
        let mut values = BTreeMap::new();
        for _ in 0..keys {
            let key = parser.text("a key")?;
            let value = parser.value(&key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(parser.broken(format!("the key {key} is there twice")));
            }
        }
        let alignment = match values.get("general.alignment") {
            None => ALIGNMENT,
            Some(Value::Whole(n)) if (1..=1 << 20).contains(n) && n.count_ones() == 1 => *n as u64,
            Some(other) => {
                let message = format!("general.alignment = {}", other.brief());
                return Err(parser.broken(message).hint("it must be a power of two"));
            }
        };
        let tensors = parser.tensors(tensors, alignment)?;
        Ok(Self { path: path.into(), file, values, tensors })
    }

    /// A tensor's elements, as many as `to` holds.
    pub(super) fn read(&self, tensor: &Tensor, to: &mut [f32]) -> Result<()> {
        const PIECE: usize = 256 * MOST_ELEMENTS;
        let io = |e| Error::io(IMPORT, &self.path, e);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(tensor.place.0)).map_err(io)?;
        let mut bytes = vec![0; tensor.stored.bytes(PIECE.min(to.len()))];
        for piece in to.chunks_mut(PIECE) {
            let bytes = &mut bytes[..tensor.stored.bytes(piece.len())];
            file.read_exact(bytes).map_err(io)?;
            dequantise(tensor.stored, bytes, piece);
        }
        Ok(())
    }
}

/// A tensor's description as it stands in a file.
struct Described {
    name: String,
    dims: Vec<u64>,
    number: u32,
    offset: u64,
}

struct Parser<'a, R> {
    reader: R,
    len: u64,
    left: u64,
    path: &'a Path,
}

impl<R: Read> Parser<'_, R> {
    fn broken(&self, message: String) -> Error {
        fault(IMPORT, format!("{}: {message}", self.path.display()))
    }

    /// As many bytes, which the file must have.
    fn bytes(&mut self, count: u64, of: &str) -> Result<Vec<u8>> {
        if count > self.left {
            let (at, left) = (self.len - self.left, self.left);
            let message = format!("{of} at byte {at} needs {count} bytes, but {left} follow");
            return Err(self.broken(message).hint("the file is truncated or damaged"));
        }
        let mut bytes = vec![0; count as usize];
        self.reader.read_exact(&mut bytes).map_err(|e| Error::io(IMPORT, self.path, e))?;
        self.left -= count;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self, of: &str) -> Result<[u8; N]> {
        let mut fixed = [0; N];
        fixed.copy_from_slice(&self.bytes(N as u64, of)?);
        Ok(fixed)
    }

    fn u32(&mut self, of: &str) -> Result<u32> {
        self.fixed(of).map(u32::from_le_bytes)
    }

    fn u64(&mut self, of: &str) -> Result<u64> {
        self.fixed(of).map(u64::from_le_bytes)
    }

    /// A count of things that need `least` bytes each.
    fn count(&mut self, of: &str, least: u64) -> Result<u64> {
        let count = self.u64(of)?;
        if count > self.left / least.max(1) {
            let message = format!("{of}: {count}, but only {} bytes follow", self.left);
            return Err(self.broken(message).hint("the file is truncated or damaged"));
        }
        Ok(count)
    }

    fn text(&mut self, of: &str) -> Result<String> {
        let len = self.count(of, 1)?;
        let bytes = self.bytes(len, of)?;
        String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            self.broken(format!("{of} is not UTF-8 at its byte {at}"))
        })
    }

    /// Magic and version; tensors and keys.
    fn counts(&mut self) -> Result<(u64, u64)> {
        let magic: [u8; 4] = self.fixed("the header")?;
        if magic != *MAGIC {
            let message =
                format!("it begins with {:?}, not GGUF", magic.escape_ascii().to_string());
            return Err(self.broken(message).hint("this is no GGUF file"));
        }
        match self.u32("the version")? {
            2 | 3 => {}
            1 => {
                let error =
                    self.broken("version 1 of the format, which is no longer in use".into());
                return Err(error.hint("versions 2 and 3 are read; convert the model again"));
            }
            n if n.trailing_zeros() >= 16 => {
                let error = self.broken("a big-endian file".into());
                return Err(error.hint("convert it with gguf-convert-endian little"));
            }
            n => {
                let error = self.broken(format!("version {n} of the format"));
                return Err(error.hint("versions 2 and 3 are read"));
            }
        }
        let tensors = self.count("the number of tensors", LEAST.1)?;
        Ok((tensors, self.count("the number of keys", LEAST.0)?))
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let kind = self.u32(key)?;
        self.value_of(kind, key, 0)
    }

    fn value_of(&mut self, kind: u32, key: &str, depth: u32) -> Result<Value> {
        if let Some(number) = Number::of(kind) {
            let bytes = self.bytes(number.bytes(), key)?;
            return number.value(&bytes).ok_or_else(|| {
                self.broken(format!("{key} is neither true nor false, but {}", bytes[0]))
            });
        }
        match kind {
            Value::TEXT => Ok(Value::Text(self.text(key)?)),
            Value::ARRAY if depth < MOST_NESTED => {
                let kind = self.u32(key)?;
                let least = Number::of(kind).map_or(8, Number::bytes);
                let count = self.count(key, least)?;
                if let Some(number) = Number::of(kind) {
                    return Ok(Value::Numbers(number, self.bytes(count * least, key)?));
                }
                if kind == Value::TEXT {
                    return (0..count)
                        .map(|_| self.text(key))
                        .collect::<Result<_>>()
                        .map(Value::Texts);
                }
                for _ in 0..count {
                    self.value_of(kind, key, depth + 1)?;
                }
                Ok(Value::Nested)
            }
            Value::ARRAY => Err(self.broken(format!("{key}: arrays within arrays without end"))),
            _ => Err(self.broken(format!("{key} has a value of the unknown type {kind}"))),
        }
    }

    fn described(&mut self) -> Result<Described> {
        let name = self.text("a tensor's name")?;
        let count = self.u32(&name)?;
        if !(1..=MOST_DIMENSIONS).contains(&count) {
            let message = format!("{name:?} has {count} dimensions; the format has 1 to 4");
            return Err(self.broken(message));
        }
        let dims = (0..count).map(|_| self.u64(&name)).collect::<Result<Vec<_>>>()?;
        Ok(Described { dims, number: self.u32(&name)?, offset: self.u64(&name)?, name })
    }

    /// All descriptions, with every fault listed.
    fn tensors(&mut self, count: u64, alignment: u64) -> Result<BTreeMap<String, Tensor>> {
        let described = (0..count).map(|_| self.described()).collect::<Result<Vec<_>>>()?;
        let start = (self.len - self.left).next_multiple_of(alignment);
        let (mut tensors, mut faults) = (BTreeMap::new(), vec![]);
        for one in described {
            match self.tensor(&one, start, alignment) {
                Ok(tensor) if !tensors.contains_key(&one.name) => {
                    tensors.insert(one.name, tensor);
                }
                Ok(_) => faults.push(format!("{} is there twice", one.name)),
                Err(fault) => faults.push(fault),
            }
        }
        let mut places: Vec<_> = tensors.iter().map(|(name, t)| (t.place, name)).collect();
        places.sort_unstable();
        for pair in places.windows(2) {
            let ((start, bytes), name) = pair[0];
            if start + bytes > pair[1].0.0 {
                faults.push(format!("{name} and {} overlap", pair[1].1));
            }
        }
        if faults.is_empty() {
            return Ok(tensors);
        }
        let message = format!("{} of {count} tensors cannot be read", faults.len());
        let types = faults.iter().any(|f| f.contains(" stored as "));
        Err(listed(self.broken(message), &faults).hint(if types {
            "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K are read; requantise the model to one"
        } else {
            "the file is truncated or damaged"
        }))
    }

    fn tensor(&self, one: &Described, start: u64, alignment: u64) -> Result<Tensor, String> {
        let Described { name, dims, number, offset } = one;
        let Some(stored) = Stored::of(*number) else {
            return Err(format!("{name} is stored as {}", type_name(*number)));
        };
        let (block, size) = stored.block();
        let elements = dims.iter().try_fold(1u64, |all, &n| all.checked_mul(n));
        let bytes = elements
            .filter(|&n| n > 0)
            .and_then(|n| (n / block as u64).checked_mul(size as u64))
            .ok_or_else(|| format!("{name} has the impossible dimensions {dims:?}"))?;
        if !dims[0].is_multiple_of(block as u64) {
            return Err(format!("{name} has rows of {}, but blocks of {block}", dims[0]));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(format!("{name} begins at {offset}, no multiple of {alignment}"));
        }
        let end = start.checked_add(*offset).and_then(|at| at.checked_add(bytes));
        if end.is_none_or(|end| end > self.len) {
            let len = self.len;
            return Err(format!(
                "{name} needs {bytes} bytes from {start} + {offset}, but the file has {len}"
            ));
        }
        let shape = dims.iter().rev().map(|&n| usize::try_from(n)).collect::<Result<_, _>>();
        let shape = shape.map_err(|_| format!("{name} has the impossible dimensions {dims:?}"))?;
        Ok(Tensor { shape, stored, place: (start + offset, bytes) })
    }
}

/// An error about a file whose contents are sound but not for us.
pub(super) fn refused(path: &Path, message: String) -> Error {
    Error::new(Kind::Format, IMPORT, format!("{}: {message}", path.display()))
}
