//! `pellucid embed`

use crate::input::text_of;
use crate::model::Model;
use crate::out;
use crate::plan;
use crate::signal;
use clap::{Args, ValueEnum};
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::data::{Label, LabelKind, LabelledColumns, read_labelled};
use pellucid::error::{Error, Kind, Result};
use pellucid::evaluate::{pearson, spearman};
use pellucid::model::config::Pooling;
use pellucid::model::reader::{Reader, Wanted};
use pellucid::model::train_graph::Batch;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// A model folder or the folder of a run
    model: PathBuf,
    /// What to embed
    texts: Vec<String>,
    /// Embeds each line of a file, or of stdin with -
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// Which vector stands for a text [default: as 1_Pooling/config.json says, else the mean]
    #[arg(long, value_enum, value_name = "HOW")]
    pooling: Option<How>,
    /// Leaves vectors as long as they are, instead of making them 1 long
    #[arg(long)]
    raw: bool,
    /// How well cosines of pairs of texts follow the numbers of this table: three columns, or as --columns says
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Columns of first text, second text and number in --pairs
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', default_value = "1,2,3")]
    columns: Vec<String>,
    /// Longer texts are cut to so many tokens [default: as sentence_bert_config.json says, else the context]
    #[arg(long, value_name = "N")]
    longest: Option<usize>,
    /// What matrix products compute in
    #[arg(long, value_enum, default_value = "f32", value_name = "KIND")]
    precision: Products,
    /// A JSON object per text
    #[arg(long)]
    json: bool,
    /// Texts that run at once
    #[arg(long, default_value_t = 256, value_name = "N")]
    batch: usize,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// The mean over all tokens
    Mean,
    /// The first token's
    Cls,
    /// The last token's
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Products {
    /// 32 bits
    F32,
    /// Operands rounded to bfloat16
    Bf16,
}

impl From<Products> for Precision {
    fn from(products: Products) -> Self {
        match products {
            Products::F32 => Self::F32,
            Products::Bf16 => Self::Bf16,
        }
    }
}

/// A model that makes vectors of texts.
struct Embedder<'a> {
    model: &'a Model,
    pool: &'a Pool,
    reader: Reader,
    longest: usize,
    normal: bool,
    batch: usize,
}

impl Embedder<'_> {
    /// A vector (C) for each text. The longest are read together.
    fn vectors(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let tokenizer = self.model.tokenizer()?;
        let mut ids = Vec::with_capacity(texts.len());
        for text in texts {
            let encoded = tokenizer.encode_pair(text, None, Some(self.longest))?;
            ids.push(encoded.ids.into_iter().map(|id| id as i32).collect::<Vec<i32>>());
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(ids[i].len()), i));
        let (mut all, bar) = (vec![vec![]; texts.len()], out::bar(texts.len(), "texts"));
        for group in order.chunks(self.batch.max(1)) {
            let rows: Vec<&[i32]> = group.iter().map(|&i| &*ids[i]).collect();
            let batch = Batch::ragged(&rows, &[])?;
            let found = self.reader.run(self.pool, &self.model.weights, &batch)?;
            for (&i, vector) in group.iter().zip(found.chunks_exact(found.len() / rows.len())) {
                all[i] = vector.to_vec();
                if self.normal {
                    normalise(&mut all[i]);
                }
            }
            bar.inc(group.len() as u64);
            if signal::stopped() {
                return Err(Error::new(Kind::Interrupted, "embed", "stopped"));
            }
        }
        bar.finish_and_clear();
        Ok(all)
    }
}

fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt() as f32;
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

