//! Reading several files of a folder as they stood together.

use super::transaction::{NEXT, READ, removed};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Files of a folder as they stood together at one moment, held open: a writer that replaces them meanwhile changes
/// nothing here.
#[derive(Debug)]
pub struct Snapshot {
    files: BTreeMap<String, (PathBuf, Option<File>)>,
}

impl Snapshot {
    /// Opens those of `names` that exist.
    ///
    /// # Errors
    /// A file that exists and cannot be opened; a writer that replaced files during each of many attempts.
    pub fn open(folder: &Path, names: &[&str]) -> Result<Self> {
        for _ in 0..64 {
            let mut files = BTreeMap::new();
            for &name in names {
                files.insert(name.to_owned(), open_current(folder, name)?);
            }
            // Unchanged after the last was opened: they all stood there together.
            let mut steady = true;
            for (name, (_, file)) in &files {
                steady &= same(file.as_ref(), open_current(folder, name)?.1.as_ref());
            }
            if steady {
                return Ok(Self { files });
            }
        }
        let message = format!("{}: files keep changing while they are opened", folder.display());
        Err(Error::new(Kind::Io, READ, message).hint("wait until the other process is done"))
    }

    /// Whether the folder has `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.files.get(name).is_some_and(|f| f.1.is_some())
    }

    /// The open file and its present path; `None` if the folder has none. A file can be taken once.
    pub fn take(&mut self, name: &str) -> Option<(PathBuf, File)> {
        let (path, file) = self.files.remove(name)?;
        Some((path, file?))
    }

    /// A whole UTF-8 file; `None` if the folder has none.
    ///
    /// # Errors
    /// Not UTF-8, more than 256 MiB, the disk.
    pub fn take_text(&mut self, name: &str) -> Result<Option<String>> {
        const MOST: u64 = 256 << 20;
        let Some((path, file)) = self.take(name) else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(|e| Error::io(READ, &path, e))?;
        let fault =
            |what: String| Error::new(Kind::Format, READ, format!("{}: {what}", path.display()));
        if bytes.len() as u64 > MOST {
            return Err(fault("longer than 256 MiB".into()));
        }
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|e| fault(format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))
    }
}

/// Opens `name` where it is now: a committed checkpoint's place first.
fn open_current(folder: &Path, name: &str) -> Result<(PathBuf, Option<File>)> {
    let next = folder.join(NEXT);
    // The list is read first: were it read after a move, a removed file would seem to be there again.
    let gone = next.is_dir() && removed(&next)?.iter().any(|n| n == name);
    for path in [next.join(name), folder.join(name)] {
        match File::open(&path) {
            Ok(_) if gone && !path.starts_with(&next) => {}
            Ok(file) => return Ok((path, Some(file))),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => {}
            Err(e) => return Err(Error::io(READ, &path, e)),
        }
    }
    Ok((folder.join(name), None))
}

fn same(a: Option<&File>, b: Option<&File>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => match (a.metadata(), b.metadata()) {
            (Ok(a), Ok(b)) => identity(&a) == identity(&b),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    // Both files are open, so their numbers cannot have been given away.
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(metadata: &fs::Metadata) -> (u64, Option<std::time::SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}
