//! Rows of tokens with their targets, and how they are cut into passes.

use super::builder::Shape;
use super::config::{Config, Core};
use super::head;
use crate::error::{Error, Kind, Result};

/// Targets equal to this do not count. As the bits of a number it is not one.
pub const IGNORE: i32 = -100;

/// Tokens of a pass: measured, the fastest on 2 MiB of L2 per core.
pub(super) const PASS_TOKENS: usize = 1024;

/// Lengths are rounded up to a multiple of this, so that there are few shapes to plan.
const GRAIN: usize = 8;

/// A micro-batch, padded on the right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// B.
    pub rows: usize,
    /// T.
    pub time: usize,
    /// Token ids, (B, T).
    pub ids: Vec<i32>,
    /// Targets, (B, T), or (B) where a text has one; [`IGNORE`] where there is none. A number is given by its bits,
    /// `f32::to_bits`.
    pub targets: Vec<i32>,
    /// Tokens of each row that are real, (B); empty where all are.
    pub lengths: Vec<i32>,
    /// Segments, (B, T); empty: all 0.
    pub segments: Vec<i32>,
    /// S.
    pub source_time: usize,
    /// Token ids of the source, (B, S), where there is an encoder beside the decoder.
    pub source: Vec<i32>,
    /// Tokens of each source that are real, (B); empty where all are.
    pub source_lengths: Vec<i32>,
}

impl Batch {
    /// Whole rows of `time` tokens without targets yet.
    #[must_use]
    pub fn whole(rows: usize, time: usize) -> Self {
        let size = rows * time;
        Self { rows, time, ids: vec![0; size], targets: vec![IGNORE; size], ..Self::default() }
    }

    /// Whole rows with their targets, as many as rows or as ids.
    #[must_use]
    pub fn of(rows: usize, ids: &[i32], targets: &[i32]) -> Self {
        let (ids, targets) = (ids.to_vec(), targets.to_vec());
        Self { rows, time: ids.len() / rows.max(1), ids, targets, ..Self::default() }
    }

    /// Rows of different lengths, padded with 0; `targets` are as many as ids, or one for each row.
    ///
    /// # Errors
    /// No row, an empty row, or targets of another number.
    pub fn ragged(rows: &[&[i32]], targets: &[&[i32]]) -> Result<Self> {
        let (ids, lengths, time) = pad(rows, 0)?;
        let mut batch = Self { rows: rows.len(), time, ids, lengths, ..Self::default() };
        let one_each = targets.iter().all(|t| t.len() == 1) && time > 1;
        batch.targets = match targets {
            [] => vec![],
            _ if one_each => targets.iter().map(|t| t[0]).collect(),
            _ => pad(targets, IGNORE)?.0,
        };
        Ok(batch)
    }

    /// The same with the source of each row.
    ///
    /// # Errors
    /// An empty source.
    pub fn with_source(mut self, sources: &[&[i32]]) -> Result<Self> {
        (self.source, self.source_lengths, self.source_time) = pad(sources, 0)?;
        Ok(self)
    }

    /// Tokens of row `row` that are real.
    #[must_use]
    pub fn length(&self, row: usize) -> usize {
        self.lengths.get(row).map_or(self.time, |&l| l as usize)
    }

    /// Tokens of its source that are real.
    #[must_use]
    pub fn source_length(&self, row: usize) -> usize {
        self.source_lengths.get(row).map_or(self.source_time, |&l| l as usize)
    }

    /// Real tokens, of the sources too.
    #[must_use]
    pub fn tokens(&self) -> usize {
        (0..self.rows).map(|row| self.length(row) + self.source_length(row)).sum()
    }

    /// Whether all rows are whole.
    pub(super) fn is_whole(&self) -> bool {
        self.lengths.is_empty() && self.source_lengths.is_empty()
    }

    /// Whether the parts have the sizes that they say, for a model with this config; without targets if `bare`.
    pub(super) fn check(&self, config: &Config, bare: bool) -> Result<()> {
        let Self { rows: b, time: t, source_time: s, .. } = *self;
        let targets = head::targets(config, b, t);
        let optional = |len: usize, n: usize| len == 0 || len == n;
        let source = if config.has_source() { b * s } else { 0 };
        let facts = [
            (self.ids.len() == b * t, format!("{} ids, but B·T = {}", self.ids.len(), b * t)),
            (
                self.targets.len() == targets || bare && self.targets.is_empty(),
                format!("{} targets, but {targets} are needed", self.targets.len()),
            ),
            (optional(self.lengths.len(), b), format!("{} lengths", self.lengths.len())),
            (
                optional(self.segments.len(), b * t),
                format!("{} segments, but B·T = {}", self.segments.len(), b * t),
            ),
            (
                self.source.len() == source && (source > 0) == config.has_source(),
                format!("{} source ids, but B·S = {source}", self.source.len()),
            ),
            (
                optional(self.source_lengths.len(), b),
                format!("{} source lengths", self.source_lengths.len()),
            ),
            (
                (0..b).all(|r| (1..=t).contains(&self.length(r))),
                "a row has no token, or more than T".into(),
            ),
            (
                source == 0 || (0..b).all(|r| (1..=s).contains(&self.source_length(r))),
                "a source has no token, or more than S".into(),
            ),
        ];
        match facts.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, message)) => Err(Error::new(Kind::Shape, "transformer", message)
                .fact(format!("B = {b}, T = {t}, S = {s}"))),
        }
    }
}

