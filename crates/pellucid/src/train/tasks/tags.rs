//! The tag of each word: named entities, parts of speech. A word's tag is learned at its first piece; its other pieces
//! and what the tokenizer puts around a text have none (Devlin et al. 2019, section 5.3).

use super::super::evaluate::Batches;
use super::super::run::RunConfig;
use super::examples::{ExampleBatches, Make};
use super::{Facts, Longest, Task, facts, known_tokenizer, label_with, longest, signed, slices};
use crate::data::{Column, IGNORE, Ragged, Tagged, TaggedColumns, read_tagged};
use crate::error::{Error, Kind, Result};
use crate::model::batch::{Batch, highest};
use crate::model::config::{Config, Output};
use crate::text::{EncodedWords, Tokenizer};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Sentences with a tag for each word.
#[derive(Debug)]
pub struct Tags {
    tokenizer: Tokenizer,
    /// Names of the tags, in byte order.
    names: Vec<String>,
    train: Arc<[Ragged]>,
    validation: Arc<[Ragged]>,
    notes: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Rows;

impl Make for Rows {
    fn make(&self, examples: &[&Ragged], _: u64) -> Result<Batch> {
        batch(examples)
    }
}

/// A batch of sentences with the tags of their ids.
///
/// # Errors
/// A sentence without ids.
pub fn batch(examples: &[&Ragged]) -> Result<Batch> {
    let ids: Vec<Vec<i32>> = examples.iter().map(|e| signed(&e.target)).collect();
    let tags: Vec<Vec<i32>> = examples.iter().map(|e| signed(&e.marks)).collect();
    Batch::ragged(&slices(&ids), &slices(&tags))
}

/// A sentence as it is learned: the tag, by id, of each word at its first piece, and [`IGNORE`] elsewhere.
#[must_use]
pub fn example(words: EncodedWords, tags: &[u32]) -> Ragged {
    let mut marks = vec![IGNORE as u32; words.ids.len()];
    for (place, &tag) in words.first.iter().zip(tags) {
        if let Some(mark) = place.and_then(|place| marks.get_mut(place)) {
            *mark = tag;
        }
    }
    Ragged { target: words.ids, marks, ..Ragged::default() }
}

/// The best tag of each word, by id, from its sentence's scores, (T, labels); none for a word without a piece.
#[must_use]
pub fn best(words: &EncodedWords, scores: &[f32], labels: usize) -> Vec<Option<u32>> {
    let at = |place: usize| scores.get(place * labels..)?.get(..labels);
    let tag = |place: &Option<usize>| at((*place)?).and_then(highest).map(|tag| tag as u32);
    words.first.iter().map(tag).collect()
}

/// Which columns hold what.
///
/// # Errors
/// More than two columns.
pub fn columns(names: &[String], header: Option<bool>) -> Result<TaggedColumns> {
    let column = |name: &String| Column::from(name.as_str());
    let header = header.unwrap_or(false);
    Ok(match names {
        [] => TaggedColumns { header, ..TaggedColumns::default() },
        [tags] => TaggedColumns { tags: Some(column(tags)), header, ..TaggedColumns::default() },
        [words, tags] => TaggedColumns { words: column(words), tags: Some(column(tags)), header },
        _ => {
            let message = format!("data.columns = {names:?}: more than two");
            return Err(Error::new(Kind::Config, "train", message)
                .hint("name the column of the tag, or those of the word and of the tag"));
        }
    })
}

impl Tags {
    /// Reads the sentences that `run` names, for the tokenizer of the model that it starts from.
    ///
    /// # Errors
    /// As [`read_tagged`]; one tag alone; no tokenizer.
    pub fn open(run: &RunConfig) -> Result<Self> {
        let tokenizer = known_tokenizer(run, "tags")?;
        let mut train = read(run, &run.data.train, None)?;
        let names: BTreeSet<String> = train.iter().flat_map(|s| s.tags.iter().cloned()).collect();
        let names: Vec<String> = names.into_iter().collect();
        if names.len() < 2 {
            let message = format!("all tags are {:?}", names.first().map_or("", String::as_str));
            return Err(Error::new(Kind::Input, "train", message)
                .hint("name the column of the tags in data.columns; there must be at least two"));
        }
        let validation = if run.data.validation.is_empty() {
            let held = (train.len() as f64 * run.data.validation_fraction).round() as usize;
            train.split_off(train.len() - held.min(train.len().saturating_sub(1)))
        } else {
            read(run, &run.data.validation, Some(&names))?
        };
        let mut notes = vec![];
        let mut encode = |sentences: &[Tagged], what| -> Result<Arc<[Ragged]>> {
            let (examples, cut) = encode(run, &tokenizer, &names, sentences)?;
            notes.extend(cut.map(|cut| format!("{what}: {cut}")));
            Ok(examples.into())
        };
        let (train, validation) = (encode(&train, "training")?, encode(&validation, "validation")?);
        Ok(Self { tokenizer, names, train, validation, notes })
    }
}

fn read(run: &RunConfig, files: &[String], known: Option<&[String]>) -> Result<Vec<Tagged>> {
    let columns = columns(&run.data.columns, run.data.header)?;
    let mut all = vec![];
    for file in files {
        all.extend(read_tagged(Path::new(file), &columns, known)?);
    }
    Ok(all)
}

/// Examples that have a tag to learn, and what was left out of them.
fn encode(
    run: &RunConfig,
    tokenizer: &Tokenizer,
    names: &[String],
    sentences: &[Tagged],
) -> Result<(Vec<Ragged>, Option<String>)> {
    let ids: HashMap<&str, u32> =
        names.iter().enumerate().map(|(id, name)| (name.as_str(), id as u32)).collect();
    let limit = (run.data.longest > 0).then_some(run.data.longest);
    let (mut all, mut cut, mut words) = (vec![], 0, 0);
    for sentence in sentences {
        let encoded = tokenizer.encode_words(&sentence.words, limit)?;
        cut += usize::from(encoded.cut > 0);
        words += encoded.cut;
        let tags: Vec<u32> =
            sentence.tags.iter().filter_map(|tag| ids.get(tag.as_str()).copied()).collect();
        // Of a sentence of which the tokenizer makes nothing there is nothing to learn.
        if encoded.first.iter().any(Option::is_some) {
            all.push(example(encoded, &tags));
        }
    }
    let note = format!(
        "{cut} of {} sentences are longer than data.longest = {}; {words} words at their ends are cut off",
        sentences.len(),
        run.data.longest
    );
    Ok((all, (cut > 0).then_some(note)))
}

impl Task for Tags {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn facts(&self) -> Facts {
        facts(&self.train, &self.validation)
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn fit(&self, config: &mut Config) -> Result<()> {
        label_with(config, Output::Positions, &self.names)?;
        config.pooler = false;
        Ok(())
    }

    fn longest(&self) -> Option<Longest> {
        Some(longest(&self.train))
    }

    fn batches(&self, run: &RunConfig, config: &Config) -> Result<Box<dyn Batches>> {
        let both = (self.train.clone(), self.validation.clone());
        Ok(Box::new(ExampleBatches::new(Rows, both, run, config)?))
    }
}
