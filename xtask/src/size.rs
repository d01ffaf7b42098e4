//! Lines per room: size is a reviewed number.

use crate::tidy::{rooms, rust_files};

/// Prints files, lines and lines of tests for each room.
pub(crate) fn size() -> Result<(), String> {
    println!("{:<12} {:>5} {:>7}", "room", "files", "lines");
    let mut total = 0;
    for room in rooms()? {
        let files = rust_files(&room.1)?;
        let lines: usize = files.iter().map(|(_, text)| text.lines().count()).sum();
        total += lines;
        println!("{:<12} {:>5} {:>7}", room.0, files.len(), lines);
    }
    println!("{:<12} {:>5} {:>7}", "all", "", total);
    Ok(())
}
