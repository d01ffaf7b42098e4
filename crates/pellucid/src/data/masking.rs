//! Tokens hidden for a masked language model to guess (Devlin et al. 2019, section 3.1).

use super::batch::IGNORE;
use super::random::{bits, mix, permute};
use crate::error::{Error, Kind, Result};
use crate::text::{Flavor, Tokenizer};

const MASK: &str = "masking";

/// How much is hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskingOptions {
    /// Share of a row's ordinary tokens that are to be guessed; BERT: 0.15.
    pub rate: f64,
    /// Hides all pieces of a word or none.
    pub whole_words: bool,
}

impl Default for MaskingOptions {
    fn default() -> Self {
        Self { rate: 0.15, whole_words: false }
    }
}

/// Hides tokens: of those that are to be guessed, 80 % become the mask, 10 % an ordinary token at
/// random, 10 % stay. A function of seed, step and row, so that nothing needs to be saved.
#[derive(Clone, Debug)]
pub struct Masking {
    mask: i32,
    options: MaskingOptions,
    /// Of each id, what it is.
    sorts: Vec<Sort>,
    /// Ids that may stand in for another.
    ordinary: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Special,
    Begins,
    Continues,
}

impl Masking {
    /// Masking with the mask token of `tokenizer`. Word pieces that begin with `##` continue a
    /// word; in byte-level BPE and SentencePiece, a token that begins with a space begins one.
    ///
    /// # Errors
    /// A tokenizer without a mask token; a rate that is not above 0 and below 1.
    pub fn new(tokenizer: &Tokenizer, options: MaskingOptions) -> Result<Self> {
        let Some(mask) = tokenizer.special_ids().mask else {
            return Err(Error::new(Kind::Config, MASK, "the tokenizer has no mask token")
                .hint("train one with [MASK], or give the checkpoint's tokenizer_config.json"));
        };
        if !(options.rate > 0.0 && options.rate < 1.0) {
            return Err(Error::new(Kind::Config, MASK, format!("a rate of {}", options.rate))
                .hint("give a share above 0 and below 1; BERT has 0.15"));
        }
        let known = tokenizer.special_ids();
        let special = |id: u32| {
            tokenizer.is_special(id)
                || [known.bos, known.eos, known.unk, known.pad, known.cls, known.sep, known.mask]
                    .contains(&Some(id))
        };
        let pieces: Vec<Option<String>> =
            (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.id_to_piece(id)).collect();
        let marks = |mark: &str| pieces.iter().flatten().any(|piece| piece.starts_with(mark));
        // A vocabulary has one of the three ways.
        let hashes = tokenizer.flavor() == Flavor::Other && marks("##");
        let begins = |piece: &str| match hashes {
            true => !piece.starts_with("##") || piece.len() == 2,
            // A space, a line end and a tab, as byte-level BPE spells them.
            false => piece.starts_with(['▁', 'Ġ', 'Ċ', 'ĉ']),
        };
        let sort = |(id, piece): (usize, &Option<String>)| match piece {
            Some(piece) if !special(id as u32) => {
                if begins(piece) {
                    Sort::Begins
                } else {
                    Sort::Continues
                }
            }
            _ => Sort::Special,
        };
        let sorts: Vec<Sort> = pieces.iter().enumerate().map(sort).collect();
        let ordinary = (0..sorts.len()).filter(|&id| sorts[id] != Sort::Special);
        let ordinary = ordinary.map(|id| id as i32).collect();
        Ok(Self { mask: mask as i32, options, sorts, ordinary })
    }

    /// Hides some of `ids` in place, a row of T ids with its special tokens and padding; writes
    /// into `targets` (T) the ids that were there, and [`IGNORE`] elsewhere. At least one is to be
    /// guessed where there is an ordinary token; returns how many are.
    ///
    /// # Errors
    /// Buffers of two lengths, or an id outside the vocabulary.
    pub fn hide(
        &self,
        seed: u64,
        step: u64,
        row: u64,
        ids: &mut [i32],
        targets: &mut [i32],
    ) -> Result<usize> {
        if ids.len() != targets.len() {
            let message = format!("buffers of {} ids and {} targets", ids.len(), targets.len());
            return Err(Error::new(Kind::Shape, MASK, message));
        }
        targets.fill(IGNORE);
        let units = self.units(ids)?;
        let ordinary: usize = units.iter().map(|&(start, end)| end - start).sum();
        if ordinary == 0 {
            return Ok(0);
        }
        let wanted = ((ordinary as f64 * self.options.rate).round() as usize).max(1);
        // Not the bits of another use of the same coordinates.
        let key = mix(bits(seed, step, row) ^ 0x6D61_736B);
        let (count, mut hidden) = (units.len() as u64, 0);
        for turn in 0..count {
            let (start, end) = units[permute(turn, count, key) as usize];
            // A word that would be too much is left, unless none is hidden yet and it is the last.
            let fits = hidden + end - start <= wanted || (hidden == 0 && turn + 1 == count);
            for at in if fits { start..end } else { 0..0 } {
                targets[at] = ids[at];
                ids[at] = self.instead(ids[at], bits(key, 1, at as u64));
                hidden += 1;
            }
            if hidden >= wanted {
                break;
            }
        }
        Ok(hidden)
    }

    fn instead(&self, id: i32, random: u64) -> i32 {
        // The high half chooses what, the low half which.
        let below = |n: u64, random: u64| ((random * n) >> 32) as usize;
        match below(10, random >> 32) {
            0..8 => self.mask,
            8 => self.ordinary[below(self.ordinary.len() as u64, random & 0xFFFF_FFFF)],
            _ => id,
        }
    }

    /// Ranges of ordinary tokens that are hidden together.
    fn units(&self, ids: &[i32]) -> Result<Vec<(usize, usize)>> {
        let mut units: Vec<(usize, usize)> = vec![];
        let mut before = Sort::Special;
        for (at, &id) in ids.iter().enumerate() {
            let sort = usize::try_from(id).ok().and_then(|id| self.sorts.get(id)).copied();
            let Some(sort) = sort else {
                let message = format!("id {id} at {at}; the ids are below {}", self.sorts.len());
                return Err(Error::new(Kind::Input, MASK, message));
            };
            let joins = self.options.whole_words && sort == Sort::Continues;
            match units.last_mut() {
                Some(unit) if joins && before != Sort::Special => unit.1 = at + 1,
                _ if sort != Sort::Special => units.push((at, at + 1)),
                _ => {}
            }
            before = sort;
        }
        Ok(units)
    }
}
