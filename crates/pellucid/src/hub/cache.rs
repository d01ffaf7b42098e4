//! The cache's layout, which is that of Python's `huggingface_hub`:
//!
//! ```text
//! models--OWNER--NAME/blobs/CHECKSUM             the bytes of a file
//!                     snapshots/COMMIT/FILE      a link to them (a copy where there are no links)
//!                     refs/REVISION              the commit that a branch or tag was at
//! ```

use super::HUB;
use super::choose::{CONFIG, INDEX, WEIGHTS, shard_names};
use crate::error::{Error, Result};
use crate::files;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file of a model: its name there, and what its bytes must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) checksum: Checksum,
}

/// In lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// SHA-1 of a header and the bytes, as git names its objects.
    Git(String),
    /// SHA-256 of the bytes, for large files.
    Sha256(String),
}

impl Checksum {
    pub(super) fn digits(&self) -> &str {
        match self {
            Self::Git(digits) | Self::Sha256(digits) => digits,
        }
    }
}

/// Whether `text` is the name of a git object.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A model's folder in the cache.
#[derive(Debug)]
pub(super) struct Repository {
    folder: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, name: &str) -> Self {
        Self { folder: cache.join(format!("models--{}", name.replace('/', "--"))) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn blob(&self, file: &Blob) -> PathBuf {
        self.folder.join("blobs").join(file.checksum.digits())
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether the bytes of a file are there. They were judged when they came, so only their number is looked at.
    pub(super) fn holds(&self, file: &Blob) -> Result<bool> {
        let path = self.blob(file);
        match fs::metadata(&path) {
            Ok(found) => Ok(found.is_file() && found.len() == file.size),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(HUB, &path, e)),
        }
    }

    /// Puts a file whose bytes are there into a snapshot.
    pub(super) fn link(&self, commit: &str, file: &Blob) -> Result<()> {
        let path = self.snapshot(commit).join(&file.name);
        let Some(parent) = path.parent() else { return Ok(()) };
        files::create_folder(HUB, parent)?;
        link(&self.blob(file), &path, file).map_err(|e| Error::io(HUB, &path, e))
    }

    /// Notes that `revision` is at `commit`.
    pub(super) fn name(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        files::replace(HUB, &path, |w| w.write_all(commit.as_bytes()))
    }

    /// The snapshot of a revision, if its config and its weights are whole.
    pub(super) fn find(&self, revision: &str) -> Result<Option<PathBuf>> {
        let path = self.folder.join("refs").join(revision);
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false if path.is_file() => files::read_text(HUB, &path)?.trim().to_owned(),
            false => return Ok(None),
        };
        let folder = self.snapshot(&commit);
        // `is_file` follows links: it is false where the bytes are gone.
        let has = |file: &str| folder.join(file).is_file();
        let whole = is_commit(&commit)
            && has(CONFIG)
            && match (has(WEIGHTS), has(INDEX)) {
                (true, _) => true,
                (false, true) => shard_names(&folder.join(INDEX))
                    .is_ok_and(|shards| shards.iter().all(|shard| has(shard))),
                (false, false) => false,
            };
        Ok(whole.then_some(folder))
    }
}

/// A link that is relative, so that the cache may be moved.
#[cfg(unix)]
fn link(blob: &Path, path: &Path, file: &Blob) -> io::Result<()> {
    let up = "../".repeat(2 + file.name.matches('/').count());
    let target = PathBuf::from(format!("{up}blobs/{}", file.checksum.digits()));
    if fs::read_link(path).is_ok_and(|there| there == target) && blob.is_file() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let fresh = tempfile::Builder::new()
        .prefix(".pellucid-")
        .make_in(folder, |fresh| std::os::unix::fs::symlink(&target, fresh))?;
    fresh.persist(path).map_err(|e| e.error).map(drop)
}

#[cfg(not(unix))]
fn link(blob: &Path, path: &Path, file: &Blob) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|m| m.len() == file.size) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut fs::File::open(blob)?, &mut fresh)?;
    fresh.persist(path).map_err(|e| e.error).map(drop)
}
