//! Token ids on disk: a header that says what they are, then the ids.
//!
//! Rows are read where they lie, so memory does not grow with the file. Reads and not a mapping:
//! a file that another program cuts short then gives an error and not a bus error.

use super::random::mix;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::text::Tokenizer;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const OPEN: &str = "open shard";
const WRITE: &str = "write shard";
const MAGIC: [u8; 8] = *b"PLCDTOKS";
const VERSION: u32 = 1;
/// magic 8 · version 4 · bytes per id 4 · ids 8 · vocabulary 8 · tokenizer 8 · checksum of the ids 8
/// · zero 8 · checksum of the header 8; all little-endian.
const HEADER: usize = 64;
/// Files up to this many ids have all of their ids checked when they are opened.
const CHECKED: u64 = 1 << 26;

/// Token ids in a file or in memory.
#[derive(Debug)]
pub struct Shard {
    source: Source,
    header: Header,
}

#[derive(Debug)]
enum Source {
    File(File, PathBuf),
    Memory(Vec<u32>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    width: u32,
    count: u64,
    vocabulary: u64,
    tokenizer: u64,
    checksum: u64,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.width.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.vocabulary.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.tokenizer.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.checksum.to_le_bytes());
        let own = header_checksum(&bytes);
        bytes[56..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// What is wrong with the bytes, in words.
    fn parse(bytes: &[u8; HEADER]) -> Result<Self, String> {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[..8] != MAGIC {
            return Err("not a token shard".into());
        }
        if short(8) != VERSION {
            return Err(format!("version {} of the format; this reads {VERSION}", short(8)));
        }
        if long(56) != header_checksum(bytes) {
            return Err("its header was changed or damaged".into());
        }
        let header = Self {
            width: short(12),
            count: long(16),
            vocabulary: long(24),
            tokenizer: long(32),
            checksum: long(40),
        };
        match header.width {
            2 | 4 => Ok(header),
            width => Err(format!("{width} bytes per id; 2 or 4 are possible")),
        }
    }
}

fn header_checksum(bytes: &[u8; HEADER]) -> u64 {
    bytes[..56].iter().fold(0, |hash, &byte| mix(hash ^ u64::from(byte)))
}

/// One more id in the running checksum: sees every bit and the order.
fn checksum(hash: u64, id: u32) -> u64 {
    (hash.rotate_left(5) ^ u64::from(id)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Shard {
    /// Opens a file that [`ShardWriter`] wrote. Checks header and length, and the ids themselves up
    /// to 64 million of them.
    ///
    /// # Errors
    /// No such file, another format, cut short, or changed since it was written.
    pub fn open(path: &Path) -> Result<Self> {
        let file = files::open(OPEN, path)?;
        let bad = |why: String| {
            Error::new(Kind::Format, OPEN, format!("{}: {why}", path.display()))
                .hint("delete it and prepare the data again")
        };
        let length = file.metadata().map_err(|e| Error::io(OPEN, path, e))?.len();
        if length < HEADER as u64 {
            return Err(bad(format!("{length} bytes; a token shard has at least {HEADER}")));
        }
        let mut bytes = [0; HEADER];
        read_at(&file, &mut bytes, 0).map_err(|e| Error::io(OPEN, path, e))?;
        let header = Header::parse(&bytes).map_err(bad)?;
        let body = header.count.checked_mul(u64::from(header.width));
        let expected = body.and_then(|body| body.checked_add(HEADER as u64));
        if expected != Some(length) {
            let count = header.count;
            return Err(bad(format!(
                "{length} bytes, which are not the {count} ids of its header"
            )));
        }
        let shard = Self { source: Source::File(file, path.to_owned()), header };
        if header.count <= CHECKED {
            shard.verify()?;
        }
        Ok(shard)
    }

    /// Ids in memory, below `vocabulary`.
    ///
    /// # Errors
    /// An id that is not below `vocabulary`.
    pub fn from_ids(ids: Vec<u32>, vocabulary: usize) -> Result<Self> {
        let header = Header {
            width: 4,
            count: ids.len() as u64,
            vocabulary: vocabulary as u64,
            tokenizer: 0,
            checksum: ids.iter().fold(0, |hash, &id| checksum(hash, id)),
        };
        let shard = Self { source: Source::Memory(ids), header };
        shard.verify()?;
        Ok(shard)
    }

    /// Reads all ids and checks that they are the ones that were written.
    ///
    /// # Errors
    /// A changed id, or one outside the vocabulary.
    pub fn verify(&self) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        let (mut at, mut hash) = (0, 0);
        while at < self.header.count {
            let length = buffer.len().min((self.header.count - at) as usize);
            self.read(at, &mut buffer[..length])?;
            hash = buffer[..length].iter().fold(hash, |hash, &id| checksum(hash, id as u32));
            at += length as u64;
        }
        if hash != self.header.checksum {
            return Err(self.bad("its ids were changed or damaged".into()));
        }
        Ok(())
    }

    fn bad(&self, why: String) -> Error {
        let name = match &self.source {
            Source::File(_, path) => path.display().to_string(),
            Source::Memory(_) => "ids in memory".into(),
        };
        Error::new(Kind::Format, OPEN, format!("{name}: {why}"))
            .hint("delete it and prepare the data again")
    }

    /// Number of ids.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.header.count
    }

    /// Whether it holds no id.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// All ids are below this.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.header.vocabulary as usize
    }

