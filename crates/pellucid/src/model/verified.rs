//! Reading several tokens at once with scores after each, and taking tokens back: what speculation needs.

use super::config::Core;
use super::decoder::Decoder;
use super::weights::Weights;
use crate::autograd::RunInfo;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};

/// Tokens that are verified together: as many rows as products take at the speed of memory, each with the bits it
/// would have alone.
pub const MOST_VERIFIED: usize = 8;

impl Decoder {
    /// Reads the tokens `ids` (B, T) of every row, T ≤ [`MOST_VERIFIED`], and returns logits (B, T, V) after each.
    /// Each is, to the bit, what [`Self::extend`] gives token by token as long as B T ≤ [`MOST_VERIFIED`].
    ///
    /// # Errors
    /// As [`Self::extend`]; more tokens than that.
    pub fn extend_all(&mut self, pool: &Pool, weights: &Weights, ids: &[i32]) -> Result<&[f32]> {
        let t = ids.len() / self.batch;
        self.check(weights, ids, t, &vec![t; self.batch])?;
        if t == 0 || t > MOST_VERIFIED {
            let message = format!("{t} tokens to verify; 1..={MOST_VERIFIED} are read together");
            return Err(Error::new(Kind::Input, "decode", message));
        }
        let at = self.chunk(t, true)?;
        let Self { chunks, cache, past, sources, recording, .. } = self;
        let chunk = &mut chunks[at];
        chunk.tell_lengths(sources.as_ref());
        chunk.session.ints_mut(chunk.ids).copy_from_slice(ids);
        for (row, &p) in past.iter().enumerate() {
            chunk.session.ints_mut(chunk.past)[row] = p as i32;
            chunk.session.ints_mut(chunk.new)[row] = t as i32;
        }
        chunk.session.swap_states(cache);
        let ran = chunk.session.run(pool, weights.data(), None, RunInfo::default());
        chunk.session.swap_states(cache);
        ran?;
        chunk.tell(recording, &vec![t; past.len()])?;
        past.iter_mut().for_each(|p| *p += t);
        chunk.session.value(chunk.logits)
    }

    /// Forgets a row's tokens from position `len` on.
    ///
    /// # Errors
    /// The row has fewer; an LSTM, whose state cannot be taken back.
    pub fn truncate(&mut self, row: usize, len: usize) -> Result<()> {
        if self.config.core == Core::Lstm && self.past.get(row).is_some_and(|&past| len < past) {
            let message = "an LSTM cannot forget: its state is of all tokens together";
            return Err(
                Error::new(Kind::Input, "decode", message).hint("decode without speculation")
            );
        }
        match self.past.get_mut(row) {
            Some(past) if len <= *past => {
                *past = len;
                self.recording.truncate(row, len);
                Ok(())
            }
            past => {
                let message = format!("row {row} cut to {len} tokens, but it holds {past:?}");
                Err(Error::new(Kind::Input, "decode", message))
            }
        }
    }
}
