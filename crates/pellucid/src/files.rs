//! Files: every error names the path, and a file is replaced whole or not at all.

use crate::error::{Error, Kind, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Reads a whole file.
pub fn read(operation: &'static str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::io(operation, path, e))
}

/// Reads a whole UTF-8 file; the error says at which byte it stops being UTF-8.
pub fn read_text(operation: &'static str, path: &Path) -> Result<String> {
    String::from_utf8(read(operation, path)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::new(Kind::Format, operation, format!("{}: not UTF-8 at byte {at}", path.display()))
            .hint("convert the file to UTF-8, or use the byte tokenizer on raw bytes")
    })
}

/// Opens a file for reading.
pub fn open(operation: &'static str, path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::io(operation, path, e))
}

/// Creates a folder and its parents.
pub fn create_folder(operation: &'static str, path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io(operation, path, e))
}

/// Writes `path` through a temporary neighbour that is flushed to disk and then renamed over it:
/// a reader sees the old file or the new one, and a full disk leaves the old one intact.
pub fn replace(
    operation: &'static str,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    };
    create_folder(operation, &folder)?;
    let run = || -> std::io::Result<()> {
        let mut temporary = tempfile::Builder::new().prefix(".pellucid-").tempfile_in(&folder)?;
        {
            let mut buffer = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
            write(&mut buffer)?;
            buffer.flush()?;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|e| e.error)?;
        // The rename itself must survive a power cut.
        File::open(&folder)?.sync_all()
    };
    run().map_err(|e| Error::io(operation, path, e))
}

/// FNV-1a: tells contents apart; no protection against those who want them to seem alike.
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.add_word((*byte).into()));
    }

    /// A word where the definition has a byte: as good for telling apart, in fewer steps.
    pub(crate) fn add_word(&mut self, word: u32) {
        self.0 = (self.0 ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
    }

    pub(crate) fn text(&self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace("test", &path, |w| w.write_all(b"old")).unwrap();
        let failed = replace("test", &path, |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        });
        assert!(failed.unwrap_err().to_string().contains("free some disk space"));
        assert_eq!(read("test", &path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary is left behind");
    }
}
