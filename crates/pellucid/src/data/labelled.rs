//! Labelled text: sentences or pairs of sentences with a class or a number.

use super::rows::{self, Column, Faults, Rows};
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

const READ: &str = "read labelled text";

/// Where text and label are in a table or in JSON lines; the file's ending says which. GLUE's
/// `.tsv` have tabs and no quoting: a quote is a quote. A `.csv` has commas and quotes, unless its
/// first line has tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledColumns {
    /// The text.
    pub text: Column,
    /// The second text of a pair.
    pub second: Option<Column>,
    /// The label.
    pub label: Column,
    /// Whether a table begins with a header. Where a column is named, it does.
    pub header: bool,
}

/// What labels are.
#[derive(Clone, Copy, Debug)]
pub enum LabelKind<'a> {
    /// Classes as they occur: whole numbers by value if all are, else names in byte order.
    Classes,
    /// Classes that are known from the training data or a checkpoint, by id.
    Known(&'a [String]),
    /// Finite numbers, for regression and similarity.
    Numbers,
}

/// A label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label {
    /// Id of a class.
    Class(u32),
    /// A number to be predicted.
    Number(f32),
}

/// A text with its label.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// The text.
    pub text: String,
    /// The second text of a pair.
    pub second: Option<String>,
    /// Its label.
    pub label: Label,
    /// Line in the file, from 1.
    pub line: u64,
}

/// All rows of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledText {
    /// In the order of the file.
    pub rows: Vec<Labelled>,
    /// Name of each class by its id; empty for numbers.
    pub classes: Vec<String>,
}

/// Reads labelled text.
///
/// # Errors
/// A file that cannot be read or is not UTF-8; a column or field that is not there; an empty text;
/// a label that is empty, unknown, or not a finite number: the first ten are listed with their
/// lines. Fewer than two classes.
pub fn read_labelled(
    path: &Path,
    columns: &LabelledColumns,
    labels: LabelKind<'_>,
) -> Result<LabelledText> {
    let table = rows::table(READ, path)?;
    let is_table = matches!(table.rows, Rows::Cells(_));
    let mut wanted = vec![&columns.text, &columns.label];
    wanted.extend(&columns.second);
    let rows = rows::select(READ, table, &wanted, columns.header)?;
    if rows.is_empty() {
        let message = format!("{}: no rows after the header", path.display());
        return Err(Error::new(Kind::Input, READ, message));
    }
    let mut faults = Faults::new(READ, path);
    for (line, row) in &rows {
        if row.iter().enumerate().any(|(i, cell)| i != 1 && cell.trim().is_empty()) {
            faults.add(*line, "the text is empty");
        } else if row[1].trim().is_empty() {
            faults.add(*line, "the label is empty");
        }
    }
    faults.check(match is_table {
        true => {
            "fill them in or take the lines out; columns are told apart by single tabs or commas"
        }
        false => "fill them in or take the lines out",
    })?;
    let classes = match labels {
        LabelKind::Known(names) => names.to_vec(),
        LabelKind::Numbers => vec![],
        LabelKind::Classes => classes(rows.iter().map(|(_, row)| row[1].trim())),
    };
    if matches!(labels, LabelKind::Classes) && classes.len() < 2 {
        let message = format!("{}: all labels are {:?}", path.display(), classes[0]);
        return Err(Error::new(Kind::Input, READ, message)
            .hint("name the column of the labels; there must be at least two"));
    }
    let rows = label(path, rows, &classes, labels)?;
    Ok(LabelledText { rows, classes })
}

fn label(
    path: &Path,
    rows: Vec<(u64, Vec<String>)>,
    classes: &[String],
    labels: LabelKind<'_>,
) -> Result<Vec<Labelled>> {
    let ids: HashMap<&str, u32> =
        classes.iter().enumerate().map(|(id, name)| (name.as_str(), id as u32)).collect();
    let mut faults = Faults::new(READ, path);
    let mut labelled = vec![];
    for (line, row) in rows {
        let mut cells = row.into_iter();
        let text = cells.next().unwrap_or_default();
        let name = cells.next().unwrap_or_default();
        let (name, second) = (name.trim(), cells.next());
        let label = match labels {
            LabelKind::Numbers => {
                name.parse().ok().filter(|number: &f32| number.is_finite()).map(Label::Number)
            }
            _ => ids.get(name).map(|&id| Label::Class(id)),
        };
        match label {
            Some(label) => labelled.push(Labelled { text, second, label, line }),
            None if matches!(labels, LabelKind::Numbers) => {
                faults.add(line, format!("label {name:?} is not a finite number"));
            }
            None => faults.add(line, format!("unknown label {name:?}")),
        }
    }
    let hint = match labels {
        LabelKind::Numbers => "if the first line is a header, say so or name the columns".into(),
        _ => format!("the known labels are {}", rows::list(classes)),
    };
    faults.check(&hint)?;
    Ok(labelled)
}

/// The classes in an order that does not depend on the order of the rows.
fn classes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names: BTreeSet<&str> = names.collect();
    let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
    let mut names: Vec<&str> = names.into_iter().collect();
    if numbers.is_some() {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names.into_iter().map(Into::into).collect()
}
