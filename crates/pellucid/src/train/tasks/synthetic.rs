//! Sequences that follow a law: nothing is read, and a row is made when it is needed.

use super::super::evaluate::Batches;
use super::super::run::{RunConfig, TaskKind};
use super::{Facts, Task};
use crate::backend::cpu::pool::Pool;
use crate::data::synthetic::{Law, Markov, Modular, Part, Repeat, Row, Sizes, Sort};
use crate::error::{Error, Kind, Result};
use crate::files::Fnv;
use crate::model::batch::{Batch, IGNORE, highest};
use crate::model::config::{Architecture, Config, Output};
use crate::model::decoder::Decoder;
use crate::model::train_graph::{TrainGraph, TrainOptions};
use crate::model::weights::Weights;
use crate::text::{Specials, Tokenizer};
use std::ops::Range;

/// Rows that are looked at when the data are told apart from others.
const COMPARED: u64 = 64;

/// The law that `run` names, for rows of T = `time`.
///
/// # Errors
/// A task that reads files; sizes that the law does not have.
pub fn law(run: &RunConfig, time: usize) -> Result<Box<dyn Law>> {
    let keys = &run.data;
    let (symbols, held_out) = (keys.symbols, keys.validation_fraction);
    let sizes = Sizes { symbols, time, held_out, seed: run.train.seed };
    Ok(match keys.task {
        TaskKind::Markov => Box::new(Markov::new(sizes)?),
        TaskKind::Repeat => Box::new(Repeat::new(sizes)?),
        TaskKind::Sort => Box::new(Sort::new(sizes)?),
        TaskKind::Modular => Box::new(Modular::new(sizes)?),
        _ => {
            let message = "data.task reads files: no law makes its sequences";
            return Err(Error::new(Kind::Config, "synthetic", message)
                .hint("markov, repeat, sort and modular have one"));
        }
    })
}

/// A law, and a word for each of its ids.
#[derive(Debug)]
pub struct Synthetic {
    tokenizer: Tokenizer,
}

impl Synthetic {
    /// Names the symbols 0, 1, 2 and so on.
    ///
    /// # Errors
    /// No symbols.
    pub fn open(run: &RunConfig) -> Result<Self> {
        let mut words: Vec<String> = (0..run.data.symbols).map(|i| i.to_string()).collect();
        let mut specials = Specials::default();
        match run.data.task {
            TaskKind::Repeat => {
                words.push(Repeat::BEGIN.into());
                specials.bos = Some(Repeat::BEGIN.into());
            }
            TaskKind::Modular => words.push(Modular::EQUALS.into()),
            _ => {}
        }
        Ok(Self { tokenizer: Tokenizer::symbols(&words, &specials)? })
    }
}

impl Task for Synthetic {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Nothing lies there to be counted.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn fit(&self, config: &mut Config) -> Result<()> {
        if config.architecture == Architecture::Decoder && config.output == Output::Tokens {
            return Ok(());
        }
        let message = "the next token of a sequence is learned by a decoder";
        Err(Error::new(Kind::Config, "train", message)
            .hint("choose model.preset = nano, gpt2, llama or lstm"))
    }

    fn batches(&self, run: &RunConfig, config: &Config) -> Result<Box<dyn Batches>> {
        let (rows, time) = (run.batch(config), run.time(config));
        let law = law(run, time)?;
        let wanted = (run.evaluate.batches * rows) as u64;
        let held_out = match (law.count(Part::HeldOut), wanted) {
            (Some(all), 0) => all,
            (Some(all), wanted) => all.min(wanted),
            (None, wanted) => wanted,
        };
        Ok(Box::new(LawBatches { law, rows, time, held_out }))
    }
}

/// Batches of rows of a law.
#[derive(Debug)]
struct LawBatches {
    law: Box<dyn Law>,
    rows: usize,
    time: usize,
    /// Rows of the validation.
    held_out: u64,
}

impl Batches for LawBatches {
    fn train(&self, number: u64, batch: &mut Batch) -> Result<()> {
        let first = number * self.rows as u64;
        let rows = (first..first + self.rows as u64).map(|n| self.law.row(Part::Train, n));
        fill(batch, (self.rows, self.time), rows, |row| row.learned.clone());
        Ok(())
    }

    fn validation_batches(&self) -> usize {
        self.held_out.div_ceil(self.rows as u64) as usize
    }

    fn validation(&self, number: usize, batch: &mut Batch) -> Result<()> {
        let first = (number * self.rows) as u64;
        let last = (first + self.rows as u64).min(self.held_out);
        let rows = (first..last).map(|n| self.law.row(Part::HeldOut, n));
        fill(batch, (self.rows, self.time), rows, |row| row.asked.clone());
        Ok(())
    }

    fn bytes_per_token(&self) -> Option<f64> {
        None
    }

