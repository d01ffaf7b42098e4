//! The tape that extends sequences by a number of tokens, and the moving of what was remembered.

use super::builder::{Builder, Memory, Purpose};
use super::config::Config;
use super::head;
use super::recording::Recording;
use super::site::{Site, Sizes, View};
use super::source::Sources;
use super::standing::{self, Standing};
use super::stored_weights::StoredWeights;
use super::transformer::stack;
use crate::autograd::{Ints, Plan, Session, Value};
use crate::backend::cpu::gemm::Precision;
use crate::error::Result;

/// What a chunk is planned for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// (B, T).
    pub(super) size: (usize, usize),
    /// Positions that a cache holds.
    pub(super) capacity: usize,
    /// Sources, and tokens of the longest; nothing without.
    pub(super) sources: (usize, usize),
    /// Whether logits of every position are wanted.
    pub(super) every: bool,
}

/// A planned tape.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) t: usize,
    /// Whether the logits are those of every position, (B, T, V), or of each row's last, (B, V).
    pub(super) every: bool,
    pub(super) session: Session,
    pub(super) ids: Ints,
    pub(super) past: Ints,
    pub(super) new: Ints,
    /// Lengths of the sources, where there are some.
    sources: Option<Ints>,
    pub(super) logits: Value,
    /// Where the recorded sites lie.
    recorded: Vec<(Value, View)>,
}

impl Chunk {
    pub(super) fn new(
        config: &Config,
        stored: Option<&StoredWeights>,
        Want { size, capacity, sources, every }: Want,
        (standing, recorded): (&[Standing], &[Site]),
        threads: usize,
    ) -> Result<Self> {
        let purpose = Purpose::Extend { capacity };
        // Prompts round what stored matrices are multiplied with; attention may as well.
        let precision = if stored.is_some() { Precision::Bf16 } else { Precision::F32 };
        let mut m = Builder::decoder(config, size, sources, (purpose, precision), stored)?;
        m.watch.capture = recorded.to_vec();
        standing::watch(&mut m, standing);
        let lengths = match m.memory {
            Some(Memory::Remembered { lengths, .. }) => Some(lengths),
            _ => None,
        };
        let x = stack(&mut m)?;
        let logits = if every { head::logits(&mut m, x) } else { head::last_logits(&mut m, x) }?;
        m.tape.keep(logits);
        m.check_watch()?;
        let sizes = Sizes { b: size.0, t: size.1, s: sources.1 };
        standing::put(&m.seen, config, (sizes, Some(capacity)), standing)?;
        let recorded = recorded
            .iter()
            .filter_map(|site| {
                let (_, value) = m.seen.values.iter().find(|(s, _)| *s == site.base())?;
                Some((*value, site.grown(config, sizes, capacity)))
            })
            .collect();
        let inputs = m.inputs;
        let mut session = Session::new(Plan::infer(m.tape, threads)?);
        // The cache is the decoder's, lent to one chunk at a time.
        session.swap_states(&mut vec![]);
        Ok(Self {
            t: size.1,
            every,
            session,
            ids: inputs.ids,
            past: inputs.past,
            new: inputs.new,
            sources: lengths,
            logits,
            recorded,
        })
    }
}

impl Chunk {
    /// Keeps what the new tokens of each row left at the recorded sites.
    pub(super) fn tell(&self, recording: &mut Recording, new: &[usize]) -> Result<()> {
        for (at, (value, view)) in self.recorded.iter().enumerate() {
            let values = view.gather(self.session.value(*value)?);
            recording.take(at, (&view.shape, &values), new)?;
        }
        Ok(())
    }

    /// Puts in how long the sources are.
    pub(super) fn tell_lengths(&mut self, sources: Option<&Sources>) {
        if let (Some(ints), Some(sources)) = (self.sources, sources) {
            self.session.ints_mut(ints).copy_from_slice(sources.lengths());
        }
    }
}

/// Moves rows of `row` elements: of each of `parts` parts, `stride` apart, the first elements.
pub(super) fn permute(
    data: &mut [f32],
    row: usize,
    parents: &[usize],
    parts: impl Fn(usize) -> (usize, usize, usize),
) {
    if parents.iter().enumerate().all(|(r, &p)| r == p) {
        return;
    }
    // A row may be both read and written, so what is read is kept first.
    let mut kept: Vec<Option<Vec<f32>>> = vec![None; parents.len()];
    for &p in parents.iter().enumerate().filter(|(r, p)| r != *p).map(|(_, p)| p) {
        if kept[p].is_none() {
            let (parts, stride, n) = parts(p);
            let from = &data[p * row..][..row];
            kept[p] = Some((0..parts).flat_map(|i| from[i * stride..][..n].to_vec()).collect());
        }
    }
    for (r, &p) in parents.iter().enumerate().filter(|(r, p)| r != *p) {
        let (parts, stride, n) = parts(p);
        let Some(from) = &kept[p] else { continue };
        for i in 0..parts {
            data[r * row + i * stride..][..n].copy_from_slice(&from[i * n..][..n]);
        }
    }
}
