//! Tags of words against tags: entities found whole, with the numbers of seqeval (Nakayama 2018), whose rules are
//! those of CoNLL's conlleval (Tjong Kim Sang and Buchholz 2000).
//!
//! A tag is `O` outside of entities, else a letter, a hyphen and the entity's type. `B` begins an entity and `I`
//! goes on with it (IOB2); `E` ends one and `S` is one alone (IOBES), for which BILOU writes `L` and `U`. Tags that
//! break these rules are read kindly: whatever follows an outside, an ended entity or another type begins an entity.

use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, HashSet};

/// Words that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entity<'a> {
    /// Its type; `_` where the tags tell none.
    pub kind: &'a str,
    /// Its first word.
    pub start: usize,
    /// After its last word.
    pub end: usize,
}

/// Letter and type. A name without a letter in front is a type whose entities begin and end where it does.
fn parts(tag: &str) -> (u8, &str) {
    match tag.as_bytes() {
        [b'O'] | [] => (b'O', ""),
        [letter @ (b'B' | b'I' | b'E' | b'S' | b'L' | b'U')] => (*letter, "_"),
        [letter @ (b'O' | b'B' | b'I' | b'E' | b'S' | b'L' | b'U'), b'-', ..] => {
            (*letter, if tag.len() > 2 { &tag[2..] } else { "_" })
        }
        _ => (b'I', tag),
    }
}

/// Whether any of `labels` says that a word begins or goes on with an entity, or that it is outside of all.
#[must_use]
pub fn tell_entities<S: AsRef<str>>(labels: &[S]) -> bool {
    labels
        .iter()
        .map(AsRef::as_ref)
        .any(|label| label == "O" || label.as_bytes().get(1) == Some(&b'-'))
}

/// The entities of a sentence, in order.
#[must_use]
pub fn entities<S: AsRef<str>>(tags: &[S]) -> Vec<Entity<'_>> {
    let mut all: Vec<Entity<'_>> = vec![];
    // The letter before, as long as an entity is open.
    let mut open = None;
    for (at, tag) in tags.iter().enumerate() {
        let (letter, kind) = parts(tag.as_ref());
        if letter == b'O' {
            open = None;
            continue;
        }
        let begins = matches!(letter, b'B' | b'S' | b'U');
        let ended = matches!(open, None | Some(b'E' | b'S' | b'L' | b'U'));
        match all.last_mut() {
            Some(last) if !begins && !ended && last.kind == kind => last.end = at + 1,
            _ => all.push(Entity { kind, start: at, end: at + 1 }),
        }
        open = Some(letter);
    }
    all
}

/// How many entities there are, were given, and both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the right tags.
    pub right: u64,
    /// In the given ones.
    pub given: u64,
    /// In both, with the same words and the same type.
    pub both: u64,
}

impl Counts {
    /// Share of the given ones that are right; 0 where none is given.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.both, self.given)
    }

    /// Share of the right ones that are given; 0 where there is none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.both, self.right)
    }

    /// Harmonic mean of both; 0 where there is nothing.
    #[must_use]
    pub fn f1(&self) -> f64 {
        share(2 * self.both, self.right + self.given)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Tagged sentences against the right ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagging {
    /// By type, in byte order.
    pub types: BTreeMap<String, Counts>,
    /// Words.
    pub words: u64,
    /// Words whose tags are the same.
    pub same: u64,
}

impl Tagging {
    /// Counts; every sentence has as many tags on both sides.
    ///
    /// # Errors
    /// No word; other numbers of sentences or of tags.
    pub fn of<S: AsRef<str>>(right: &[Vec<S>], given: &[Vec<S>]) -> Result<Self> {
        let error = |message: String| Err(Error::new(Kind::Input, "compare tags", message));
        if right.len() != given.len() {
            return error(format!("{} sentences given, {} right ones", given.len(), right.len()));
        }
        let mut all = Self::default();
        for (number, (right, given)) in right.iter().zip(given).enumerate() {
            if right.len() != given.len() {
                let message = format!("{} tags for {} words", given.len(), right.len());
                return error(format!("sentence {}: {message}", number + 1));
            }
            all.add(right, given);
        }
        if all.words == 0 { error("no word to compare".into()) } else { Ok(all) }
    }

    fn add<S: AsRef<str>>(&mut self, right: &[S], given: &[S]) {
        self.words += right.len() as u64;
        let pairs = right.iter().zip(given);
        self.same += pairs.filter(|(a, b)| a.as_ref() == b.as_ref()).count() as u64;
        let right = entities(right);
        let known: HashSet<Entity<'_>> = right.iter().copied().collect();
        for entity in &right {
            self.counts(entity.kind).right += 1;
        }
        for entity in entities(given) {
            let counts = self.counts(entity.kind);
            counts.given += 1;
            counts.both += u64::from(known.contains(&entity));
        }
    }

    fn counts(&mut self, kind: &str) -> &mut Counts {
        self.types.entry(kind.to_owned()).or_default()
    }

    /// Entities of all types together: what the field reports.
    #[must_use]
    pub fn micro(&self) -> Counts {
        self.types.values().fold(Counts::default(), |sum, counts| Counts {
            right: sum.right + counts.right,
            given: sum.given + counts.given,
            both: sum.both + counts.both,
        })
    }

    /// Mean of the types' F1; 0 without an entity.
    #[must_use]
    pub fn macro_f1(&self) -> f64 {
        let sum: f64 = self.types.values().map(Counts::f1).sum();
        if self.types.is_empty() { 0.0 } else { sum / self.types.len() as f64 }
    }

    /// Share of the words whose tags are the same.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        share(self.same, self.words)
    }
}