impl Embed {
    pub(crate) fn run(self) -> Result<()> {
        let pool = plan::pool(self.threads);
        let model = Model::load(&self.model)?;
        let pooling = match self.pooling {
            Some(How::Mean) => Pooling::Mean,
            Some(How::Cls) => Pooling::First,
            Some(How::Last) => Pooling::Last,
            None => pooling_of(&model.folder)?,
        };
        let (config, threads) = (&model.config, pool.threads());
        let reader =
            Reader::new(config, Wanted::PooledAs(pooling), self.precision.into(), threads)?;
        let most = self.longest.or(longest_of(&model.folder)?).unwrap_or(config.context);
        let (longest, normal) = (most.min(config.context), !self.raw);
        let batch = self.batch;
        let mut embedder = Embedder { model: &model, pool: &pool, reader, longest, normal, batch };
        if let Some(path) = &self.pairs {
            return self.compare(&mut embedder, path);
        }
        let mut texts = self.texts.clone();
        if let Some(path) = &self.source {
            texts.extend(text_of(path)?.lines().map(str::to_owned));
        }
        if texts.is_empty() {
            return Err(Error::new(Kind::Input, "embed", "nothing to embed")
                .hint("give texts, or a file of lines: --source FILE, or --source - for stdin"));
        }
        let start = Instant::now();
        let vectors = embedder.vectors(&texts)?;
        let seconds = start.elapsed().as_secs_f64();
        for (text, vector) in texts.iter().zip(&vectors) {
            if self.json {
                out::json(&json!({"text": text, "embedding": vector}))?;
            } else {
                let numbers: Vec<String> = vector.iter().map(|x| format!("{x:.6}")).collect();
                out::line(numbers.join(" "))?;
            }
        }
        let rate = texts.len() as f64 / seconds.max(1e-9);
        out::note(&format!(
            "{} texts in {}, {rate:.0} texts/s",
            texts.len(),
            out::duration(seconds)
        ));
        Ok(())
    }

    fn compare(&self, embedder: &mut Embedder<'_>, path: &Path) -> Result<()> {
        let [first, second, number] = &self.columns[..] else {
            let message = format!("--columns {:?}, but there are three", self.columns);
            return Err(Error::new(Kind::Input, "embed", message));
        };
        let columns = LabelledColumns {
            text: first.as_str().into(),
            second: Some(second.as_str().into()),
            label: number.as_str().into(),
            header: self.columns.iter().any(|c| c.parse::<usize>().is_err()),
        };
        let found = read_labelled(path, &columns, LabelKind::Numbers)?;
        let mut texts: Vec<String> = found.rows.iter().map(|row| row.text.clone()).collect();
        texts.extend(found.rows.iter().map(|row| row.second.clone().unwrap_or_default()));
        let start = Instant::now();
        let vectors = embedder.vectors(&texts)?;
        let seconds = start.elapsed().as_secs_f64();
        let (left, right) = vectors.split_at(found.rows.len());
        let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| -> f64 {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let cosines: Vec<f64> = left.iter().zip(right).map(cosine).collect();
        let right: Vec<f64> = found
            .rows
            .iter()
            .map(|row| if let Label::Number(x) = row.label { f64::from(x) } else { f64::NAN })
            .collect();
        let (ranks, values) = (spearman(&cosines, &right)?, pearson(&cosines, &right)?);
        let rate = texts.len() as f64 / seconds.max(1e-9);
        if self.json {
            return out::json(&json!({
                "pairs": right.len(), "spearman": ranks, "pearson": values, "seconds": seconds,
                "texts_per_second": rate,
            }));
        }
        let text = |x: Option<f64>| x.map_or("undefined".into(), |x| format!("{x:.4}"));
        out::line(format!(
            "{} pairs: Spearman {}, Pearson {} ({rate:.0} texts/s)",
            right.len(),
            text(ranks),
            text(values)
        ))
    }
}

fn json_of(path: &Path) -> Result<Option<serde_json::Value>> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| {
        Error::new(Kind::Format, "embed", format!("{}: not JSON: {e}", path.display())).source(e)
    })
}

/// As sentence-transformers says it; else the mean.
fn pooling_of(folder: &Path) -> Result<Pooling> {
    let Some(json) = json_of(&folder.join("1_Pooling/config.json"))? else {
        return Ok(Pooling::Mean);
    };
    let on = |key: &str| json[key].as_bool().unwrap_or(false);
    match (
        on("pooling_mode_mean_tokens"),
        on("pooling_mode_cls_token"),
        on("pooling_mode_lasttoken"),
    ) {
        (true, false, false) => Ok(Pooling::Mean),
        (false, true, false) => Ok(Pooling::First),
        (false, false, true) => Ok(Pooling::Last),
        _ => {
            Err(Error::new(Kind::Config, "embed", "1_Pooling/config.json asks for another pooling")
                .hint("choose one with --pooling"))
        }
    }
}

fn longest_of(folder: &Path) -> Result<Option<usize>> {
    let json = json_of(&folder.join("sentence_bert_config.json"))?;
    Ok(json.and_then(|json| json["max_seq_length"].as_u64()).map(|n| n as usize))
}
