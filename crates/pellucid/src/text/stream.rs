//! Text as it is generated: never half a character, never part of a stop string.

use super::pieces::Stitch;
use super::tokenizer::Tokenizer;
use crate::error::Result;

/// Turns tokens into text, one at a time.
///
/// What [`push`](Self::push) and [`finish`](Self::finish) return, put together, is the text of all
/// tokens up to the first stop string. Held back meanwhile: bytes that begin a character whose rest
/// has not come, and text that begins a stop string.
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    stops: Vec<String>,
    skip_special: bool,
    /// Bytes that are not yet whole characters.
    bytes: Vec<u8>,
    /// Whole characters that may begin a stop string.
    held: String,
    /// Of the stop string that came.
    stopped: Option<usize>,
    /// The next byte may be a space to drop.
    at_start: bool,
    /// Where only the decoder knows: recent ids, of which `shown` are shown.
    window: Vec<u32>,
    shown: usize,
}

impl StreamDecoder {
    /// For text that begins here.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            stops: vec![],
            skip_special: true,
            bytes: vec![],
            held: String::new(),
            stopped: None,
            at_start: true,
            window: vec![],
            shown: 0,
        }
    }

    /// For text that goes on after `prompt`, whose text is not repeated.
    #[must_use]
    pub fn after(mut self, prompt: &[u32]) -> Self {
        if !prompt.is_empty() {
            self.at_start = false;
            self.window = prompt[prompt.len().saturating_sub(8)..].to_vec();
            self.window.retain(|&id| (id as usize) < self.tokenizer.vocab_size());
            self.shown = self.window.len();
        }
        self
    }

    /// Ends the text before the first of these strings to be completed; empty ones are ignored.
    #[must_use]
    pub fn with_stops<S: Into<String>>(mut self, stops: impl IntoIterator<Item = S>) -> Self {
        self.stops = stops.into_iter().map(Into::into).filter(|s: &String| !s.is_empty()).collect();
        self
    }

    /// Spells special tokens out; otherwise they give no text.
    #[must_use]
    pub fn with_special(mut self) -> Self {
        self.skip_special = false;
        self
    }

    /// The stop string that ended the text.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.map(|i| self.stops[i].as_str())
    }

    /// Adds a token; returns the text that has become certain. After a stop string, none.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String> {
        if self.stopped.is_some() || (self.skip_special && self.tokenizer.is_special(id)) {
            return Ok(String::new());
        }
        match self.tokenizer.inner.pieces.stitch {
            Stitch::Bytes { strip } => {
                self.tokenizer.decode(&[id])?;
                let mut new = self.tokenizer.inner.pieces.bytes(id);
                if strip && self.at_start {
                    new = new.strip_prefix(b" ").unwrap_or(new);
                }
                self.at_start = false;
                self.bytes.extend_from_slice(new);
                let text = take_characters(&mut self.bytes);
                self.held.push_str(&text);
            }
            Stitch::Opaque => {
                let text = self.push_opaque(id)?;
                self.held.push_str(&text);
            }
        }
        Ok(self.release())
    }

    /// Ends the text: what was held back, with U+FFFD for half a character.
    pub fn finish(&mut self) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        let rest = std::mem::take(&mut self.bytes);
        self.held.push_str(&String::from_utf8_lossy(&rest));
        if self.shown < self.window.len()
            && let (Ok(before), Ok(all)) = (
                self.tokenizer.decode(&self.window[..self.shown]),
                self.tokenizer.decode(&self.window),
            )
        {
            self.held.push_str(&all[common(&before, &all)..]);
            self.shown = self.window.len();
        }
        let text = self.release();
        text + &std::mem::take(&mut self.held)
    }

    /// What `id` adds to the text of the window, unless it ends inside a character.
    fn push_opaque(&mut self, id: u32) -> Result<String> {
        self.window.push(id);
        let all = self.tokenizer.decode(&self.window).inspect_err(|_| {
            self.window.pop();
        })?;
        let waiting = self.window.len() - self.shown;
        // A character has at most four bytes: after that it is not going to be completed.
        if all.ends_with(char::REPLACEMENT_CHARACTER) && waiting < 4 {
            return Ok(String::new());
        }
        let before = self.tokenizer.decode(&self.window[..self.shown])?;
        let text = all[common(&before, &all)..].to_owned();
        self.window.drain(..self.shown);
        self.shown = self.window.len();
        Ok(text)
    }

    /// Takes out of `held` what cannot be part of a stop string any more.
    fn release(&mut self) -> String {
        let found = self.stops.iter().enumerate();
        let found = found.filter_map(|(i, stop)| Some((self.held.find(stop.as_str())?, i))).min();
        if let Some((at, i)) = found {
            self.stopped = Some(i);
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return text;
        }
        let begins =
            |from: usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[from..]));
        let keep = self.held.char_indices().map(|(at, _)| at).find(|&at| begins(at));
        let rest = self.held.split_off(keep.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }
}

/// Bytes that both begin with, ending between two characters.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(x, y)| x == y).map(|(x, _)| x.len_utf8()).sum()
}

/// Takes the whole characters from the front; bytes that can belong to none become U+FFFD.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    loop {
        match std::str::from_utf8(&bytes[taken..]) {
            Ok(rest) => {
                text.push_str(rest);
                taken = bytes.len();
            }
            Err(e) => {
                let valid = e.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&bytes[taken..taken + valid]));
                taken += valid;
                if let Some(length) = e.error_len() {
                    text.push(char::REPLACEMENT_CHARACTER);
                    taken += length;
                    continue;
                }
            }
        }
        break;
    }
    bytes.drain(..taken);
    text
}
