//! Examples of any lengths in memory, in batches of about so many tokens.

use super::random::{mix, permute};
use crate::error::{Error, Kind, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex};

const BATCHES: &str = "ragged batches";

/// Batches whose examples are sorted by length together; beyond that, windows are cut.
const WINDOW: u64 = 100;

/// One example: what is read and what is to be learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ragged {
    /// Ids of the encoder's input; empty for a model without an encoder.
    pub source: Vec<u32>,
    /// Ids of the decoder's text, or of a model of one text.
    pub target: Vec<u32>,
    /// Of each of these, its segment, its tag, or whether it is to be learned; empty where nothing is to be said.
    pub marks: Vec<u32>,
    /// What the whole text is to give: a label, or the bits of a number.
    pub label: Option<i32>,
}

impl Ragged {
    /// Ids on both sides.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.source.len() + self.target.len()
    }
}

/// What makes a batch full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// At most so many tokens, source and target together; the example that would go beyond begins
    /// the next batch.
    Tokens(usize),
    /// So many examples; an epoch's last batch may have fewer.
    Rows(usize),
}

/// Which examples come together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Any: each epoch is one permutation, cut into batches.
    #[default]
    Random,
    /// Alike in length, so that little is padding: the permutation is cut into windows of about 100
    /// batches, each is sorted by length and cut, and the batches of the epoch are shuffled.
    Bucketed,
}

/// How examples become batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaggedOptions {
    /// What makes a batch full.
    pub fill: Fill,
    /// Which examples come together.
    pub order: Order,
    /// Most ids of a side, source or target.
    pub longest: Option<usize>,
    /// Leaves out examples that are too long, instead of refusing them.
    pub skip_long: bool,
    /// Another seed, another order.
    pub seed: u64,
}

/// Where a step is in the training set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub epoch: u64,
    /// Within the epoch, from 0.
    pub batch: u64,
    /// Of this epoch.
    pub batches: u64,
}

/// Which examples each step takes: a function of the seed and the step alone. Every epoch takes
/// each example once, and no batch has examples of two epochs.
#[derive(Debug)]
pub struct RaggedBatches {
    examples: Arc<[Ragged]>,
    /// Indices of the examples that are not too long.
    kept: Vec<u32>,
    options: RaggedOptions,
    plans: Mutex<Plans>,
}

/// What was computed: the first steps of epochs, and the plan of one.
#[derive(Debug, Default)]
struct Plans {
    /// `starts[e]` is the first step of epoch `e`.
    starts: Vec<u64>,
    epoch: u64,
    plan: Arc<Plan>,
}

/// Batches of one epoch.
#[derive(Debug, Default)]
struct Plan {
    order: Vec<u32>,
    batches: Vec<Range<usize>>,
}

impl RaggedBatches {
    /// Batches of `examples`.
    ///
    /// # Errors
    /// No example; one with nothing to learn; one that is too long, unless such are left out; a
    /// batch of nothing.
    pub fn new(examples: impl Into<Arc<[Ragged]>>, options: RaggedOptions) -> Result<Self> {
        let examples = examples.into();
        let kept = keep(&examples, &options)?;
        let plans = Mutex::default();
        Ok(Self { examples, kept, options, plans })
    }

    /// All examples, also those that are left out.
    #[must_use]
    pub fn examples(&self) -> &[Ragged] {
        &self.examples
    }

