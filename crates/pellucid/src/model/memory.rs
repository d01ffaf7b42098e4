//! What a decoder remembers between runs, buffer by buffer, in the order in which its tape declares them.

use super::config::{Config, Core};

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Keys or values of the tokens so far, (B, K, capacity, D).
    Growing,
    /// A state that each token replaces, (B, C).
    State,
    /// Of the sources, (texts, S, ..): written once, shared by all rows about a source.
    Source,
}

/// A buffer and its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) sort: Sort,
    pub(super) len: usize,
}

/// All buffers for `batch` rows of `capacity` tokens about `texts` sources of at most `s` tokens.
pub(super) fn slots(
    config: &Config,
    (batch, capacity): (usize, usize),
    (texts, s): (usize, usize),
) -> Vec<Slot> {
    let (c, blocks) = (config.width, config.blocks_that_generate());
    let kv = config.kv_heads * config.head_width;
    let slot = |sort, len| Slot { sort, len };
    match config.core {
        Core::Transformer => {
            let block = [
                slot(Sort::Growing, batch * kv * capacity),
                slot(Sort::Growing, batch * kv * capacity),
                slot(Sort::Source, texts * s * 2 * kv),
            ];
            let n = if texts > 0 { 3 } else { 2 };
            (0..blocks).flat_map(|_| block.into_iter().take(n)).collect()
        }
        Core::Lstm => {
            let states = (0..2 * blocks).map(|_| slot(Sort::State, batch * c));
            let n = if texts > 0 { 2 } else { 0 };
            states.chain((0..n).map(|_| slot(Sort::Source, texts * s * c))).collect()
        }
    }
}
