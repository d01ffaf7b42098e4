//! Parallel text: sentences and their translations, or any two texts that belong together.

use super::rows::{self, Column, Faults, Rows};
use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};

const READ: &str = "read parallel text";

/// Where pairs of texts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParallelSource {
    /// Two files of as many lines each.
    Files {
        /// What is read.
        source: PathBuf,
        /// What is to be learned.
        target: PathBuf,
    },
    /// One table or file of JSON lines, by its ending. Without names, a table has exactly two
    /// columns and no header, source first, and JSON lines have the fields `source` and `target`.
    Columns {
        /// The file.
        path: PathBuf,
        /// Columns of source and target.
        columns: Option<(Column, Column)>,
    },
}

/// Two texts that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPair {
    /// What is read.
    pub source: String,
    /// What is to be learned.
    pub target: String,
    /// Line in the file, from 1.
    pub line: u64,
}

/// Reads all pairs. Blank lines on both sides at once are left out.
///
/// # Errors
/// A file that cannot be read or is not UTF-8; files of unlike numbers of lines; an empty side, a
/// line without its columns or fields: the first ten are listed with their lines.
pub fn read_parallel(from: &ParallelSource) -> Result<Vec<TextPair>> {
    let pairs = match from {
        ParallelSource::Files { source, target } => read_files(source, target)?,
        ParallelSource::Columns { path, columns } => read_columns(path, columns.as_ref())?,
    };
    match pairs.is_empty() {
        false => Ok(pairs),
        true => Err(Error::new(Kind::Input, READ, format!("{}: no pairs", name(from)))),
    }
}

fn name(from: &ParallelSource) -> String {
    match from {
        ParallelSource::Files { source: path, .. } | ParallelSource::Columns { path, .. } => {
            path.display().to_string()
        }
    }
}

fn read_files(source: &Path, target: &Path) -> Result<Vec<TextPair>> {
    let (sources, targets) = (rows::read(READ, source)?, rows::read(READ, target)?);
    let counts = (sources.lines().count(), targets.lines().count());
    if counts.0 != counts.1 {
        let message = format!("{} and {} lines do not pair up", counts.0, counts.1);
        return Err(Error::new(Kind::Format, READ, message)
            .fact(format!("{}: {} lines", source.display(), counts.0))
            .fact(format!("{}: {} lines", target.display(), counts.1))
            .hint("line n of one file must be the translation of line n of the other"));
    }
    let mut faults = (Faults::new(READ, source), Faults::new(READ, target));
    let mut pairs = vec![];
    for ((line, source), target) in rows::lines(&sources).zip(targets.lines()) {
        match (source.trim().is_empty(), target.trim().is_empty()) {
            (true, true) => {}
            (true, false) => faults.0.add(line, "empty, but the other file's line is not"),
            (false, true) => faults.1.add(line, "empty, but the other file's line is not"),
            (false, false) => {
                pairs.push(TextPair { source: source.into(), target: target.into(), line });
            }
        }
    }
    const HINT: &str = "take such lines out of both files";
    faults.0.check(HINT)?;
    faults.1.check(HINT)?;
    Ok(pairs)
}

fn read_columns(path: &Path, columns: Option<&(Column, Column)>) -> Result<Vec<TextPair>> {
    let table = rows::table(READ, path)?;
    let mut faults = Faults::new(READ, path);
    let standard = match &table.rows {
        Rows::Fields(_) => ("source".into(), "target".into()),
        Rows::Cells(rows) => {
            for (line, cells) in rows.iter().filter(|(_, c)| columns.is_none() && c.len() != 2) {
                faults.add(*line, format!("{} columns, not two", cells.len()));
            }
            faults.check("put one tab between source and target, or name the two columns")?;
            (Column::Number(1), Column::Number(2))
        }
    };
    let (source, target) = columns.unwrap_or(&standard);
    let mut faults = Faults::new(READ, path);
    let mut pairs = vec![];
    for (line, row) in rows::select(READ, table, &[source, target], false)? {
        let Ok([source, target]) = <[String; 2]>::try_from(row) else { continue };
        match (source.trim().is_empty(), target.trim().is_empty()) {
            (true, true) => {}
            (true, false) => faults.add(line, "the source is empty"),
            (false, true) => faults.add(line, "the target is empty"),
            (false, false) => pairs.push(TextPair { source, target, line }),
        }
    }
    faults.check("fill them in or take the lines out")?;
    Ok(pairs)
}
