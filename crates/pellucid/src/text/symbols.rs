//! Words of a list, one id each: for sequences that are not language.

use super::characters::special_token;
use super::special::Specials;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Kind, Result};
use serde_json::{Map, json};

impl Tokenizer {
    /// The ids of `words` are their places in the list; a text has blanks between them. Those that `specials` names are
    /// special tokens.
    ///
    /// # Errors
    /// No words; an empty one, one with a blank in it, or one that stands there twice.
    pub fn symbols<S: AsRef<str>>(words: &[S], specials: &Specials) -> Result<Self> {
        let mut vocab = Map::new();
        for (id, word) in words.iter().enumerate() {
            let word = word.as_ref();
            let good = !word.is_empty() && !word.contains(char::is_whitespace);
            if !good || vocab.insert(word.into(), id.into()).is_some() {
                let message = format!("{word:?} is empty, has a blank in it or stands there twice");
                return Err(Error::new(Kind::Config, "symbols", message));
            }
        }
        if vocab.is_empty() {
            return Err(Error::new(Kind::Config, "symbols", "no words, so no vocabulary"));
        }
        let names = specials.names();
        let added: Vec<_> = words
            .iter()
            .enumerate()
            .filter(|(_, word)| names.contains(&word.as_ref()))
            .map(|(id, word)| special_token(id, word.as_ref()))
            .collect();
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        });
        Self::from_json(file.to_string())?.named(specials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_their_places_and_come_back() {
        let begin = Specials { bos: Some("<s>".into()), ..Specials::default() };
        let tokenizer = Tokenizer::symbols(&["0", "1", "12", "="], &Specials::default()).unwrap();
        assert_eq!(tokenizer.encode("12 1 0 =").unwrap(), [2, 1, 0, 3]);
        assert_eq!(tokenizer.decode(&[2, 1, 0, 3]).unwrap(), "12 1 0 =");
        let error = tokenizer.encode("1 7").unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        let tokenizer = Tokenizer::symbols(&["0", "<s>"], &begin).unwrap();
        assert_eq!(tokenizer.special_ids().bos, Some(1));
        assert_eq!(tokenizer.encode("<s> 0").unwrap(), [1, 0]);
        for bad in [&["a", "a"][..], &["a b"], &[""], &[]] {
            assert!(Tokenizer::symbols(bad, &begin).is_err(), "{bad:?}");
        }
    }
}
