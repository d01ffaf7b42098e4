//! From TOML and flags to settings and back: unknown keys are refused with the nearest known one.

use super::run::{KEYS, Key, RunConfig};
use crate::error::{Error, Kind, Result};
use crate::files;
use std::fmt::Write as _;
use std::path::Path;
use toml::{Table, Value};

impl RunConfig {
    /// Reads a TOML file.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_toml(&files::read_text("run", path)?, &path.display().to_string())
    }

    /// Reads TOML text; `origin` names it in errors. Keys that are absent keep their defaults.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self> {
        let table: Table = toml::from_str(text).map_err(|e| syntax(origin, &e))?;
        let mut faults = Vec::new();
        for (section, value) in &table {
            if !KEYS.iter().any(|k| k.section == section) {
                faults.push(unknown_section(section));
                continue;
            }
            let Some(inner) = value.as_table() else {
                faults.push(format!("{section:?} is a section: write [{section}] above its keys"));
                continue;
            };
            for name in inner.keys() {
                if !KEYS.iter().any(|k| k.section == section && k.name == name) {
                    faults.push(unknown_key(section, name));
                }
            }
        }
        if !faults.is_empty() {
            let count = faults.len();
            let message =
                format!("{origin}: {count} unknown key{}", if count == 1 { "" } else { "s" });
            return Err(faults
                .into_iter()
                .fold(Error::new(Kind::Config, "run", message), Error::fact));
        }
        toml::from_str(text).map_err(|e| syntax(origin, &e))
    }

    /// Sets one key from a flag: `("train.steps", "100")`, or `("steps", "100")` where only one section has it.
    /// Lists are separated by commas.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let found = find(key)?;
        let mut candidates = Vec::new();
        if found.kind.starts_with("Vec") {
            let items = value.split(',').map(str::trim).filter(|s| !s.is_empty());
            candidates.push(Value::Array(items.map(|s| Value::String(s.into())).collect()));
        } else {
            if let Ok(mut parsed) = toml::from_str::<Table>(&format!("v = {value}")) {
                candidates.extend(parsed.remove("v"));
            }
            candidates.push(Value::String(value.into()));
        }
        let table =
            Table::try_from(&*self).map_err(|e| flag_error(found, value, &e.to_string()))?;
        let mut last = String::new();
        for candidate in candidates {
            let mut table = table.clone();
            let section = table.entry(found.section).or_insert_with(|| Value::Table(Table::new()));
            if let Some(section) = section.as_table_mut() {
                section.insert(found.name.into(), candidate);
            }
            match table.try_into::<Self>() {
                Ok(run) => {
                    *self = run;
                    return Ok(());
                }
                // The first reading is what the user most likely meant.
                Err(e) if last.is_empty() => last = e.message().to_owned(),
                Err(_) => {}
            }
        }
        Err(flag_error(found, value, &last))
    }

    /// The whole file, each key under its explanation; keys that follow from others are commented out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let table = Table::try_from(self).unwrap_or_default();
        let mut text = String::from("# Settings of a pellucid training run.\n");
        let mut section = "";
        for key in KEYS {
            if key.section != section {
                section = key.section;
                let _ = writeln!(text, "\n[{section}]");
            }
            let _ = writeln!(text, "#{}", key.doc);
            let value = table.get(section).and_then(|s| s.get(key.name));
            let _ = match value {
                // An f32 in its own digits, not those of the f64 that holds it.
                Some(Value::Float(x)) if key.kind.contains("f32") => {
                    writeln!(text, "{} = {:?}", key.name, *x as f32)
                }
                Some(value) => writeln!(text, "{} = {value}", key.name),
                None => writeln!(text, "# {} =", key.name),
            };
        }
        text
    }
}

/// The key that a flag names.
pub fn find(key: &str) -> Result<&'static Key> {
    let key = key.trim_start_matches('-').replace('-', "_");
    let matches: Vec<&Key> = match key.split_once('.') {
        Some((section, name)) => {
            KEYS.iter().filter(|k| k.section == section && k.name == name).collect()
        }
        None => KEYS.iter().filter(|k| k.name == key).collect(),
    };
    match matches[..] {
        [one] => Ok(one),
        [] => Err(Error::new(
            Kind::Config,
            "run",
            match key.split_once('.') {
                Some((section, name)) if KEYS.iter().any(|k| k.section == section) => {
                    unknown_key(section, name)
                }
                _ => unknown_key("", &key),
            },
        )),
        _ => {
            let names: Vec<String> = matches.iter().map(|k| full(k)).collect();
            Err(Error::new(Kind::Config, "run", format!("{key:?} stands in several sections"))
                .hint(format!("write {}", names.join(" or "))))
        }
    }
}

fn full(key: &Key) -> String {
    format!("{}.{}", key.section, key.name)
}

fn unknown_section(section: &str) -> String {
    // A key written above all sections is a common slip.
    if let Some(key) = KEYS.iter().find(|k| k.name == section) {
        return format!("{section:?} stands outside its section; did you mean {}?", full(key));
    }
    let nearest = KEYS.iter().map(|k| k.section).min_by_key(|s| distance(s, section));
    format!("no section is named {section:?}; did you mean [{}]?", nearest.unwrap_or_default())
}

