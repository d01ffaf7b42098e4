//! File operations of a run, numbered, so that a test can pull the plug before any of them.

use crate::error::{Error, Kind, Result};
use crate::files;
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The disk as the run sees it.
#[derive(Debug, Default)]
pub struct Disk {
    done: Cell<u64>,
    plug: Option<u64>,
}

const ROOM: &str = "train";

impl Disk {
    /// A disk whose operation number `plug` and all later ones fail: an append writes half of its bytes.
    #[cfg(test)]
    pub(crate) fn with_plug(plug: u64) -> Self {
        Self { done: Cell::new(0), plug: Some(plug) }
    }

    /// Counts an operation that something else performs.
    pub fn tick(&self) -> Result<()> {
        let number = self.done.get();
        self.done.set(number + 1);
        match self.plug {
            Some(plug) if number >= plug => Err(Error::new(
                Kind::Interrupted,
                ROOM,
                format!("plug pulled before operation {number}"),
            )),
            _ => Ok(()),
        }
    }

    /// Creates a folder and its parents.
    pub fn create_folder(&self, path: &Path) -> Result<()> {
        self.tick()?;
        files::create_folder(ROOM, path)
    }

    /// Replaces a file atomically.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.tick()?;
        files::replace(ROOM, path, |w| w.write_all(bytes))
    }

    /// Renames a folder and makes the rename survive a power cut.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.tick()?;
        fs::rename(from, to).map_err(|e| Error::io(ROOM, from, e))?;
        self.sync_folder(to.parent().unwrap_or(Path::new(".")))
    }

    /// Flushes a folder's entries to the disk.
    pub fn sync_folder(&self, path: &Path) -> Result<()> {
        self.tick()?;
        if cfg!(unix) {
            files::open(ROOM, path)?.sync_all().map_err(|e| Error::io(ROOM, path, e))?;
        }
        Ok(())
    }

    /// Removes a folder and all in it; what is absent is no error.
    pub fn remove_folder(&self, path: &Path) -> Result<()> {
        self.tick()?;
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(ROOM, path, e)),
            _ => Ok(()),
        }
    }

    /// Names in a folder, sorted.
    pub fn list(&self, path: &Path) -> Result<Vec<String>> {
        let entries = fs::read_dir(path).map_err(|e| Error::io(ROOM, path, e))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(ROOM, path, e))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Opens a file that grows, cut to `keep` bytes first. Returns it and whether it had that many.
    pub fn open_append(&self, path: &Path, keep: u64) -> Result<(Appender, bool)> {
        self.tick()?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|e| Error::io(ROOM, path, e))?;
        let length = file.metadata().map_err(|e| Error::io(ROOM, path, e))?.len();
        if length > keep {
            file.set_len(keep).map_err(|e| Error::io(ROOM, path, e))?;
        }
        Ok((Appender { file, path: path.into(), length: length.min(keep) }, length >= keep))
    }

    /// Appends bytes in one write.
    pub fn append(&self, to: &mut Appender, bytes: &[u8]) -> Result<()> {
        let alive = self.tick();
        let bytes = if alive.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        to.file.write_all(bytes).map_err(|e| Error::io(ROOM, &to.path, e))?;
        to.length += bytes.len() as u64;
        alive
    }

    /// Flushes a growing file to the disk.
    pub fn sync(&self, file: &Appender) -> Result<()> {
        self.tick()?;
        file.file.sync_data().map_err(|e| Error::io(ROOM, &file.path, e))
    }
}

/// A file that grows.
#[derive(Debug)]
pub struct Appender {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Appender {
    /// Bytes in it.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}
