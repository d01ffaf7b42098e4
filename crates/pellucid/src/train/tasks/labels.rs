//! The label of a text or of a pair of texts, or a number for it.

use super::super::evaluate::Batches;
use super::super::run::{RunConfig, TaskKind};
use super::examples::{ExampleBatches, Make};
use super::{Facts, Longest, Task, facts, known_tokenizer, label_with, longest, signed, slices};
use crate::data::{Column, Label, LabelKind, LabelledColumns, Ragged, read_labelled};
use crate::error::{Error, Kind, Result};
use crate::model::batch::Batch;
use crate::model::config::{Architecture, Config, Output, Pooling};
use crate::text::Tokenizer;
use std::path::Path;
use std::sync::Arc;

/// Texts with their labels.
#[derive(Debug)]
pub struct Labels {
    tokenizer: Tokenizer,
    /// Names of the labels; one alone where numbers are predicted.
    names: Vec<String>,
    train: Arc<[Ragged]>,
    validation: Arc<[Ragged]>,
}

#[derive(Clone, Copy, Debug)]
struct Rows;

impl Make for Rows {
    fn make(&self, examples: &[&Ragged], _: u64) -> Result<Batch> {
        batch(examples)
    }
}

/// A batch of texts with their labels, segments included.
///
/// # Errors
/// An empty text.
pub fn batch(examples: &[&Ragged]) -> Result<Batch> {
    let ids: Vec<Vec<i32>> = examples.iter().map(|e| signed(&e.target)).collect();
    let mut batch = Batch::ragged(&slices(&ids), &[])?;
    batch.targets = examples.iter().filter_map(|e| e.label).collect();
    if examples.iter().any(|e| e.marks.contains(&1)) {
        batch.segments = vec![0; batch.rows * batch.time];
        for (row, example) in batch.segments.chunks_exact_mut(batch.time).zip(examples) {
            row.iter_mut().zip(&example.marks).for_each(|(to, &mark)| *to = mark as i32);
        }
    }
    Ok(batch)
}

impl Labels {
    /// Reads the texts that `run` names, for the tokenizer of the model that it starts from.
    ///
    /// # Errors
    /// As [`read_labelled`]; no tokenizer.
    pub fn open(run: &RunConfig) -> Result<Self> {
        let tokenizer = known_tokenizer(run, "labels")?;
        let numbers = run.data.task == TaskKind::Numbers;
        let mut names = if numbers { vec!["number".to_owned()] } else { vec![] };
        let train = read(run, &tokenizer, &run.data.train, numbers, &mut names)?;
        let validation = read(run, &tokenizer, &run.data.validation, numbers, &mut names)?;
        Ok(Self { tokenizer, names, train: train.into(), validation: validation.into() })
    }
}

/// Which columns hold what.
///
/// # Errors
/// Neither two nor three columns.
pub fn columns(names: &[String], header: Option<bool>) -> Result<LabelledColumns> {
    let column = |name: &String| Column::from(name.as_str());
    let (text, second, label) = match names {
        [] => (Column::Number(1), None, Column::Number(2)),
        [text, label] => (column(text), None, column(label)),
        [text, second, label] => (column(text), Some(column(second)), column(label)),
        _ => {
            let message = format!("data.columns = {names:?}: neither two nor three");
            return Err(Error::new(Kind::Config, "train", message)
                .hint("name the column of the text, that of a second text if there is one, and that of the label"));
        }
    };
    let named = |c: &Column| matches!(c, Column::Name(_));
    let header = header.unwrap_or_else(|| named(&text) || named(&label));
    Ok(LabelledColumns { text, second, label, header })
}

fn read(
    run: &RunConfig,
    tokenizer: &Tokenizer,
    files: &[String],
    numbers: bool,
    names: &mut Vec<String>,
) -> Result<Vec<Ragged>> {
    let columns = columns(&run.data.columns, run.data.header)?;
    let limit = (run.data.longest > 0).then_some(run.data.longest);
    let mut all = vec![];
    for file in files {
        let kind = match (numbers, names.is_empty()) {
            (true, _) => LabelKind::Numbers,
            (false, true) => LabelKind::Classes,
            (false, false) => LabelKind::Known(names),
        };
        let found = read_labelled(Path::new(file), &columns, kind)?;
        for row in &found.rows {
            let encoded = tokenizer.encode_pair(&row.text, row.second.as_deref(), limit)?;
            let label = match row.label {
                Label::Class(class) => class as i32,
                Label::Number(number) => number.to_bits() as i32,
            };
            let (target, marks, label) = (encoded.ids, encoded.segments, Some(label));
            all.push(Ragged { target, marks, label, ..Ragged::default() });
        }
        if names.is_empty() {
            *names = found.classes;
        }
    }
    Ok(all)
}

impl Task for Labels {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn facts(&self) -> Facts {
        facts(&self.train, &self.validation)
    }

    fn fit(&self, config: &mut Config) -> Result<()> {
        label_with(config, Output::Sequence, &self.names)?;
        let encoder = config.architecture == Architecture::Encoder;
        // BERT's own way; of a decoder only the last position has seen the whole text.
        config.pooler = encoder;
        config.pooling = if encoder { Pooling::First } else { Pooling::Last };
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