fn unknown_key(section: &str, name: &str) -> String {
    let written = if section.is_empty() { name.into() } else { format!("{section}.{name}") };
    if let Some(moved) = KEYS.iter().find(|k| k.name == name) {
        return format!("no key is named {written:?}; did you mean {:?}?", full(moved));
    }
    // Another section costs one more letter, so that the own section wins ties.
    // A name that was not written to its end is nearer than any other.
    let cost = |k: &&Key| {
        let far = if k.name.starts_with(name) { 1 } else { 2 * distance(k.name, name) };
        far + usize::from(k.section != section)
    };
    let nearest = KEYS.iter().min_by_key(cost).map(full).unwrap_or_default();
    format!("no key is named {written:?}; did you mean {nearest:?}?")
}

fn syntax(origin: &str, error: &toml::de::Error) -> Error {
    let text = error.to_string();
    let mut parts = text.lines().map(str::trim_end).filter(|l| !l.is_empty());
    let first = parts.next().unwrap_or_default().to_owned();
    let out = Error::new(Kind::Config, "run", format!("{origin}: {first}"));
    parts.fold(out, |e, line| e.fact(line))
}

fn flag_error(key: &Key, value: &str, why: &str) -> Error {
    let why = why.lines().next().unwrap_or_default();
    Error::new(Kind::Config, "run", format!("{} = {value}: {why}", full(key))).hint(format!(
        "{}:{}",
        full(key),
        key.doc
    ))
}

/// Levenshtein distance: single-letter insertions, deletions and changes.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Config, Positions};

    #[test]
    fn what_is_written_is_read_back() {
        let mut run = RunConfig::default();
        assert_eq!(RunConfig::from_toml(&run.to_toml(), "x").unwrap(), run);
        run.data.train = vec!["a \"quoted\".txt".into(), "b".into()];
        run.model.positions = Some(Positions::Alibi);
        run.optimizer.lr = Some(3e-4);
        let config = run.model_config(100).unwrap();
        let run = run.resolved(&config);
        let again = RunConfig::from_toml(&run.to_toml(), "x").unwrap();
        assert_eq!(again, run);
        assert_eq!(again.model_config(7).unwrap(), Config { vocab: 100, ..config });
        assert_eq!(again.resolved(&again.model_config(1).unwrap()), again);
        let open: Vec<_> =
            run.to_toml().lines().filter(|l| l.ends_with(" =")).map(str::to_owned).collect();
        // How wide matrices start may follow from the sides of each.
        let follow = ["# depth =", "# initial_std =", "# header =", "# start ="];
        assert_eq!(open, follow, "every other value is resolved");
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_one() {
        let text = "[train]\nstepps = 3\n[optimzer]\nlr = 1\n[model]\nbatch = 3\n";
        let error = RunConfig::from_toml(text, "run.toml").unwrap_err().to_string();
        for part in [
            "run.toml: 3 unknown keys",
            "no key is named \"train.stepps\"; did you mean \"train.steps\"?",
            "no section is named \"optimzer\"; did you mean [optimizer]?",
            "no key is named \"model.batch\"; did you mean \"train.batch\"?",
        ] {
            assert!(error.contains(part), "{part}\n{error}");
        }
        let error = RunConfig::from_toml("steps = 3", "x").unwrap_err().to_string();
        assert!(error.contains("did you mean train.steps?"), "{error}");
        let error = RunConfig::from_toml("[train]\nsteps = \"many\"", "x").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("many"), "{error}");
    }

    #[test]
    fn every_key_is_a_flag() {
        let mut run = RunConfig::default();
        run.set("--steps", "12").unwrap();
        run.set("optimizer.lr", "1").unwrap();
        run.set("data.train", "a.txt, b.txt").unwrap();
        run.set("positions", "rotary").unwrap();
        run.set("tokenizer", "123").unwrap();
        run.set("kv-heads", "2").unwrap();
        run.set("tensorboard", "true").unwrap();
        assert_eq!((run.train.steps, run.optimizer.lr), (12, Some(1.0)));
        assert_eq!(run.data.train, ["a.txt", "b.txt"]);
        assert_eq!(run.model.positions, Some(Positions::Rotary));
        assert_eq!((run.data.tokenizer.as_str(), run.model.kv_heads), ("123", Some(2)));
        assert!(run.log.tensorboard);
        let error = run.set("every", "3").unwrap_err().to_string();
        assert!(error.contains("evaluate.every or checkpoint.every or log.every"), "{error}");
        let error = run.set("batch", "-3").unwrap_err().to_string();
        assert!(error.contains("train.batch = -3"), "{error}");
        assert!(run.set("posit", "x").unwrap_err().to_string().contains("model.positions"));
    }

    #[test]
    fn sizes_follow_from_those_that_were_named() {
        let mut run = RunConfig::default();
        run.set("width", "128").unwrap();
        run.set("heads", "4").unwrap();
        run.set("time", "32").unwrap();
        run.set("norm", "rms_norm").unwrap();
        let config = run.model_config(65).unwrap();
        config.validate().unwrap();
        assert_eq!((config.head_width, config.hidden, config.kv_heads), (32, 512, 4));
        assert_eq!((config.context, config.vocab), (32, 65));
    }
}
