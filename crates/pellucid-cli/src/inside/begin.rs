//! A text to begin with: one that this model has seen the like of, where its run says what it was trained on.

use super::Glass;
use pellucid::model::config::{Architecture, Output};
use pellucid::train::run::{RunConfig, TaskKind};
use pellucid_server::inside::Prompt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Where nothing better is known.
const TEXT: &str = "When Mary and John went to the store, John gave a drink to";
/// Most words.
const WORDS: usize = 16;
/// Bytes of a file that are read.
const BYTES: u64 = 1 << 14;

/// The longest beginning that the model can read of a line of its training text, or of [`TEXT`].
pub(super) fn prompt(glass: &Glass, checkpoint: &Path) -> Prompt {
    let run = RunConfig::load(&checkpoint.join("run.toml")).ok();
    let plain = |text: &str| Prompt { text: text.into(), source: text.into() };
    let all = run.as_ref().and_then(trained_on).into_iter().chain([plain(TEXT)]);
    let readable = |p: &Prompt| glass.read(p).is_ok();
    let shorter = |p: Prompt| {
        let of = |text: &str, n| text.split(' ').take(n).collect::<Vec<_>>().join(" ");
        let cut = |n| Prompt { text: of(&p.text, n), source: of(&p.source, n) };
        (1..=WORDS).rev().map(cut).find(readable)
    };
    let found = all.into_iter().find_map(shorter).unwrap_or_else(|| plain(TEXT));
    with_gap(glass, &found).filter(readable).unwrap_or(found)
}

/// For a model that fills gaps: a gap in the middle.
fn with_gap(glass: &Glass, prompt: &Prompt) -> Option<Prompt> {
    let config = &glass.model.config;
    if config.architecture != Architecture::Encoder || config.output != Output::Tokens {
        return None;
    }
    let tokenizer = glass.model.tokenizer().ok()?;
    let mask = ["[MASK]", "<mask>"].into_iter().find(|m| tokenizer.piece_to_id(m).is_some())?;
    let mut words: Vec<&str> = prompt.text.split(' ').collect();
    let middle = words.len() / 2;
    words[middle] = mask;
    Some(Prompt { text: words.join(" "), source: String::new() })
}

/// A line of a text that a run was trained on, or a pair of lines.
fn trained_on(run: &RunConfig) -> Option<Prompt> {
    let data = &run.data;
    match (data.task, data.train.first(), data.target.first()) {
        (TaskKind::Language | TaskKind::Masked, Some(file), _) => {
            // The first may be a title.
            let lines = lines(file)?;
            let long = lines.iter().find(|l| l.split(' ').count() > 4).or(lines.first())?;
            Some(Prompt { text: long.clone(), source: String::new() })
        }
        (TaskKind::Translation, Some(source), Some(target)) => {
            let (source, text) = (lines(source)?, lines(target)?);
            // Half of the answer, so that there is something left to say.
            let words: Vec<&str> = text.first()?.split(' ').collect();
            let half = words[..words.len().div_ceil(2)].join(" ");
            Some(Prompt { text: half, source: source.into_iter().next()? })
        }
        _ => None,
    }
}

/// The first lines of a file that are not empty.
fn lines(file: &str) -> Option<Vec<String>> {
    let mut bytes = vec![];
    File::open(file).ok()?.take(BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_says_what_its_model_has_seen() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let mut run = RunConfig::default();
        assert_eq!(trained_on(&run), None);
        run.data.train = vec![write("a", "\nTITLE\n\n the first line of some length\nmore\n")];
        let found = trained_on(&run).unwrap();
        assert_eq!(found.text, "the first line of some length");
        run.data.task = TaskKind::Translation;
        run.data.target = vec![write("b", "eins zwei drei\nvier\n")];
        let found = trained_on(&run).unwrap();
        assert_eq!((&*found.text, &*found.source), ("eins zwei", "TITLE"));
        run.data.train = vec![folder.path().join("gone").display().to_string()];
        assert_eq!(trained_on(&run), None);
        (run.data.task, run.data.train) = (TaskKind::Labels, vec![write("c", "a\tb\n")]);
        assert_eq!(trained_on(&run), None);
    }
}