    fn fingerprint(&self) -> String {
        let mut hash = Fnv::new();
        for (part, number) in [Part::Train, Part::HeldOut].into_iter().flat_map(|part| {
            let rows = 0..self.law.count(part).unwrap_or(COMPARED).min(COMPARED);
            rows.map(move |number| (part, number))
        }) {
            let row = self.law.row(part, number);
            row.tokens.iter().for_each(|id| hash.add(&id.to_le_bytes()));
        }
        hash.text()
    }
}

/// Whole rows (B, T): each token's target is the next one, where `targets` of its row says so. Rows that are missing have
/// none.
fn fill(
    batch: &mut Batch,
    (b, t): (usize, usize),
    rows: impl Iterator<Item = Row>,
    targets: impl Fn(&Row) -> Range<usize>,
) {
    *batch = Batch::whole(b, t);
    for (row, place) in rows.zip((0..b).map(|row| row * t)) {
        batch.ids[place..place + t].copy_from_slice(&row.tokens[..t]);
        let counted = targets(&row);
        let to = place + counted.start - 1..place + counted.end - 1;
        batch.targets[to].copy_from_slice(&row.tokens[counted]);
    }
}

/// How a model does on rows of a law, beside predictors with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Examined {
    /// Nats per token that was asked.
    pub loss: f64,
    /// Tokens that were asked.
    pub tokens: u64,
    /// The same loss of others on the same rows.
    pub yardsticks: Vec<(&'static str, f64)>,
    /// Rows whose answer was wholly right, chosen greedily token by token; where there is one right answer.
    pub right: Option<u64>,
    /// Rows.
    pub rows: u64,
}

/// Examines a model on `rows` rows of a part, `b` at once; of a part that ends, on each row at most once.
///
/// # Errors
/// No rows; sizes that do not fit the model.
pub fn examine(
    (config, weights): (&Config, &Weights),
    pool: &Pool,
    law: &dyn Law,
    part: Part,
    (rows, b, time): (u64, usize, usize),
) -> Result<Examined> {
    // What was learned from is not what is asked, where rows have no end.
    let first = if law.count(part).is_none() { 1 << 48 } else { 0 };
    let rows = law.count(part).map_or(rows, |all| all.min(rows));
    let mut graph = TrainGraph::new(config, TrainOptions::new(b, time), pool.threads())?;
    let (mut loss, mut tokens, mut right) = (0.0, 0, 0);
    let (mut yardsticks, mut batch) = (Vec::<(&'static str, f64)>::new(), Batch::default());
    for start in (0..rows).step_by(b.max(1)) {
        let numbers = start..(start + b as u64).min(rows);
        let made: Vec<Row> = numbers.map(|n| law.row(part, first + n)).collect();
        fill(&mut batch, (b, time), made.iter().cloned(), |row| row.asked.clone());
        let (_, losses) = graph.evaluate(pool, weights, &batch)?;
        let counted = losses.iter().zip(&batch.targets).filter(|(_, t)| **t != IGNORE);
        loss += counted.map(|(loss, _)| f64::from(*loss)).sum::<f64>();
        for row in &made {
            tokens += row.asked.len() as u64;
            let more = law.yardsticks(row);
            yardsticks.resize(more.len(), ("", 0.0));
            yardsticks.iter_mut().zip(more).for_each(|(y, (name, x))| *y = (name, y.1 + x));
        }
        if law.has_answer() {
            right += answers((config, weights), pool, &made)?;
        }
    }
    if tokens == 0 {
        return Err(Error::new(Kind::Input, "examine", "no row was asked for").hint("ask for one"));
    }
    let mean = |sum: f64| sum / tokens as f64;
    yardsticks.iter_mut().for_each(|(_, sum)| *sum = mean(*sum));
    let right = law.has_answer().then_some(right);
    Ok(Examined { loss: mean(loss), tokens, yardsticks, right, rows })
}

/// Rows whose whole answer the model gives, when each token is the one it finds most likely after its own.
fn answers((config, weights): (&Config, &Weights), pool: &Pool, rows: &[Row]) -> Result<u64> {
    let Some(Range { start, end }) = rows.first().map(|row| row.asked.clone()) else {
        return Ok(0);
    };
    let b = rows.len();
    let mut decoder = Decoder::new(config, b, end - 1, pool.threads())?;
    let prompts: Vec<i32> = rows.iter().flat_map(|row| &row.tokens[..start]).copied().collect();
    let mut right = vec![true; b];
    let (mut next, mut count) = (prompts, start);
    for place in start..end {
        let logits = decoder.extend(pool, weights, &next, count, &vec![count; b])?;
        let best =
            logits.chunks_exact(config.vocab).map(|row| highest(row).map_or(-1, |i| i as i32));
        (next, count) = (best.collect(), 1);
        for ((right, &best), row) in right.iter_mut().zip(&next).zip(rows) {
            *right &= best == row.tokens[place];
        }
        // NaN has no highest; it is wrong, and no id.
        next.iter_mut().for_each(|id| *id = (*id).max(0));
    }
    Ok(right.into_iter().filter(|right| *right).count() as u64)
}
