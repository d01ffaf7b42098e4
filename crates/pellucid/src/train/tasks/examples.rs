//! Examples of any lengths as batches: training batches as a function of the step, validation in one order.

use super::super::evaluate::Batches;
use super::super::run::{GroupingKind, RunConfig};
use super::add_ids;
use crate::data::{Fill, Order, Ragged, RaggedBatches, RaggedOptions};
use crate::error::{Error, Kind, Result};
use crate::files::Fnv;
use crate::model::batch::Batch;
use crate::model::config::Config;
use std::fmt::Debug;
use std::sync::Arc;

/// Tokens of a validation batch.
const TOKENS: usize = 4096;

/// From examples to a batch.
pub trait Make: Debug + Send + Sync {
    /// The batch of these examples; `number` is that of the micro-batch, which fixes all that is random.
    ///
    /// # Errors
    /// Examples that make no batch.
    fn make(&self, examples: &[&Ragged], number: u64) -> Result<Batch>;
}

/// Batches of examples.
#[derive(Debug)]
pub struct ExampleBatches<M> {
    make: M,
    train: RaggedBatches,
    validation: Arc<[Ragged]>,
    /// Indices of the examples of each validation batch.
    held_out: Vec<Vec<usize>>,
    bytes_per_token: Option<f64>,
    fingerprint: String,
}

impl<M: Make> ExampleBatches<M> {
    /// Batches as `run` says, for a model with this context.
    ///
    /// # Errors
    /// No example; one that is too long, unless `data.longest` leaves such out.
    pub fn new(
        make: M,
        (train, validation): (Arc<[Ragged]>, Arc<[Ragged]>),
        run: &RunConfig,
        config: &Config,
    ) -> Result<Self> {
        let mut hash = Fnv::new();
        for example in train.iter().chain(validation.iter()) {
            add_ids(&mut hash, &example.source);
            add_ids(&mut hash, &example.target);
            // The same text with other labels or tags is other data.
            add_ids(&mut hash, &example.marks);
            hash.add(&example.label.unwrap_or_default().to_le_bytes());
        }
        let limit = run.data.longest;
        let fill = match run.train.tokens {
            0 => Fill::Rows(run.train.batch.unwrap_or(32)),
            tokens => Fill::Tokens(tokens),
        };
        let order = match run.data.grouping {
            GroupingKind::Random => Order::Random,
            GroupingKind::Bucketed => Order::Bucketed,
        };
        let longest = Some(if limit > 0 { limit.min(config.context) } else { config.context });
        let (skip_long, seed) = (limit > 0, run.train.seed);
        let options = RaggedOptions { fill, order, longest, skip_long, seed };
        let train = RaggedBatches::new(train, options)?;
        let held_out = match run.evaluate.every {
            0 => vec![],
            _ => held_out(&validation, config.context, run.evaluate.batches),
        };
        let fingerprint = hash.text();
        Ok(Self { make, train, validation, held_out, bytes_per_token: None, fingerprint })
    }
}

/// Validation batches: examples by length, those beyond the context left out; at most `most`, evenly spread.
fn held_out(examples: &[Ragged], context: usize, most: usize) -> Vec<Vec<usize>> {
    let fits = |e: &Ragged| e.source.len().max(e.target.len()) < context;
    let mut order: Vec<usize> = (0..examples.len()).filter(|&i| fits(&examples[i])).collect();
    order.sort_by_key(|&i| (examples[i].tokens(), i));
    let mut batches: Vec<Vec<usize>> = vec![];
    let mut tokens = usize::MAX;
    for i in order {
        let n = examples[i].tokens();
        if tokens.saturating_add(n) > TOKENS {
            batches.push(vec![]);
            tokens = 0;
        }
        tokens += n;
        batches.last_mut().expect("just pushed").push(i);
    }
    let count = batches.len();
    if most == 0 || count <= most {
        return batches;
    }
    (0..most).map(|i| batches[i * count / most].clone()).collect()
}

impl<M: Make> Batches for ExampleBatches<M> {
    fn train(&self, number: u64, batch: &mut Batch) -> Result<()> {
        let all = self.train.examples();
        let rows: Vec<&Ragged> = self.train.batch(number).into_iter().map(|i| &all[i]).collect();
        *batch = self.make.make(&rows, number)?;
        Ok(())
    }

    fn validation_batches(&self) -> usize {
        self.held_out.len()
    }

    fn validation(&self, number: usize, batch: &mut Batch) -> Result<()> {
        let Some(rows) = self.held_out.get(number) else {
            return Err(Error::new(Kind::Input, "evaluate", "nothing is held out"));
        };
        let rows: Vec<&Ragged> = rows.iter().map(|&i| &self.validation[i]).collect();
        // Whatever is random in it is the same each time.
        *batch = self.make.make(&rows, u64::MAX - number as u64)?;
        Ok(())
    }

    fn bytes_per_token(&self) -> Option<f64> {
        self.bytes_per_token
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}
