//! A table of numbers as a picture: for a terminal, or as SVG.

use super::logit_lens::visible;
use crate::error::{Error, Kind, Result};
use std::fmt::Write;

/// Five steps up and four down; each is a fifth of the darkest magnitude.
const UP: [&str; 5] = ["  ", "░░", "▒▒", "▓▓", "██"];
const DOWN: [&str; 5] = ["  ", "··", "--", "==", "##"];
/// Columns that labels may take.
const LABEL: usize = 22;
/// Cells beyond which a picture is refused: it could not be read.
const MOST: usize = 1 << 20;

/// Numbers with names for rows and columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// What it shows.
    pub title: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Row by row.
    pub values: Vec<f64>,
    /// The magnitude from which on cells are darkest; none: the largest of the values.
    pub full: Option<f64>,
}

impl HeatMap {
    /// A picture whose largest magnitude is darkest.
    #[must_use]
    pub fn new(
        title: impl Into<String>,
        rows: Vec<String>,
        columns: Vec<String>,
        values: Vec<f64>,
    ) -> Self {
        Self { title: title.into(), rows, columns, values, full: None }
    }

    /// One with a row for each block.
    #[must_use]
    pub fn by_block(title: impl Into<String>, columns: Vec<String>, values: Vec<f64>) -> Self {
        let blocks = values.len() / columns.len().max(1);
        let rows = (0..blocks).map(|l| format!("block {l}")).collect();
        Self::new(title, rows, columns, values)
    }

    /// The magnitude that is darkest.
    fn check(&self) -> Result<f64> {
        let (r, c, n) = (self.rows.len(), self.columns.len(), self.values.len());
        if r * c != n || n == 0 || n > MOST {
            let message = format!("{n} numbers for {r} rows and {c} columns; at most {MOST}");
            return Err(Error::new(Kind::Shape, "heat map", message));
        }
        if let Some(at) = self.values.iter().position(|v| !v.is_finite()) {
            let message = format!("row {}, column {} is {}", at / c, at % c, self.values[at]);
            return Err(Error::new(Kind::Numeric, "heat map", message));
        }
        match self.full {
            None => Ok(self.values.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()))),
            Some(full) if full > 0.0 && full.is_finite() => Ok(full),
            Some(full) => {
                let message = format!("{full} is to be darkest; it must be above 0 and finite");
                Err(Error::new(Kind::Input, "heat map", message))
            }
        }
    }

    /// Rows of blocks, two letters to a cell, columns named above.
    ///
    /// # Errors
    /// Numbers and names that do not fit together; a number that is none; a darkest that is not above 0.
    pub fn ascii(&self) -> Result<String> {
        let most = self.check()?;
        let names: Vec<String> = self.rows.iter().map(|r| short(r)).collect();
        let columns: Vec<Vec<char>> =
            self.columns.iter().map(|c| short(c).chars().collect()).collect();
        let margin = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
        let height = columns.iter().map(Vec::len).max().unwrap_or(0);
        let mut out = String::new();
        for line in 0..height {
            let mut letters = " ".repeat(margin + 2);
            for name in &columns {
                // Bottom-aligned, so that each name ends at its column.
                let at = (line + name.len()).checked_sub(height);
                letters.push(at.map_or(' ', |i| name[i]));
                letters.push(' ');
            }
            out.push_str(letters.trim_end());
            out.push('\n');
        }
        for (name, row) in names.iter().zip(self.values.chunks(self.columns.len())) {
            let mut line = format!("{}{name} ▏", " ".repeat(margin - name.chars().count()));
            for v in row {
                let step = ((v.abs() / most * 5.0) as usize).min(4);
                line.push_str(if *v < 0.0 { DOWN[step] } else { UP[step] });
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        let _ = write!(out, "{}█ is {most:.3}", " ".repeat(margin + 2));
        if self.values.iter().any(|v| *v < 0.0) {
            let _ = write!(out, ", # is {:.3}", -most);
        }
        out.push('\n');
        Ok(out)
    }

    /// The same as a picture: a square for each number, blue above 0 and orange below, its value as a tooltip.
    ///
    /// # Errors
    /// As [`Self::ascii`].
    pub fn svg(&self) -> Result<String> {
        let most = self.check()?;
        // A letter of 12 units is less than 8 wide.
        let longest = |names: &[String]| {
            8 * names.iter().map(|n| short(n).chars().count()).max().unwrap_or(0)
        };
        let (cell, left, top) = (18, 20 + longest(&self.rows), 44 + longest(&self.columns));
        let width = left + (self.columns.len() * cell).max(160) + 20;
        let width = width.max(16 + 9 * self.title.chars().count());
        let height = top + self.rows.len() * cell + 36;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" font-family=\"ui-monospace,monospace\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"8\" y=\"20\" font-size=\"14\">{}</text>\n\
             <text x=\"{left}\" y=\"{}\" fill=\"#555\">darkest is {most:.3}</text>\n",
            escape(&self.title),
            height - 14
        );
        for (i, name) in self.rows.iter().enumerate() {
            let y = top + i * cell + 13;
            let name = escape(&short(name));
            let x = left - 6;
            let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{name}</text>");
        }
        for (j, name) in self.columns.iter().enumerate() {
            let (x, y) = (left + j * cell + 13, top - 6);
            let name = escape(&short(name));
            let _ =
                writeln!(out, "<text transform=\"translate({x} {y}) rotate(-90)\">{name}</text>");
        }
        for (i, row) in self.values.chunks(self.columns.len()).enumerate() {
            for (j, v) in row.iter().enumerate() {
                let (x, y) = (left + j * cell, top + i * cell);
                let colour = if *v < 0.0 { "#b4560f" } else { "#1f4e9c" };
                let (row, column) =
                    (escape(&short(&self.rows[i])), escape(&short(&self.columns[j])));
                let _ = writeln!(
                    out,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{w}\" fill=\"{colour}\" \
                     fill-opacity=\"{:.3}\" stroke=\"#ddd\"><title>{row}, {column}: {v:.4}</title></rect>",
                    (v.abs() / most).min(1.0),
                    w = cell - 1
                );
            }
        }
        out.push_str("</svg>\n");
        Ok(out)
    }
}