/// Rows padded to the longest: elements, lengths, the longest.
fn pad(rows: &[&[i32]], with: i32) -> Result<(Vec<i32>, Vec<i32>, usize)> {
    let longest = rows.iter().map(|r| r.len()).max().unwrap_or(0);
    if rows.iter().any(|r| r.is_empty()) || longest == 0 {
        return Err(Error::new(Kind::Input, "batch", "a row has no token")
            .hint("leave empty texts out, or give them their special tokens"));
    }
    let mut all = Vec::with_capacity(rows.len() * longest);
    for row in rows {
        all.extend_from_slice(row);
        all.resize(all.len() + longest - row.len(), with);
    }
    Ok((all, rows.iter().map(|r| r.len() as i32).collect(), longest))
}

/// Targets that count.
#[must_use]
pub fn counted(targets: &[i32]) -> usize {
    targets.iter().filter(|&&t| t != IGNORE).count()
}

/// The place of the highest of `scores`, the first of equals; none where one is not a number.
#[must_use]
pub fn highest(scores: &[f32]) -> Option<usize> {
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    (0..scores.len()).reduce(|best, i| if scores[i] > scores[best] { i } else { best })
}

/// Rows of a pass, for B = `batch` and T = `time`: equal passes of about 1024 tokens, at least a row. A recurrent net
/// is slow by its steps and not by its memory: each one takes all rows at once.
#[must_use]
pub fn pass_rows(core: Core, batch: usize, time: usize) -> usize {
    if core == Core::Lstm {
        return batch;
    }
    let passes = (batch * time).div_ceil(PASS_TOKENS).clamp(1, batch.max(1));
    batch.div_ceil(passes)
}

/// Rows that go through the layers together; missing ones are filled up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) rows: Vec<usize>,
    pub(super) shape: Shape,
}

impl Pass {
    /// Targets that count.
    pub(super) fn counted(&self, batch: &Batch) -> usize {
        let row = batch.targets.len() / batch.rows.max(1);
        self.rows.iter().map(|r| counted(&batch.targets[r * row..][..row])).sum()
    }

    /// Targets that have the highest of the scores, (b, t, labels) or (b, labels).
    pub(super) fn right(&self, scores: &[f32], labels: usize, batch: &Batch) -> u64 {
        let targets = batch.targets.len() / batch.rows.max(1);
        let row = scores.len() / self.shape.b.max(1);
        let mut right = 0;
        for (scores, &r) in scores.chunks_exact(row.max(1)).zip(&self.rows) {
            let targets = &batch.targets[r * targets..][..targets];
            for (scores, &target) in scores.chunks_exact(labels.max(1)).zip(targets) {
                right += u64::from(target != IGNORE && highest(scores) == Some(target as usize));
            }
        }
        right
    }

    /// Puts what each row of this pass gave where it stands in the batch.
    pub(super) fn scatter(&self, from: &[f32], batch: &Batch, to: &mut [f32]) {
        let (row, to_row) = (from.len() / self.shape.b, to.len() / batch.rows.max(1));
        let n = row.min(to_row);
        for (from, &r) in from.chunks_exact(row).zip(&self.rows) {
            to[r * to_row..][..n].copy_from_slice(&from[..n]);
        }
    }
}

/// Cuts a batch. Whole rows go in their order, `whole` at a time; rows of different lengths in the order of these, so
/// that little of a pass is padding.
pub(super) fn cut(batch: &Batch, config: &Config, whole: usize) -> Vec<Pass> {
    if batch.is_whole() {
        let shape = Shape { b: whole, t: batch.time, s: batch.source_time };
        let rows: Vec<usize> = (0..batch.rows).collect();
        return rows.chunks(whole.max(1)).map(|r| Pass { rows: r.to_vec(), shape }).collect();
    }
    let round = |n: usize| n.next_multiple_of(GRAIN).min(config.context.max(n));
    let size = |row: usize| (round(batch.length(row)), round(batch.source_length(row)));
    let mut order: Vec<usize> = (0..batch.rows).collect();
    order.sort_by_key(|&row| {
        let (t, s) = size(row);
        (std::cmp::Reverse((t + s, t)), row)
    });
    let mut passes: Vec<Pass> = Vec::new();
    for row in order {
        let (t, s) = size(row);
        if let Some(Pass { rows, shape }) = passes.last_mut() {
            let grown = Shape { b: rows.len() + 1, t: shape.t.max(t), s: shape.s.max(s) };
            if grown.b * (grown.t + grown.s) <= PASS_TOKENS {
                rows.push(row);
                *shape = grown;
                continue;
            }
        }
        passes.push(Pass { rows: vec![row], shape: Shape { b: 1, t, s } });
    }
    for pass in &mut passes {
        // Few numbers of rows as well.
        let most = PASS_TOKENS / (pass.shape.t + pass.shape.s);
        pass.shape.b = pass.shape.b.next_multiple_of(4).min(most.max(pass.shape.b));
    }
    passes
}