    /// Examples of an epoch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Never: [`Self::new`] refuses it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Examples that were too long and are left out.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.examples.len() - self.kept.len()
    }

    /// Indices into [`Self::examples`] of the batch of a step, never empty.
    #[must_use]
    pub fn batch(&self, step: u64) -> Vec<usize> {
        let (place, plan) = self.find(step);
        let range = plan.batches[place.batch as usize].clone();
        plan.order[range].iter().map(|&index| index as usize).collect()
    }

    /// Epoch and batch of a step.
    #[must_use]
    pub fn place(&self, step: u64) -> Place {
        self.find(step).0
    }

    /// Steps of the first `epochs` epochs. Epochs may differ, as batches are cut by tokens.
    #[must_use]
    pub fn steps_in(&self, epochs: u64) -> u64 {
        let mut plans = self.plans.lock().unwrap_or_else(|p| p.into_inner());
        while plans.starts.len() as u64 <= epochs {
            self.extend(&mut plans);
        }
        plans.starts[epochs as usize]
    }

    fn find(&self, step: u64) -> (Place, Arc<Plan>) {
        let mut plans = self.plans.lock().unwrap_or_else(|p| p.into_inner());
        while plans.starts.last().is_none_or(|&start| start <= step) {
            self.extend(&mut plans);
        }
        let epoch = plans.starts.partition_point(|&start| start <= step) as u64 - 1;
        if plans.epoch != epoch {
            (plans.epoch, plans.plan) = (epoch, Arc::new(self.plan(epoch)));
        }
        let batch = step - plans.starts[epoch as usize];
        let batches = plans.plan.batches.len() as u64;
        (Place { epoch, batch, batches }, plans.plan.clone())
    }

    /// Plans one more epoch, to know where the next begins.
    fn extend(&self, plans: &mut Plans) {
        let Some(&start) = plans.starts.last() else {
            plans.starts.push(0);
            plans.plan = Arc::new(self.plan(0));
            return;
        };
        let epoch = plans.starts.len() as u64 - 1;
        if plans.epoch != epoch {
            (plans.epoch, plans.plan) = (epoch, Arc::new(self.plan(epoch)));
        }
        plans.starts.push(start + plans.plan.batches.len() as u64);
    }

    fn plan(&self, epoch: u64) -> Plan {
        let n = self.kept.len() as u64;
        let key = mix(mix(self.options.seed) ^ epoch);
        let mut order: Vec<u32> = (0..n).map(|i| self.kept[permute(i, n, key) as usize]).collect();
        if self.options.order == Order::Random {
            let batches = self.cut(&order);
            return Plan { order, batches };
        }
        let mut batches = vec![];
        let window = self.window();
        for start in (0..order.len()).step_by(window) {
            let end = (start + window).min(order.len());
            let part = &mut order[start..end];
            // Stable: examples of one length stay in the epoch's own order.
            part.sort_by_key(|&index| {
                let example = &self.examples[index as usize];
                (example.target.len(), example.source.len())
            });
            batches.extend(self.cut(part).into_iter().map(|b| start + b.start..start + b.end));
        }
        let count = batches.len() as u64;
        let shuffled = (0..count).map(|i| batches[permute(i, count, mix(key)) as usize].clone());
        let batches = shuffled.collect();
        Plan { order, batches }
    }

    /// Examples of [`WINDOW`] batches of the mean length.
    fn window(&self) -> usize {
        let rows = match self.options.fill {
            Fill::Rows(rows) => rows as u64,
            Fill::Tokens(tokens) => {
                let kept = self.kept.iter();
                let sum: u64 = kept.map(|&i| self.examples[i as usize].tokens() as u64).sum();
                (tokens as u64 * self.kept.len() as u64).div_ceil(sum)
            }
        };
        (rows * WINDOW) as usize
    }

    /// Ranges of `order`, each a full batch.
    fn cut(&self, order: &[u32]) -> Vec<Range<usize>> {
        let mut batches = vec![];
        let (mut start, mut sum) = (0, 0);
        for (at, &index) in order.iter().enumerate() {
            let tokens = self.examples[index as usize].tokens();
            let full = match self.options.fill {
                Fill::Tokens(most) => sum + tokens > most,
                Fill::Rows(most) => at - start == most,
            };
            if full && at > start {
                batches.push(start..at);
                (start, sum) = (at, 0);
            }
            sum += tokens;
        }
        batches.push(start..order.len());
        batches
    }
}

fn keep(examples: &[Ragged], options: &RaggedOptions) -> Result<Vec<u32>> {
    let fail = |kind, message: String| Error::new(kind, BATCHES, message);
    if matches!(options.fill, Fill::Tokens(0) | Fill::Rows(0)) {
        return Err(fail(Kind::Config, "a batch of 0".into()).hint("give it at least 1"));
    }
    if u32::try_from(examples.len()).is_err() {
        let message = format!("{} examples; at most {} fit", examples.len(), u32::MAX);
        return Err(fail(Kind::Resource, message));
    }
    let mut kept = vec![];
    for (index, example) in examples.iter().enumerate() {
        let (source, target) = (example.source.len(), example.target.len());
        if target == 0 {
            return Err(fail(Kind::Input, format!("example {index}: no target ids")));
        }
        let side = options.longest.filter(|&longest| source.max(target) > longest);
        let whole = match options.fill {
            Fill::Tokens(most) if source + target > most => Some(most),
            _ => None,
        };
        if side.is_none() && whole.is_none() {
            kept.push(index as u32);
        } else if !options.skip_long {
            let rule = match side {
                Some(longest) => format!("a side may have at most {longest}"),
                None => format!("a batch has {} tokens", whole.unwrap_or_default()),
            };
            let message =
                format!("example {index} has {source} source ids and {target} target ids; {rule}");
            return Err(fail(Kind::Input, message)
                .hint("leave long examples out (skip_long), shorten them, or raise the limit"));
        }
    }
    match (kept.is_empty(), examples.len()) {
        (false, _) => Ok(kept),
        (true, 0) => Err(fail(Kind::Input, "no examples".into())),
        (true, n) => Err(fail(Kind::Input, format!("all {n} examples are too long"))
            .hint("raise the longest length or the tokens of a batch")),
    }
}
