//! What a command reads: text from files or stdin, ids from words.

use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use std::io::Read;
use std::path::Path;

/// All of stdin.
pub(crate) fn stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map(|_| text).map_err(|e| {
        Error::new(Kind::Io, "stdin", e.to_string()).hint("the input must be UTF-8 text")
    })
}

/// The next line of stdin; `None` at its end.
pub(crate) fn line() -> Result<Option<String>> {
    let mut text = String::new();
    match std::io::stdin().read_line(&mut text) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(text)),
        Err(e) => {
            Err(Error::new(Kind::Io, "stdin", e.to_string()).hint("the input must be UTF-8 text"))
        }
    }
}

/// Ids written as numbers.
pub(crate) fn parse_ids(text: &str) -> Result<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || "[],".contains(c));
    words
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse().map_err(|_| {
                Error::new(Kind::Input, "decode", format!("{word:?} is not a token id"))
                    .hint("ids are whole numbers, separated by spaces or commas")
            })
        })
        .collect()
}

/// Reads prompts' text from a file or, for `-`, stdin.
pub(crate) fn text_of(path: &Path) -> Result<String> {
    if path == Path::new("-") { stdin() } else { files::read_text("read", path) }
}
