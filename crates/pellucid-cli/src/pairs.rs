//! How well an encoder-decoder foretells the second text of each pair.

use crate::model::Model;
use crate::out;
use crate::tasks::score;
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::{Column, ParallelSource, read_parallel};
use pellucid::error::{Error, Kind, Result};
use pellucid::model::continuations::{Continuations, Request};
use pellucid::train::loss;
use serde_json::json;
use std::path::PathBuf;

/// Measures on one table of pairs, or on two files of as many lines.
pub(crate) fn run(
    model: &Model,
    pool: &Pool,
    data: &[PathBuf],
    columns: &[String],
    as_json: bool,
) -> Result<()> {
    let from = source(data, columns)?;
    let translator = model.translator(pool)?;
    let (mut requests, mut bytes) = (vec![], 0);
    for pair in read_parallel(&from)? {
        let place = |e: Error| e.fact(format!("pair at line {}", pair.line));
        let mut continuation = model.tokenizer()?.encode(&pair.target).map_err(place)?;
        continuation.push(translator.end);
        bytes += pair.target.len();
        requests.push(Request {
            source: translator.source(&pair.source).map_err(place)?,
            context: vec![translator.start as i32],
            continuation: continuation.into_iter().map(|id| id as i32).collect(),
        });
    }
    let stored = model.stored.as_ref();
    let mut scorer = Continuations::new(&model.config, stored, pool.threads())?;
    let found = score(model, pool, &mut scorer, &requests)?;
    let tokens: usize = requests.iter().map(|r| r.continuation.len()).sum();
    let nats = -found.iter().map(|f| f.log_probability).sum::<f64>();
    let cut = found.iter().filter(|f| f.cut > 0).count();
    let mean = nats / tokens as f64;
    let (perplexity, bits) =
        (loss::perplexity(mean), loss::bits_per_byte(mean, bytes as f64 / tokens as f64));
    if as_json {
        return out::json(&json!({ "loss": mean, "perplexity": perplexity, "bits_per_byte": bits,
            "tokens": tokens, "bytes": bytes, "pairs": requests.len(), "cut": cut }));
    }
    out::line(format!(
        "loss           {mean:.4} nats per token of the target\nperplexity     {perplexity:.3}\n\
         bits per byte  {bits:.4}\n{} pairs, {} tokens with the end of each; {} sources cut on the left",
        out::count(requests.len() as u64),
        out::count(tokens as u64),
        out::count(cut as u64)
    ))
}

fn source(data: &[PathBuf], columns: &[String]) -> Result<ParallelSource> {
    match (data, columns) {
        ([path], []) => Ok(ParallelSource::Columns { path: path.clone(), columns: None }),
        ([path], [source, target]) => {
            let columns = Some((Column::from(source.as_str()), Column::from(target.as_str())));
            Ok(ParallelSource::Columns { path: path.clone(), columns })
        }
        ([source, target], []) => {
            Ok(ParallelSource::Files { source: source.clone(), target: target.clone() })
        }
        _ => {
            let message = format!("{} files and {} columns", data.len(), columns.len());
            Err(Error::new(Kind::Input, "eval", message)
                .hint("an encoder-decoder reads a file of sources and one of targets, or one table with two columns"))
        }
    }
}