/// At most [`LABEL`] characters, spaces and line ends made visible.
fn short(name: &str) -> String {
    let text = visible(name);
    match text.chars().count() > LABEL {
        true => text.chars().take(LABEL - 1).chain(['…']).collect(),
        false => text,
    }
}

/// Text inside SVG. Control characters, which XML cannot hold even when escaped, are replaced.
pub(super) fn escape(text: &str) -> String {
    let banned = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || "\u{fffe}\u{ffff}".contains(c);
    let text = text.replace(banned, "\u{fffd}");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f64]) -> HeatMap {
        let names = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        HeatMap {
            title: "<t>".into(),
            rows: names(&["a", "bb"]),
            columns: names(&["x", " y"]),
            values: values.to_vec(),
            full: None,
        }
    }

    #[test]
    fn with_a_full_scale_a_step_is_a_fifth_of_it() {
        let pattern = [1.0, 0.0, 0.0, 0.25, 0.75, 0.0, 0.1, 0.45, 0.45];
        let names = ["To", " be", "\n"].map(String::from).to_vec();
        let (rows, columns, title) = (names.clone(), names, String::new());
        let of = |factor: f64, full| {
            let values = pattern.map(|p| factor * p).to_vec();
            let (rows, columns, title) = (rows.clone(), columns.clone(), title.clone());
            HeatMap { title, rows, columns, values, full }
        };
        let want = [
            "       ·",
            "     T b",
            "     o e ↵",
            " To ▏██",
            "·be ▏░░▓▓",
            "  ↵ ▏  ▒▒▒▒",
            "     █ is 1.000",
        ];
        assert_eq!(of(1.0, Some(1.0)).ascii().unwrap().lines().collect::<Vec<_>>(), want);
        // Halves are half as dark only where the scale is given.
        let half = of(0.5, Some(1.0)).ascii().unwrap();
        assert!(half.contains(" To ▏▒▒\n") && half.contains("█ is 1.000"), "{half}");
        let own = of(0.5, None).ascii().unwrap();
        assert!(own.contains(" To ▏██\n") && own.contains("█ is 0.500"), "{own}");
        // Beyond it nothing is darker.
        let svg = of(1.0, Some(0.5)).svg().unwrap();
        assert!(
            svg.contains("fill-opacity=\"1.000\" stroke=\"#ddd\"><title>To, To: 1.0000"),
            "{svg}"
        );
        assert!(!svg.contains("fill-opacity=\"2.000\""));
        for full in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = of(1.0, Some(full)).ascii().unwrap_err().to_string();
            assert!(error.contains("is to be darkest"), "{error}");
        }
    }

    #[test]
    fn a_picture_is_escaped_and_names_each_value() {
        let names = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        let (rows, columns) = (names(&["<a>"]), names(&["x", "&"]));
        let picture = HeatMap { rows, columns, values: vec![0.5, 0.5], ..HeatMap::default() };
        let picture = picture.svg().unwrap();
        assert!(picture.contains("&lt;a&gt;, &amp;: 0.5000"), "{picture}");
        assert!(!picture.contains("<a>"));
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    }

    #[test]
    fn a_map_shows_signs_and_its_scale() {
        let text = map(&[1.0, 0.0, -0.5, 0.3]).ascii().unwrap();
        let want = ["      ·", "    x y", " a ▏██", "bb ▏--░░", "    █ is 1.000, # is -1.000"];
        assert_eq!(text.lines().collect::<Vec<_>>(), want);
        let svg = map(&[1.0, 0.0, -0.5, 0.3]).svg().unwrap();
        assert!(svg.contains("&lt;t&gt;") && svg.contains("bb, x: -0.5000"), "{svg}");
    }

    #[test]
    fn what_is_no_table_of_numbers_is_refused() {
        assert!(map(&[1.0; 3]).ascii().is_err());
        assert!(map(&[1.0; 3]).svg().unwrap_err().to_string().contains("3 numbers"));
        assert!(HeatMap::default().ascii().is_err());
        let nan = map(&[0.0, 0.0, f64::NAN, 0.0]).svg().unwrap_err().to_string();
        assert!(nan.contains("row 1, column 0"), "{nan}");
    }
}
