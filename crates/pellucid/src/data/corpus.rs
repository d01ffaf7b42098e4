//! Documents from files, folders and globs, streamed with bounded memory.

use super::random::mix;
use super::read;
use crate::error::{Error, Kind, Result};
use crate::text::Origin;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

const OPEN: &str = "open corpus";

/// How a file holds documents; known by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Plain text: `.txt`, `.md` and every ending not named below.
    Text,
    /// One JSON object per line: `.jsonl`, `.ndjson`.
    JsonLines,
    /// Apache Parquet: `.parquet`.
    Parquet,
}

impl Format {
    fn of(path: &Path) -> Self {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        match ending.as_str() {
            "jsonl" | "ndjson" => Self::JsonLines,
            "parquet" => Self::Parquet,
            _ => Self::Text,
        }
    }
}

/// How to find documents in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusOptions {
    /// Field of a JSON line or column of a Parquet file that holds the text.
    pub field: String,
    /// Text that stands between two documents of a plain text file, and belongs to neither.
    /// `None`: each file is one document.
    pub separator: Option<String>,
    /// Greatest number of bytes of a [`Piece`], at least 64.
    pub piece: usize,
}

impl Default for CorpusOptions {
    fn default() -> Self {
        Self { field: "text".into(), separator: None, piece: 1 << 20 }
    }
}

/// A file of the corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is; for a text in memory, a name.
    pub path: PathBuf,
    /// How it holds documents.
    pub format: Format,
    /// Its length.
    pub bytes: u64,
    /// When it was changed, in nanoseconds since 1970; 0 where unknown.
    pub modified: u64,
    /// The text, where it is in memory and not in a file.
    pub(super) memory: Option<Arc<str>>,
}

/// Part of a document, or all of it.
///
/// A document longer than [`CorpusOptions::piece`] comes in several. Character and byte tokenizers
/// encode the pieces exactly as the whole. So does byte-level BPE where the document has a line end
/// between two non-blank characters in every piece; elsewhere a token may be split at a seam.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Never empty, except for nothing.
    pub text: String,
    /// Index into [`Corpus::files`].
    pub file: usize,
    /// Line or row of the document in its file, from 1; 0 for plain text.
    pub row: u64,
    /// Bytes and lines before this piece: in the file for plain text, else in the document.
    pub origin: Origin,
    /// The first of its document.
    pub begins: bool,
    /// The last of its document.
    pub ends: bool,
}

/// What a whole corpus holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Documents that are not empty.
    pub documents: u64,
    /// Unicode scalar values.
    pub characters: u64,
    /// Bytes of UTF-8.
    pub bytes: u64,
}

/// A stream of documents that can be read again and again.
#[derive(Clone, Debug)]
pub struct Corpus {
    files: Vec<SourceFile>,
    options: CorpusOptions,
}

impl Corpus {
    /// `sources` are files, folders (all files below, sorted, without hidden ones) and globs.
    ///
    /// # Errors
    /// A source that is not there, a glob that matches nothing, or no text at all.
    pub fn open<P: AsRef<Path>>(sources: &[P], options: CorpusOptions) -> Result<Self> {
        check(&options)?;
        let mut files = vec![];
        for source in sources {
            find(source.as_ref(), &mut files)?;
        }
        if files.is_empty() {
            return Err(Error::new(Kind::Input, OPEN, "no file in the corpus")
                .hint("name at least one text file, folder or glob"));
        }
        if files.iter().all(|file| file.bytes == 0) {
            let message = format!("{}: empty", files[0].path.display());
            let others = files.len() - 1;
            let error = Error::new(Kind::Input, OPEN, message);
            return Err(match others {
                0 => error,
                _ => error.fact(format!("and so are the {others} other files")),
            }
            .hint("give a file with text in it"));
        }
        Ok(Self { files, options })
    }

    /// A corpus of one text in memory, which `name` stands for in errors.
    ///
    /// # Errors
    /// An option out of range.
    pub fn from_text(
        name: &str,
        text: impl Into<Arc<str>>,
        options: CorpusOptions,
    ) -> Result<Self> {
        check(&options)?;
        let text = text.into();
        let file = SourceFile {
            path: name.into(),
            format: Format::Text,
            bytes: text.len() as u64,
            modified: text.bytes().fold(1, |hash, byte| mix(hash ^ u64::from(byte))),
            memory: Some(text),
        };
        Ok(Self { files: vec![file], options })
    }

