//! The rest of a run: from a block on, and from a position on. What comes before is as it was in another run, and is
//! not computed again.
//!
//! Rows stand at positions of their own: row `r` goes on after the first `past[r]` positions with `new[r]` more,
//! padded on the right. Only a causal stack can be cut so: nothing before a position depends on it.

use super::builder::{Builder, Inputs, Purpose};
use super::config::{Architecture, Config, Core, Positions};
use super::edit::Region;
use super::head;
use super::site::{Part, Site, Sizes};
use super::transformer::stack;
use super::watch::{Seen, Watch};
use super::weights::Weights;
use crate::autograd::{Plan, RunInfo, Session, Value};
use crate::backend::buffer::Buffer;
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::ops::tap::Change;

/// What of a whole run is needed to go on from any of its places; keys as they meet queries.
#[must_use]
pub fn remembered(config: &Config) -> Vec<Site> {
    let keys = if config.positions == Positions::Rotary { Part::RotK } else { Part::K };
    let block = |layer| [Part::ResidPre, keys, Part::V].map(|part| Site::block(layer, part));
    (0..config.layers).flat_map(block).collect()
}

/// Whether a model's runs can be cut.
///
/// # Errors
/// Why not.
pub fn demand_cuttable(config: &Config) -> Result<()> {
    let error = |message: &str| Err(Error::new(Kind::Config, "tail", message));
    if config.architecture != Architecture::Decoder {
        return error(
            "only a decoder's run can be cut: in others, earlier positions see later ones",
        );
    }
    if config.core == Core::Lstm {
        return error("an LSTM has no keys and values to go on from");
    }
    if config.qk_norm && config.positions != Positions::Rotary {
        return error("keys are normalised where no site shows them");
    }
    Ok(())
}

/// Size of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailSize {
    /// The first block that is computed.
    pub layer: usize,
    /// Rows.
    pub b: usize,
    /// New positions of the longest row.
    pub t: usize,
    /// Positions of the whole run.
    pub whole: usize,
}

/// Runs the blocks from one on, over positions from one on.
#[derive(Debug)]
pub struct Tail {
    session: Session,
    config: Config,
    size: TailSize,
    inputs: Inputs,
    seen: Seen,
    /// The stream, then keys and values of each block.
    states: Vec<Buffer>,
    scores: Value,
}

impl Tail {
    /// Ends at the scores after each row's last position; `watch` edits alone.
    ///
    /// # Errors
    /// As [`demand_cuttable`]; a site before the first block, or one that such a run does not compute on its own.
    pub fn new(config: &Config, size: TailSize, watch: Watch, threads: usize) -> Result<Self> {
        demand_cuttable(config)?;
        let TailSize { layer, b, t, whole } = size;
        if layer >= config.layers {
            let message = format!("block {layer}, but blocks are numbered 0..{}", config.layers);
            return Err(Error::new(Kind::Input, "tail", message));
        }
        let how = (Purpose::Extend { capacity: whole }, Precision::F32);
        let mut m = Builder::decoder(config, (b, t), (0, 0), how, None)?;
        m.watch = watch;
        m.start = Some(layer);
        m.ends_early = true;
        let x = stack(&mut m)?;
        let scores = head::last_logits(&mut m, x)?;
        m.tape.keep(scores);
        m.check_watch()?;
        let (inputs, seen) = (m.inputs, m.seen);
        let mut session = Session::new(Plan::infer(m.tape, threads)?);
        let mut states = vec![];
        session.swap_states(&mut states);
        Ok(Self { session, config: config.clone(), size, inputs, seen, states, scores })
    }

    /// Floating-point operations of a run.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.session.plan().flops()
    }

    /// Row `row` goes on with `new` positions after `past`; what was before comes from row `from` of a whole run, of
    /// which `read` gives the values of [`remembered`] sites, each of (B, whole, ..).
    ///
    /// # Errors
    /// Positions beyond those of the run or of the tail.
    pub fn go_on(
        &mut self,
        row: usize,
        (past, new): (usize, usize),
        from: usize,
        read: &dyn Fn(Site) -> Result<std::rc::Rc<[f32]>>,
    ) -> Result<()> {
        let TailSize { layer, b, t, whole } = self.size;
        if row >= b || new == 0 || new > t || past + new > whole {
            let message = format!("row {row} goes on with {new} positions after {past}");
            return Err(Error::new(Kind::Shape, "tail", message)
                .fact(format!("there are {b} rows of {t} of {whole} positions")));
        }
        self.session.ints_mut(self.inputs.past)[row] = past as i32;
        self.session.ints_mut(self.inputs.new)[row] = new as i32;
        let c = self.config.width;
        let stream = read(Site::block(layer, Part::ResidPre))?;
        let to = &mut self.states[0][row * t * c..][..t * c];
        to.fill(0.0);
        to[..new * c].copy_from_slice(&stream[(from * whole + past) * c..][..new * c]);
        let (kv, d) = (self.config.kv_heads, self.config.head_width);
        let sites = &remembered(&self.config)[3 * layer..];
        for (block, sites) in sites.chunks_exact(3).enumerate() {
            for (which, site) in sites[1..].iter().enumerate() {
                let values = read(*site)?;
                // (B, whole, K, D) to (B, K, whole, D).
                let cache = &mut self.states[1 + 2 * block + which];
                for p in 0..past {
                    for k in 0..kv {
                        let from = ((from * whole + p) * kv + k) * d;
                        let to = ((row * kv + k) * whole + p) * d;
                        cache[to..to + d].copy_from_slice(&values[from..from + d]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        self.seen.slots.iter().for_each(|(_, slot)| slot.lock().edits.clear());
    }

    /// Adds a change to those of the next runs; positions are counted from the row's first new one.
    ///
    /// # Errors
    /// A site that was not named to be edited; a region outside it; values of another number.
    pub fn change(&mut self, site: Site, region: &Region, change: &Change) -> Result<()> {
        let slot = self.seen.slots.iter().find(|(s, _)| *s == site.base());
        let Some((_, slot)) = slot else {
            let message = format!("{site} was not named to be edited");
            return Err(Error::new(Kind::Input, "tail", message).hint("add it to Watch::edit"));
        };
        let sizes = Sizes { b: self.size.b, t: self.size.t, s: 0 };
        let view = site.grown(&self.config, sizes, self.size.whole);
        let edits = view.edits(&site.to_string(), region, change)?;
        slot.lock().edits.extend(edits);
        Ok(())
    }

    /// Scores after each row's last position, (B, V).
    ///
    /// # Errors
    /// Weights of another config.
    pub fn run(&mut self, pool: &Pool, weights: &Weights) -> Result<&[f32]> {
        self.session.swap_states(&mut self.states);
        let ran = self.session.run(pool, weights.data(), None, RunInfo::default());
        self.session.swap_states(&mut self.states);
        ran?;
        self.session.value(self.scores)
    }
}
