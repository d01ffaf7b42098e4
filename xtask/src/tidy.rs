//! Architecture as a list of absences: who may use whom, how long things may be, what each room contains.

use crate::root;
use std::fs;
use std::path::{Path, PathBuf};

/// Room and the rooms it may use. ARCHITECTURE.md says why.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("files", &["error"]),
    ("backend", &["error"]),
    ("tensor", &["backend", "error"]),
    ("autograd", &["tensor", "backend", "error"]),
    ("ops", &["autograd", "tensor", "backend", "error"]),
    ("text", &["files", "error"]),
    ("data", &["text", "tensor", "files", "error"]),
    ("model", &["ops", "autograd", "tensor", "backend", "error"]),
    ("checkpoint", &["model", "tensor", "backend", "files", "error"]),
    ("evaluate", &["error"]),
    ("hub", &["backend", "files", "error"]),
    ("generate", &["model", "text", "tensor", "backend", "error"]),
    (
        "train",
        &[
            "model",
            "data",
            "text",
            "checkpoint",
            "autograd",
            "ops",
            "tensor",
            "backend",
            "files",
            "error",
        ],
    ),
    ("lens", &["model", "generate", "ops", "tensor", "backend", "error"]),
];

/// Rooms of `ops` that are not operations with the full furniture, and why.
const NOT_OPERATIONS: &[&str] = &[
    "last_position", // inference only: no gradient to check
    "given",         // the same
    "adamw",         // updates weights, never meets the tape; judged in its own tests.rs
];

const MOST_LINES: usize = 400;
const MOST_FUNCTION_LINES: usize = 60;

/// Every `.rs` file below a path, with its text.
pub(crate) fn rust_files(path: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let mut files = Vec::new();
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        paths.sort();
        for path in paths {
            files.extend(rust_files(&path)?);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        files.push((path.to_path_buf(), text));
    }
    Ok(files)
}

/// The rooms of the library and where they are.
pub(crate) fn rooms() -> Result<Vec<(&'static str, PathBuf)>, String> {
    let source = root().join("crates/pellucid/src");
    MAY_USE
        .iter()
        .map(|(room, _)| {
            let folder = source.join(room);
            let file = source.join(format!("{room}.rs"));
            let found = [folder, file].into_iter().find(|p| p.exists());
            found.map(|p| (*room, p)).ok_or_else(|| format!("the room {room} is missing"))
        })
        .collect()
}

/// Checks everything and lists every fault.
pub(crate) fn tidy() -> Result<(), String> {
    let mut faults = Vec::new();
    for (room, path) in rooms()? {
        let allowed = MAY_USE.iter().find(|(r, _)| *r == room).map_or(&[][..], |(_, a)| a);
        for (file, text) in rust_files(&path)? {
            imports(room, allowed, &file, &text, &mut faults);
        }
    }
    furniture(&mut faults)?;
    let root = root();
    for part in ["crates", "xtask/src"] {
        for (file, text) in rust_files(&root.join(part))? {
            sizes(&file, &text, &mut faults);
        }
    }
    if faults.is_empty() {
        println!("tidy: every room keeps to its neighbours, its furniture and its size");
        return Ok(());
    }
    let list: Vec<String> = faults.iter().map(|f| format!("\n  {f}")).collect();
    Err(format!("tidy: {} faults{}", faults.len(), list.concat()))
}

fn name(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

fn imports(room: &str, allowed: &[&str], file: &Path, text: &str, faults: &mut Vec<String>) {
    // Tests may look at anything.
    if file.file_name().is_some_and(|n| n.to_string_lossy().contains("tests")) {
        return;
    }
    for (number, line) in without_tests(text).lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let used = &rest[..end];
            let known = MAY_USE.iter().any(|(r, _)| *r == used);
            if known && used != room && !allowed.contains(&used) {
                faults.push(format!("{}:{}: {room} may not use {used}", name(file), number + 1));
            }
        }
    }
}

fn furniture(faults: &mut Vec<String>) -> Result<(), String> {
    let ops = root().join("crates/pellucid/src/ops");
    let entries = fs::read_dir(&ops).map_err(|e| format!("{}: {e}", ops.display()))?;
    for folder in entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.is_dir()) {
        let room = folder.file_name().unwrap_or_default().to_string_lossy().to_string();
        let text = fs::read_to_string(folder.join("mod.rs")).unwrap_or_default();
        if !text.contains("This room does not know") {
            faults.push(format!("ops/{room}/mod.rs does not say what the room does not know"));
        }
        if NOT_OPERATIONS.contains(&room.as_str()) {
            continue;
        }
        for file in ["reference", "cpu", "cases"] {
            let there = folder.join(format!("{file}.rs")).exists() || folder.join(file).is_dir();
            if !there {
                faults.push(format!("ops/{room} has no {file}.rs"));
            }
        }
    }
    Ok(())
}

fn sizes(file: &Path, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    // A longer file says why in a line of its own.
    if lines > MOST_LINES && !text.contains("// Long because") {
        faults.push(format!("{}: {lines} lines, more than {MOST_LINES}", name(file)));
    }
    let mut start: Option<(usize, usize, &str)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim_start();
        let is_function = !code.starts_with("//")
            && (code.starts_with("fn ") || code.contains(" fn "))
            && !code.contains(';');
        if start.is_none() && is_function {
            start = Some((number, indent, code));
        } else if let Some((first, at, head)) = start
            && indent == at
            && code.starts_with('}')
        {
            let length = number - first + 1;
            if length > MOST_FUNCTION_LINES && !text.contains("// Long because") {
                let head = head.split('(').next().unwrap_or(head);
                faults.push(format!("{}:{}: {head} has {length} lines", name(file), first + 1));
            }
            start = None;
        } else if start.is_some() && indent < start.map_or(0, |s| s.1) && !code.is_empty() {
            start = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_arrow_is_found_and_an_allowed_one_is_not() {
        let mut faults = Vec::new();
        let text = "use crate::error::Error;\nuse crate::train::step; // no\n// crate::lens\n";
        imports("model", &["error"], Path::new("x.rs"), text, &mut faults);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("x.rs:2: model may not use train"));
    }

    #[test]
    fn a_long_function_is_found() {
        let body = "    let x = 1;\n".repeat(70);
        let mut faults = Vec::new();
        sizes(
            Path::new("x.rs"),
            &format!("fn long() {{\n{body}}}\nfn short() {{\n}}\n"),
            &mut faults,
        );
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}
