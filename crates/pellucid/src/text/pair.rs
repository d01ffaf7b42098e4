//! Texts and pairs of texts inside the tokens that the tokenizer's template puts around them.

use super::tokenizer::{Tokenizer, guard};
use crate::error::{Error, Kind, Result};
use tokenizers::{Encoding, TruncationDirection};

const ENCODE: &str = "encode pair";

/// Ids as a model takes them, and which text each is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Template and text.
    pub ids: Vec<u32>,
    /// Of each id: 0 for the first text, 1 for the second, as the template says (BERT's token
    /// types; RoBERTa has 0 for both).
    pub segments: Vec<u32>,
}

/// Ids and the bytes of the text that each is of.
pub(super) type Spans = (Vec<u32>, Vec<(usize, usize)>);

impl Tokenizer {
    /// Ids of a text, or of two, inside the template of the tokenizer, such as
    /// `[CLS] text [SEP] second [SEP]`. With `longest`, ids are taken from the end of the longer
    /// text until all fit, as `transformers` does with `longest_first`.
    ///
    /// # Errors
    /// As [`Self::encode`]; a `longest` in which the template itself has no room.
    pub fn encode_pair(
        &self,
        text: &str,
        second: Option<&str>,
        longest: Option<usize>,
    ) -> Result<Encoded> {
        let hub = &self.inner.hub;
        let mut first = guard(ENCODE, || hub.encode_fast(text, false))?;
        let mut second = match second {
            Some(second) => Some(guard(ENCODE, || {
                let mut second = hub.encode_fast(second, false)?;
                second.set_type_ids(vec![1; second.len()]);
                Ok(second)
            })?),
            None => None,
        };
        if let Some(longest) = longest {
            let added = guard(ENCODE, || {
                hub.post_process(
                    Encoding::default(),
                    second.as_ref().map(|_| Encoding::default()),
                    true,
                )
            })?
            .len();
            let Some(room) = longest.checked_sub(added).filter(|&room| room > 0) else {
                let message = format!("at most {longest} ids, of which the template takes {added}");
                return Err(Error::new(Kind::Config, ENCODE, message).hint("raise the length"));
            };
            let lengths = (first.len(), second.as_ref().map_or(0, Encoding::len));
            let kept = fit(lengths, room);
            first.truncate(kept.0, 0, TruncationDirection::Right);
            if let Some(second) = &mut second {
                second.truncate(kept.1, 0, TruncationDirection::Right);
            }
        }
        let whole = guard(ENCODE, || hub.post_process(first, second, true))?;
        Ok(Encoded { ids: whole.get_ids().to_vec(), segments: whole.get_type_ids().to_vec() })
    }

    /// [`Self::encode`], with the bytes of the text that each id is of.
    pub(super) fn encode_spans(&self, text: &str) -> Result<Spans> {
        let whole = guard("encode", || self.inner.hub.encode(text, false))?;
        Ok((whole.get_ids().to_vec(), whole.get_offsets().to_vec()))
    }
}

/// Lengths of two texts that fit into `room`: the longer loses ids until both are alike.
fn fit((first, second): (usize, usize), room: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    let (short, long) = (first.min(second), first.max(second));
    // An odd id goes to the longer one, as in the tokenizers crate.
    let (short, long) = if short <= room / 2 {
        (short, (room - short).min(long))
    } else {
        (room / 2, room - room / 2)
    };
    if first <= second { (short, long) } else { (long, short) }
}
