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
//! A reader ([`Snapshot`]) looks into `.pellucid-next` first, and changes nothing; the next writer finishes an
//! interrupted move ([`recover`]). A full disk fails before the rename, so the old checkpoint stays. Programs that do
//! not know of `.pellucid-next` see the old files until it is moved, and after a crash in the microseconds of the moves
//! they may see a mix until the next writer, or anyone who calls [`recover`], has passed.
//!
//! A lock on the folder keeps a second writer out; the operating system drops it with the process.

use crate::error::{Error, Kind, Result};
use crate::files;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const OPERATION: &str = "save checkpoint";
const READ: &str = "load checkpoint";
const STAGING: &str = ".pellucid-next.tmp";
const NEXT: &str = ".pellucid-next";
/// In `NEXT`: the names that the new checkpoint does not have, a JSON list.
const REMOVED: &str = ".removed";

/// Files to be written into a folder all at once, or not at all. Dropped without [`commit`](Self::commit), it leaves
/// the folder as it was.
#[derive(Debug)]
pub struct Transaction {
    folder: PathBuf,
    removed: Vec<String>,
    open: bool,
    _lock: Option<File>,
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
/// Needed only before programs other than this one read the folder; [`Snapshot`] and [`Transaction`] cope without.
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
fn removed(next: &Path) -> Result<Vec<String>> {
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

/// An exclusive lock on the folder itself, where the system has such.
fn lock(folder: &Path) -> Result<Option<File>> {
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
        Ok(()) => Ok(Some(file)),
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

/// A point where a test may end the process, so to speak.
fn step() -> Result<()> {
    #[cfg(test)]
    fault::step()?;
    Ok(())
}

/// Crashes and full disks for tests.
#[cfg(test)]
pub(crate) mod fault {
    use super::{Error, Kind, Result};
    use std::cell::Cell;
    use std::io::{self, Write};

    thread_local! {
        static STEPS: Cell<Option<u32>> = const { Cell::new(None) };
        static SPACE: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// The `n`-th step from now on, and every one after it, fails and cleans nothing up, as if the process was gone.
    pub(crate) fn crash_at(n: Option<u32>) {
        STEPS.set(n);
    }

    /// After `bytes` more bytes the disk is full.
    pub(crate) fn full_after(bytes: Option<usize>) {
        SPACE.set(bytes);
    }

    pub(crate) fn crashed() -> bool {
        STEPS.get() == Some(0)
    }

    pub(super) fn step() -> Result<()> {
        match STEPS.get() {
            Some(0) => Err(Error::new(Kind::Interrupted, "test", "crash")),
            Some(n) => {
                STEPS.set(Some(n - 1));
                if n == 1 {
                    return Err(Error::new(Kind::Interrupted, "test", "crash"));
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) struct Writer<'a>(pub(super) &'a mut dyn Write);

    impl Write for Writer<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(left) = SPACE.get() {
                if left < bytes.len() {
                    self.0.write_all(&bytes[..left])?;
                    SPACE.set(Some(0));
                    return Err(io::ErrorKind::StorageFull.into());
                }
                SPACE.set(Some(left - bytes.len()));
            }
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }
}
