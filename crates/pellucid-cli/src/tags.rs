//! How often a model gives words their right tags, and finds whole entities.

use crate::model::Model;
use crate::out;
use crate::signal;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::{Ragged, Tagged, read_tagged};
use pellucid::error::{Error, Kind, Result};
use pellucid::evaluate::tags::{Counts, Tagging, tell_entities};
use pellucid::model::reader::{Reader, Wanted};
use pellucid::text::EncodedWords;
use pellucid::train::tasks::tags::{batch, best, columns, example};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Sentences that are read together.
const ROWS: usize = 64;

/// Measures on sentences of words with tags; `names` are their columns.
pub(crate) fn run(
    model: &Model,
    pool: &Pool,
    files: &[PathBuf],
    (names, header): (&[String], Option<bool>),
    as_json: bool,
) -> Result<()> {
    let labels = &model.config.labels;
    let columns = columns(names, header)?;
    let mut sentences = vec![];
    for file in files {
        sentences.extend(read_tagged(file, &columns, Some(labels))?);
    }
    let (given, without) = tags(model, pool, &sentences)?;
    let mut right: Vec<Vec<String>> = sentences.into_iter().map(|s| s.tags).collect();
    let mut given: Vec<Vec<String>> = given;
    // Tags that tell of no entities are each one's own.
    let entities = tell_entities(labels);
    if !entities {
        let alone = |tag: &mut String| {
            if !tag.is_empty() {
                tag.insert_str(0, "S-");
            }
        };
        right.iter_mut().chain(&mut given).flatten().for_each(alone);
    }
    let found = Tagging::of(&right, &given)?;
    match as_json {
        true => out::json(&told(&found, right.len(), without)),
        false => show(&found, right.len(), without, if entities { "entities" } else { "words" }),
    }
}

/// The tag of every word, and how many words got none: what was cut off, or of what the tokenizer makes nothing. They
/// count as outside of entities.
fn tags(model: &Model, pool: &Pool, sentences: &[Tagged]) -> Result<(Vec<Vec<String>>, usize)> {
    let (config, tokenizer) = (&model.config, model.tokenizer()?);
    let labels = &config.labels;
    let outside = labels.iter().find(|label| *label == "O").cloned().unwrap_or_default();
    let mut reader = Reader::new(config, Wanted::Scores, Precision::F32, pool.threads())?;
    let (mut all, mut without) = (vec![], 0);
    let bar = out::bar(sentences.len(), "sentences");
    for group in sentences.chunks(ROWS) {
        let encode = |sentence: &Tagged| -> Result<(EncodedWords, Ragged)> {
            let words = tokenizer.encode_words(&sentence.words, Some(config.context))?;
            Ok((words.clone(), example(words, &[])))
        };
        let encoded: Vec<_> = group.iter().map(encode).collect::<Result<_>>()?;
        let texts = batch(&encoded.iter().map(|(_, text)| text).collect::<Vec<_>>())?;
        let scores = reader.run(pool, &model.weights, &texts)?;
        let row = texts.time * labels.len();
        for ((words, _), scores) in encoded.iter().zip(scores.chunks_exact(row)) {
            let found = best(words, scores, labels.len());
            without += found.iter().filter(|tag| tag.is_none()).count();
            let name = |tag: Option<u32>| tag.map_or(&outside, |tag| &labels[tag as usize]).clone();
            all.push(found.into_iter().map(name).collect());
        }
        bar.inc(group.len() as u64);
        if signal::stopped() {
            return Err(Error::new(Kind::Interrupted, "eval", "stopped"));
        }
    }
    bar.finish_and_clear();
    Ok((all, without))
}

fn scores(counts: &Counts) -> Value {
    json!({"precision": counts.precision(), "recall": counts.recall(), "f1": counts.f1(),
        "right": counts.right, "given": counts.given})
}

fn told(found: &Tagging, sentences: usize, without: usize) -> Value {
    let types: Map<String, Value> =
        found.types.iter().map(|(kind, counts)| (kind.clone(), scores(counts))).collect();
    let mut told = scores(&found.micro());
    told["macro_f1"] = found.macro_f1().into();
    told["accuracy"] = found.accuracy().into();
    told["types"] = types.into();
    told["words"] = found.words.into();
    told["sentences"] = sentences.into();
    told["words_without_tag"] = without.into();
    told
}

fn show(found: &Tagging, sentences: usize, without: usize, what: &str) -> Result<()> {
    let widest = found.types.keys().map(|kind| kind.chars().count()).max().unwrap_or(0).max(9);
    let line = |name: &str, counts: &Counts| {
        format!(
            "{name:widest$}  {:>9.4}  {:>9.4}  {:>9.4}  {:>9}\n",
            counts.precision(),
            counts.recall(),
            counts.f1(),
            out::count(counts.right)
        )
    };
    let mut text =
        format!("{:widest$}  {:>9}  {:>9}  {:>9}  {what:>9}\n", "", "precision", "recall", "F1");
    for (kind, counts) in &found.types {
        text.push_str(&line(kind, counts));
    }
    text.push_str(&line("all", &found.micro()));
    text.push_str(&format!(
        "{} words in {} sentences: accuracy {:.4}, macro F1 {:.4}",
        out::count(found.words),
        out::count(sentences as u64),
        found.accuracy(),
        found.macro_f1()
    ));
    if without > 0 {
        text.push_str(&format!(
            "\n{} got no tag: beyond the model's context, or nothing to its tokenizer",
            if without == 1 {
                "1 word".into()
            } else {
                format!("{} words", out::count(without as u64))
            }
        ));
    }
    out::line(text)
}
