//! Text that is cut into words already, with each word's first id: for tags of words.

use super::tokenizer::{Flavor, Tokenizer, guard};
use crate::error::{Error, Kind, Result};
use std::borrow::Cow;
use tokenizers::{Encoding, TruncationDirection};

const ENCODE: &str = "encode words";

/// Ids of words as a model takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedWords {
    /// Template and words.
    pub ids: Vec<u32>,
    /// Of each word, the place of its first id in `ids`; none where it was cut off, or is of
    /// characters of which the tokenizer makes nothing.
    pub first: Vec<Option<usize>>,
    /// Words that were cut off because all ids were more than `longest`.
    pub cut: usize,
}

impl Tokenizer {
    /// Ids of words inside the tokenizer's template, such as `[CLS] words [SEP]`: the ids that
    /// `transformers` gives with `is_split_into_words`. No id is of two words. A byte-level
    /// tokenizer reads every word with a blank before it (`add_prefix_space`). With `longest`, ids
    /// are taken from the end until all fit.
    ///
    /// # Errors
    /// As [`Self::encode`]; a `longest` in which the template itself has no room.
    pub fn encode_words<S: AsRef<str>>(
        &self,
        words: &[S],
        longest: Option<usize>,
    ) -> Result<EncodedWords> {
        let hub = &self.inner.hub;
        let blank = self.flavor() == Flavor::ByteLevel;
        let words: Vec<Cow<'_, str>> = words
            .iter()
            .map(|word| match word.as_ref() {
                word if blank && !word.starts_with(' ') => format!(" {word}").into(),
                word => word.into(),
            })
            .collect();
        let count = words.len();
        // Only an encoding with offsets knows which word an id is of.
        let mut all = guard(ENCODE, || hub.encode(words, false))?;
        let known = all.get_word_ids().iter().flatten().max().map_or(0, |&last| last as usize + 1);
        let mut kept = known;
        if let Some(longest) = longest {
            let added = guard(ENCODE, || hub.post_process(Encoding::default(), None, true))?.len();
            let Some(room) = longest.checked_sub(added).filter(|&room| room > 0) else {
                let message = format!("at most {longest} ids, of which the template takes {added}");
                return Err(Error::new(Kind::Config, ENCODE, message).hint("raise the length"));
            };
            all.truncate(room, 0, TruncationDirection::Right);
            kept = all.get_word_ids().iter().flatten().max().map_or(0, |&last| last as usize + 1);
        }
        let whole = guard(ENCODE, || hub.post_process(all, None, true))?;
        let mut first = vec![None; count];
        for (place, word) in whole.get_word_ids().iter().enumerate() {
            if let Some(slot) = word.and_then(|word| first.get_mut(word as usize)) {
                slot.get_or_insert(place);
            }
        }
        Ok(EncodedWords { ids: whole.get_ids().to_vec(), first, cut: known - kept })
    }
}
