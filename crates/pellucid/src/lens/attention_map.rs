//! Who looks at whom: one head's pattern as a heat map, for a terminal or as SVG.

use super::heat_map::escape;
use super::logit_lens::visible;
use crate::error::{Error, Kind, Result};
use std::fmt::Write;

/// Darkness in five steps; each step is a fifth of the attention.
const SHADES: [&str; 5] = ["  ", "░░", "▒▒", "▓▓", "██"];
/// Columns that labels may take.
const LABEL: usize = 12;

/// `pattern` (T, S): row `t` says how query `t` shares its attention among the `S` keys.
/// A row per query, two columns of blocks per key; keys are named above, one letter per line.
///
/// # Errors
/// Labels or elements whose numbers do not fit together.
pub fn ascii(pattern: &[f32], queries: &[String], keys: &[String]) -> Result<String> {
    check(pattern, queries, keys)?;
    let rows: Vec<String> = queries.iter().map(|q| short(q)).collect();
    let columns: Vec<Vec<char>> = keys.iter().map(|k| short(k).chars().collect()).collect();
    let margin = rows.iter().map(|r| r.chars().count()).max().unwrap_or(0);
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
    for (name, row) in rows.iter().zip(pattern.chunks(keys.len())) {
        let mut line = format!("{}{name} ▏", " ".repeat(margin - name.chars().count()));
        for &p in row {
            line.push_str(SHADES[((p * 5.0) as usize).min(4)]);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let _ = write!(out, "{}", " ".repeat(margin + 2));
    out.push_str("░ 20%  ▒ 40%  ▓ 60%  █ 80% and more of a row's attention\n");
    Ok(out)
}

/// The same as a picture: a square per query and key, its exact value as a tooltip.
///
/// # Errors
/// As [`ascii`].
pub fn svg(pattern: &[f32], queries: &[String], keys: &[String], title: &str) -> Result<String> {
    check(pattern, queries, keys)?;
    let (cell, margin, top) = (18, 110, 130);
    let (width, height) = (margin + keys.len() * cell + 20, top + queries.len() * cell + 20);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"ui-monospace,monospace\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{margin}\" y=\"16\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for (s, key) in keys.iter().enumerate() {
        let (x, y) = (margin + s * cell + 13, top - 6);
        let name = escape(&short(key));
        let _ = writeln!(out, "<text transform=\"translate({x} {y}) rotate(-90)\">{name}</text>");
    }
    for (t, (query, row)) in queries.iter().zip(pattern.chunks(keys.len())).enumerate() {
        let (x, y) = (margin - 6, top + t * cell + 13);
        let name = escape(&short(query));
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{name}</text>");
        for (s, &p) in row.iter().enumerate() {
            let (x, y, p) = (margin + s * cell, top + t * cell, p.clamp(0.0, 1.0));
            let key = escape(&short(&keys[s]));
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{w}\" fill=\"#1f4e9c\" \
                 fill-opacity=\"{p:.3}\" stroke=\"#ddd\"><title>{name} → {key}: {:.1}%</title></rect>",
                100.0 * p,
                w = cell - 1
            );
        }
    }
    out.push_str("</svg>\n");
    Ok(out)
}

fn check(pattern: &[f32], queries: &[String], keys: &[String]) -> Result<()> {
    if keys.is_empty() || queries.is_empty() || pattern.len() != queries.len() * keys.len() {
        let (t, s, n) = (queries.len(), keys.len(), pattern.len());
        let message = format!("{n} elements, but {t} queries × {s} keys are labelled");
        return Err(Error::new(Kind::Shape, "attention_map", message)
            .hint("pass the (T, S) pattern of one head and a label for each token"));
    }
    if let Some(at) = pattern.iter().position(|p| !p.is_finite()) {
        let (t, s) = (at / keys.len(), at % keys.len());
        let message = format!("the pattern at query {t}, key {s} is {}", pattern[at]);
        return Err(Error::new(Kind::Numeric, "attention_map", message)
            .hint("the scores overflowed: inspect the weights"));
    }
    Ok(())
}

/// A token in at most [`LABEL`] characters, spaces and line ends made visible.
fn short(token: &str) -> String {
    let text = visible(token);
    match text.chars().count() > LABEL {
        true => text.chars().take(LABEL - 1).chain(['…']).collect(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_map_shows_rows_of_queries_and_columns_of_keys() {
        let pattern = [1.0, 0.0, 0.0, 0.25, 0.75, 0.0, 0.1, 0.45, 0.45];
        let names = labels(&["To", " be", "\n"]);
        let map = ascii(&pattern, &names, &names).unwrap();
        let want = [
            "       ·",
            "     T b",
            "     o e ↵",
            " To ▏██",
            "·be ▏░░▓▓",
            "  ↵ ▏  ▒▒▒▒",
            "     ░ 20%  ▒ 40%  ▓ 60%  █ 80% and more of a row's attention",
        ];
        assert_eq!(map.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn the_picture_is_escaped_and_names_each_value() {
        let picture = svg(&[0.5, 0.5], &labels(&["<a>"]), &labels(&["x\u{1}", "&"]), "1").unwrap();
        assert!(picture.contains("&lt;a&gt; → &amp;: 50.0%"), "{picture}");
        // A control character would make it no XML at all.
        assert!(picture.contains("→ x\u{fffd}") && !picture.contains('\u{1}'), "{picture}");
        assert!(!picture.contains("<a>"));
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    }

    #[test]
    fn wrong_sizes_and_nan_are_refused() {
        let two = labels(&["a", "b"]);
        assert!(ascii(&[0.0; 3], &two, &two).unwrap_err().to_string().contains("3 elements"));
        assert!(ascii(&[], &[], &[]).is_err());
        let nan = ascii(&[0.0, 0.0, f32::NAN, 0.0], &two, &two).unwrap_err().to_string();
        assert!(nan.contains("query 1, key 0"), "{nan}");
    }
}
