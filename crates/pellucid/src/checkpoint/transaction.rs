//! Several files of a folder replaced as one.
//!
//! A rename replaces one file atomically, but a checkpoint is several. So the new files are first written, and flushed
//! to disk, into `.pellucid-next.tmp` inside the folder. Renaming that to `.pellucid-next` is the moment the new
//! checkpoint exists. Then each file is moved from there over its predecessor.
//!
//! | crash | the folder has | a reader sees |
//! |---|---|---|
//! | before the rename | the old files, a stale `.tmp` | the old checkpoint |
//! | after it, some files moved | each new file in one of two places | the new checkpoint |
//! | after the last move | the new files | the new checkpoint |
//!
//! A reader ([`Snapshot`](super::Snapshot)) looks into `.pellucid-next` first, and changes nothing; the next writer finishes an
//! interrupted move ([`recover`]). A full disk fails before the rename, so the old checkpoint stays. Programs that do
//! not know of `.pellucid-next` see the old files until it is moved, and after a crash in the microseconds of the moves
//! they may see a mix until the next writer, or anyone who calls [`recover`], has passed.
//!
//! A lock on the folder keeps a second writer out; the operating system drops it with the process.

#[cfg(test)]
use super::fault;
use crate::error::{Error, Kind, Result};
use crate::files;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const OPERATION: &str = "save checkpoint";
pub(super) const READ: &str = "load checkpoint";
const STAGING: &str = ".pellucid-next.tmp";
pub(super) const NEXT: &str = ".pellucid-next";
/// In `NEXT`: the names that the new checkpoint does not have, a JSON list.
const REMOVED: &str = ".removed";

/// Files to be written into a folder all at once, or not at all. Dropped without [`commit`](Self::commit), it leaves
/// the folder as it was.
#[derive(Debug)]
pub struct Transaction {
    folder: PathBuf,
    removed: Vec<String>,
    open: bool,
    _lock: Option<Lock>,
}

impl Transaction {
    /// Begins: creates `folder` if needed, keeps other writers out, and finishes what a crash interrupted.
    ///
    /// # Errors
    /// Another process is writing to the folder, or it cannot be written.
    pub fn begin(folder: &Path) -> Result<Self> {
        files::create_folder(OPERATION, folder)?;
        let lock = lock(folder)?;
        finish(folder)?;
        let staging = folder.join(STAGING);
        remove_folder(&staging)?;
        step()?;
        fs::create_dir(&staging).map_err(|e| Error::io(OPERATION, &staging, e))?;
        Ok(Self { folder: folder.into(), removed: vec![], open: true, _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the new `name`, a plain file name, and flushes it to disk. It stays invisible until the commit.
    ///
    /// # Errors
    /// The disk, or what `write` returns.
    pub fn write(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        plain_name(name)?;
        step()?;
        let path = self.folder.join(STAGING).join(name);
        #[cfg(test)]
        let write = |w: &mut dyn Write| write(&mut fault::Writer(w));
        files::replace(OPERATION, &path, write)?;
        step()
    }

    /// Says that the new checkpoint has no file `name`.
    ///
    /// # Errors
    /// Not a plain file name.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        plain_name(name)?;
        self.removed.push(name.into());
        Ok(())
    }

    /// Makes the new files the folder's files.
    ///
    /// # Errors
    /// The disk. If the error comes after the decisive rename, readers already see the new files.
    pub fn commit(mut self) -> Result<()> {
        let removed = serde_json::json!(self.removed).to_string();
        self.write(REMOVED, |w| w.write_all(removed.as_bytes()))?;
        let (staging, next) = (self.folder.join(STAGING), self.folder.join(NEXT));
        step()?;
        fs::rename(&staging, &next).map_err(|e| Error::io(OPERATION, &next, e))?;
        self.open = false;
        sync(&self.folder)?;
        finish(&self.folder)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        #[cfg(test)]
        if fault::crashed() {
            return;
        }
        if self.open {
            // Best effort: the next writer clears it as well.
            let _ = fs::remove_dir_all(self.folder.join(STAGING));
        }
    }
}

/// Finishes the move of a committed checkpoint that a crash interrupted, and clears what an uncommitted one left.
/// Needed only before programs other than this one read the folder; [`Snapshot`](super::Snapshot) and [`Transaction`] cope without.
///
/// # Errors
/// Another process is writing to the folder, or it cannot be written.
pub fn recover(folder: &Path) -> Result<()> {
    if !folder.join(NEXT).exists() && !folder.join(STAGING).exists() {
        return Ok(());
    }
    let _lock = lock(folder)?;
    finish(folder)?;
    remove_folder(&folder.join(STAGING))
}

/// Moves the files of `NEXT` to their places. Repeating it after a crash at any step is right.
fn finish(folder: &Path) -> Result<()> {
    let next = folder.join(NEXT);
    if !next.is_dir() {
        return Ok(());
    }
    for name in removed(&next)? {
        step()?;
        match fs::remove_file(folder.join(&name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(OPERATION, &folder.join(name), e));
            }
            _ => {}
        }
    }
    let io = |e| Error::io(OPERATION, &next, e);
    for entry in fs::read_dir(&next).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name() != REMOVED {
            step()?;
            let to = folder.join(entry.file_name());
            fs::rename(entry.path(), &to).map_err(|e| Error::io(OPERATION, &to, e))?;
        }
    }
    sync(folder)?;
    step()?;
    match fs::remove_file(next.join(REMOVED)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    step()?;
    fs::remove_dir(&next).map_err(io)?;
    sync(folder)
}

/// The names a committed checkpoint removes; none if there is no such list.
pub(super) fn removed(next: &Path) -> Result<Vec<String>> {
    let path = next.join(REMOVED);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Vec<String>>(&bytes)
            .ok()
            .filter(|names| names.iter().all(|n| plain_name(n).is_ok()))
            .ok_or_else(|| {
                let message = format!("{}: not a list of file names", path.display());
                Error::new(Kind::Format, READ, message).hint("delete the folder around it")
            }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(e) => Err(Error::io(READ, &path, e)),
    }
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(OPERATION, path, e)),
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> Result<()> {
    step()?;
    if cfg!(unix) {
        let run = || File::open(folder)?.sync_all();
        run().map_err(|e| Error::io(OPERATION, folder, e))?;
    }
    Ok(())
}

#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that was just forked holds the same open file until it runs its program.
        let _ = self.0.unlock();
    }
}

/// An exclusive lock on the folder itself, where the system has such.
fn lock(folder: &Path) -> Result<Option<Lock>> {
    if cfg!(not(unix)) {
        return Ok(None);
    }
    let file = File::open(folder).map_err(|e| Error::io(OPERATION, folder, e))?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => {
            let message = format!("{}: another process is writing a checkpoint", folder.display());
            Err(Error::new(Kind::Io, OPERATION, message)
                .hint("wait for it, or choose another folder"))
        }
        // Some network file systems cannot lock; then the user keeps writers apart.
        Err(fs::TryLockError::Error(_)) => Ok(None),
        Ok(()) => Ok(Some(Lock(file))),
    }
}

/// Refuses names that lead elsewhere.
pub(crate) fn plain_name(name: &str) -> Result<()> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(n)), None) if n == name && !name.contains('\0') => {
            Ok(())
        }
        _ => Err(Error::new(Kind::Format, READ, format!("{name:?} is not a plain file name"))
            .hint("files of a checkpoint lie directly in its folder")),
    }
}

/// A point where a test may end the process, so to speak.
fn step() -> Result<()> {
    #[cfg(test)]
    fault::step()?;
    Ok(())
}