    /// The files, in the order in which they are read.
    #[must_use]
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// How documents are found.
    #[must_use]
    pub fn options(&self) -> &CorpusOptions {
        &self.options
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether it is one plain text file that is one document.
    #[must_use]
    pub fn is_single_text(&self) -> bool {
        matches!(&self.files[..], [file] if file.format == Format::Text)
            && self.options.separator.is_none()
    }

    /// All documents, in order, in pieces. After an error the stream ends.
    pub fn pieces(&self) -> impl Iterator<Item = Result<Piece>> + Send + '_ {
        let mut failed = false;
        let files = self.files.iter().enumerate();
        let mut open: Option<read::Stream> = None;
        let mut files = files.peekable();
        std::iter::from_fn(move || {
            loop {
                if failed {
                    return None;
                }
                if let Some(stream) = &mut open {
                    match stream.next() {
                        Some(piece) => {
                            failed = piece.is_err();
                            return Some(piece);
                        }
                        None => open = None,
                    }
                }
                let (index, file) = files.next()?;
                match read::open(index, file, &self.options) {
                    Ok(stream) => open = Some(stream),
                    Err(e) => {
                        failed = true;
                        return Some(Err(e));
                    }
                }
            }
        })
    }

    /// The texts of [`Self::pieces`].
    pub fn texts(&self) -> impl Iterator<Item = Result<String>> + Send + '_ {
        self.pieces().map(|piece| piece.map(|piece| piece.text))
    }

    /// Reads everything once and counts.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn statistics(&self) -> Result<Statistics> {
        let mut sum = Statistics::default();
        for piece in self.pieces() {
            let piece = piece?;
            sum.documents += u64::from(piece.begins);
            sum.characters += piece.text.chars().count() as u64;
            sum.bytes += piece.text.len() as u64;
        }
        Ok(sum)
    }

    /// Where a piece is, for errors.
    #[must_use]
    pub fn place(&self, piece: &Piece) -> String {
        let file = &self.files[piece.file];
        let path = file.path.display();
        match file.format {
            Format::Text => format!("in {path}"),
            Format::JsonLines => format!("in {path}, JSON line {}", piece.row),
            Format::Parquet => format!("in {path}, row {}", piece.row),
        }
    }

    /// A hash of the files' paths, lengths and times of change and of the options.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut text = format!("{:?}", self.options);
        for file in &self.files {
            let SourceFile { path, bytes, modified, .. } = file;
            text.push_str(&format!("\n{}\t{bytes}\t{modified}", path.display()));
        }
        text.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
    }
}

fn check(options: &CorpusOptions) -> Result<()> {
    let bad = |why: &str| Err(Error::new(Kind::Config, OPEN, why));
    if options.piece < 64 {
        return bad("pieces of fewer than 64 bytes");
    }
    match options.separator.as_deref() {
        Some("") => bad("the separator of documents is empty; leave it out instead"),
        Some(s) if s.len() > options.piece / 2 => bad("the separator is longer than half a piece"),
        _ => Ok(()),
    }
}

fn find(source: &Path, files: &mut Vec<SourceFile>) -> Result<()> {
    if source.is_dir() {
        let before = files.len();
        walk(source, files)?;
        if files.len() == before {
            let message = format!("{}: no file in this folder", source.display());
            return Err(Error::new(Kind::Input, OPEN, message)
                .hint("hidden files are left out; name a file or another folder"));
        }
        return Ok(());
    }
    let pattern = source.to_string_lossy();
    if source.exists() || !pattern.contains(['*', '?', '[']) {
        files.push(describe(source)?);
        return Ok(());
    }
    let bad = |why: String| Error::new(Kind::Input, OPEN, format!("{pattern}: {why}"));
    let before = files.len();
    for path in glob::glob(&pattern).map_err(|e| bad(format!("not a glob: {e}")))? {
        let path = path.map_err(|e| bad(e.to_string()))?;
        match path.is_dir() {
            true => walk(&path, files)?,
            false => files.push(describe(&path)?),
        }
    }
    if files.len() == before {
        return Err(bad("no file matches this glob".into())
            .hint("** stands for any depth of folders, * for part of one name"));
    }
    Ok(())
}

/// All files below, sorted by name; links to folders are not followed, as they may form a ring.
fn walk(folder: &Path, files: &mut Vec<SourceFile>) -> Result<()> {
    let fail = |e| Error::io(OPEN, folder, e);
    let entries = std::fs::read_dir(folder).map_err(fail)?;
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(fail)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        if entry.file_type().map_err(fail)?.is_dir() {
            walk(&path, files)?;
        } else if path.is_file() {
            files.push(describe(&path)?);
        }
    }
    Ok(())
}

fn describe(path: &Path) -> Result<SourceFile> {
    let about = std::fs::metadata(path).map_err(|e| Error::io(OPEN, path, e))?;
    let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(SourceFile {
        path: path.to_owned(),
        format: Format::of(path),
        bytes: about.len(),
        modified: since.map_or(0, |age| age.as_nanos() as u64),
        memory: None,
    })
}