    /// [`Tokenizer::fingerprint`] of the tokenizer that made the ids; 0 for ids in memory.
    #[must_use]
    pub fn tokenizer(&self) -> u64 {
        self.header.tokenizer
    }

    /// Reads `ids.len()` ids from `start` on.
    ///
    /// # Errors
    /// Past the end, an unreadable file, or an id outside the vocabulary.
    pub fn read(&self, start: u64, ids: &mut [i32]) -> Result<()> {
        let end = start.checked_add(ids.len() as u64).filter(|&end| end <= self.header.count);
        if end.is_none() {
            let (length, count) = (ids.len(), self.header.count);
            let message = format!("{length} ids from {start}, but the shard has {count}");
            return Err(Error::new(Kind::Shape, "read shard", message));
        }
        match &self.source {
            Source::Memory(all) => {
                let from = &all[start as usize..start as usize + ids.len()];
                ids.iter_mut().zip(from).for_each(|(id, &from)| *id = from as i32);
            }
            Source::File(file, path) => {
                let width = self.header.width as usize;
                let mut bytes = vec![0; ids.len() * width];
                let at = HEADER as u64 + start * width as u64;
                read_at(file, &mut bytes, at).map_err(|e| Error::io("read shard", path, e))?;
                for (id, bytes) in ids.iter_mut().zip(bytes.chunks_exact(width)) {
                    *id = match *bytes {
                        [a, b] => i32::from(u16::from_le_bytes([a, b])),
                        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
                        _ => 0,
                    };
                }
            }
        }
        let vocabulary = self.header.vocabulary;
        match ids.iter().find(|&&id| u64::from(id as u32) >= vocabulary) {
            None => Ok(()),
            Some(&id) => Err(self.bad(format!("id {} in a vocabulary of {vocabulary}", id as u32))),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        at += read as u64;
    }
    Ok(())
}

/// Writes a shard id by id; the file appears, whole, with [`Self::finish`].
pub struct ShardWriter {
    buffer: BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
    header: Header,
}

impl ShardWriter {
    /// Begins the shard that will be at `path`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn create(path: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files::create_folder(WRITE, folder)?;
        let fail = |e| Error::io(WRITE, path, e);
        let builder = tempfile::Builder::new().prefix(".pellucid-").tempfile_in(folder);
        let mut buffer = BufWriter::with_capacity(1 << 20, builder.map_err(fail)?);
        buffer.write_all(&[0; HEADER]).map_err(fail)?;
        let vocabulary = tokenizer.vocab_size() as u64;
        let header = Header {
            width: if vocabulary <= 1 << 16 { 2 } else { 4 },
            count: 0,
            vocabulary,
            tokenizer: tokenizer.fingerprint(),
            checksum: 0,
        };
        Ok(Self { buffer, path: path.to_owned(), header })
    }

    /// Appends ids.
    ///
    /// # Errors
    /// An id outside the vocabulary, or a full disk.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        let Header { width, vocabulary, .. } = self.header;
        if let Some(id) = ids.iter().find(|&&id| u64::from(id) >= vocabulary) {
            let message = format!("id {id} in a vocabulary of {vocabulary}");
            return Err(Error::new(Kind::Input, WRITE, message));
        }
        let mut write = || -> std::io::Result<()> {
            for &id in ids {
                match width {
                    2 => self.buffer.write_all(&(id as u16).to_le_bytes())?,
                    _ => self.buffer.write_all(&id.to_le_bytes())?,
                }
            }
            Ok(())
        };
        write().map_err(|e| Error::io(WRITE, &self.path, e))?;
        self.header.checksum = ids.iter().fold(self.header.checksum, |h, &id| checksum(h, id));
        self.header.count += ids.len() as u64;
        Ok(())
    }

    /// Number of ids so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.header.count
    }

    /// Whether there is no id yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Puts the file in its place, flushed to disk.
    ///
    /// # Errors
    /// A full disk; what was at the path is then still there.
    pub fn finish(self) -> Result<()> {
        let Self { buffer, path, header } = self;
        let run = || -> std::io::Result<()> {
            let mut file = buffer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header.to_bytes())?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            }
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        run().map_err(|e| Error::io(WRITE, &path, e))
    }
}
