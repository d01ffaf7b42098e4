//! How often a model gives texts their right labels, or how near its numbers are.

use crate::model::Model;
use crate::out;
use crate::signal;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::{Label, LabelKind, Labelled, Ragged, read_labelled};
use pellucid::error::{Error, Kind, Result};
use pellucid::evaluate::{Agreement, pearson, spearman};
use pellucid::model::config::Output;
use pellucid::model::reader::{Reader, Wanted};
use pellucid::train::tasks::labels::{batch, columns};
use serde_json::json;
use std::path::Path;

/// Texts that are read together.
const ROWS: usize = 64;

/// Measures on a table of texts and labels; `names` are its columns.
pub(crate) fn run(
    model: &Model,
    pool: &Pool,
    file: &Path,
    (names, header): (&[String], Option<bool>),
    as_json: bool,
) -> Result<()> {
    let config = &model.config;
    if config.output != Output::Sequence {
        let message =
            format!("{}: the model does not score labels of texts", model.folder.display());
        return Err(Error::new(Kind::Config, "eval", message)
            .hint("train one with data.task = labels or numbers"));
    }
    let kind = match config.is_regression() {
        true => LabelKind::Numbers,
        false => LabelKind::Known(&config.labels),
    };
    let found = read_labelled(file, &columns(names, header)?, kind)?;
    let scores = scores(model, pool, &found.rows)?;
    match config.is_regression() {
        true => numbers(&found.rows, &scores, as_json),
        false => labels(&config.labels, &found.rows, &scores, as_json),
    }
}

/// Scores of every text, (labels) each.
fn scores(model: &Model, pool: &Pool, rows: &[Labelled]) -> Result<Vec<Vec<f32>>> {
    let (config, tokenizer) = (&model.config, model.tokenizer()?);
    let mut reader = Reader::new(config, Wanted::Scores, Precision::F32, pool.threads())?;
    let (mut all, bar) = (vec![], out::bar(rows.len(), "texts"));
    for group in rows.chunks(ROWS) {
        let encode = |row: &Labelled| -> Result<Ragged> {
            let longest = Some(config.context);
            let encoded = tokenizer.encode_pair(&row.text, row.second.as_deref(), longest)?;
            Ok(Ragged { target: encoded.ids, marks: encoded.segments, ..Ragged::default() })
        };
        let texts: Vec<Ragged> = group.iter().map(encode).collect::<Result<_>>()?;
        let found = reader.run(pool, &model.weights, &batch(&texts.iter().collect::<Vec<_>>())?)?;
        all.extend(found.chunks_exact(config.labels.len()).map(<[f32]>::to_vec));
        bar.inc(group.len() as u64);
        if signal::stopped() {
            return Err(Error::new(Kind::Interrupted, "eval", "stopped"));
        }
    }
    bar.finish_and_clear();
    Ok(all)
}

fn labels(names: &[String], rows: &[Labelled], scores: &[Vec<f32>], as_json: bool) -> Result<()> {
    let best = |scores: &Vec<f32>| {
        let first = (0, f32::NEG_INFINITY);
        let better = |a: (usize, f32), (i, &x): (usize, &f32)| if x > a.1 { (i, x) } else { a };
        scores.iter().enumerate().fold(first, better).0 as u32
    };
    let given: Vec<u32> = scores.iter().map(best).collect();
    let right: Vec<u32> =
        rows.iter().map(|r| if let Label::Class(class) = r.label { class } else { 0 }).collect();
    let found = Agreement::of(names.len(), &right, &given)?;
    if as_json {
        return out::json(&json!({
            "texts": rows.len(), "accuracy": found.accuracy(), "macro_f1": found.macro_f1(),
            "f1": (names.len() == 2).then(|| found.f1(1)), "matthews": found.matthews(),
        }));
    }
    let matthews = found.matthews().map_or("undefined".into(), |x| format!("{x:.4}"));
    out::line(format!(
        "{} texts: accuracy {:.4}, macro F1 {:.4}, Matthews {matthews}",
        rows.len(),
        found.accuracy(),
        found.macro_f1()
    ))
}

fn numbers(rows: &[Labelled], scores: &[Vec<f32>], as_json: bool) -> Result<()> {
    let given: Vec<f64> = scores.iter().map(|s| f64::from(s[0])).collect();
    let right: Vec<f64> = rows
        .iter()
        .map(|r| if let Label::Number(x) = r.label { f64::from(x) } else { f64::NAN })
        .collect();
    let (ranks, values) = (spearman(&given, &right)?, pearson(&given, &right)?);
    if as_json {
        return out::json(&json!({"texts": rows.len(), "spearman": ranks, "pearson": values}));
    }
    let text = |x: Option<f64>| x.map_or("undefined".into(), |x| format!("{x:.4}"));
    out::line(format!("{} texts: Spearman {}, Pearson {}", rows.len(), text(ranks), text(values)))
}
