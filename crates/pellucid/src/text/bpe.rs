//! Byte-level byte-pair encoding: trained here, or read from GPT-2's two files.
//!
//! Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; over bytes
//! as Radford et al. 2019 have it for GPT-2.

use super::characters::special_token;
use super::special::Specials;
use super::tokenizer::{Tokenizer, guard};
use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Hub};

impl Tokenizer {
    /// Learns a byte-level BPE vocabulary of `vocab_size` ids, special tokens included, from a
    /// stream of texts; memory grows with the number of different words only. A small corpus may
    /// give fewer ids. The same texts give the same vocabulary.
    ///
    /// # Errors
    /// `vocab_size` below 256 plus the special tokens; the first error among the texts; no text.
    pub fn train_bpe<S, I>(texts: I, vocab_size: usize, specials: &Specials) -> Result<Self>
    where
        S: AsRef<str> + Send,
        I: IntoIterator<Item = Result<S>>,
        I::IntoIter: Send,
    {
        let names = specials.names();
        let least = 256 + names.len();
        if vocab_size < least {
            let message = format!(
                "vocabulary of {vocab_size}; it must hold 256 bytes and {} special tokens",
                names.len()
            );
            return Err(Error::new(Kind::Config, "train bpe", message)
                .hint(format!("ask for at least {least}, or use the byte tokenizer")));
        }
        let tokens = names.iter().map(|&n| AddedToken::from(n, true).normalized(false)).collect();
        let mut trainer = TrainerWrapper::BpeTrainer(
            BpeTrainerBuilder::new()
                .vocab_size(vocab_size)
                .min_frequency(2)
                .show_progress(false)
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .special_tokens(tokens)
                .build(),
        );
        let level = ByteLevel::new(false, true, true);
        let mut hub = Hub::new(BPE::default());
        hub.with_pre_tokenizer(Some(level)).with_decoder(Some(level));
        learn("train bpe", texts, |texts| hub.train(&mut trainer, texts).map(|_| ()))?;
        let json = guard("train bpe", || hub.to_string(false))?;
        Self::from_json(json)?.named(specials)
    }

    /// GPT-2's own two files: `encoder.json` or `vocab.json`, and `vocab.bpe` or `merges.txt`.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not what its name says.
    pub fn from_gpt2(vocabulary: &Path, merges: &Path) -> Result<Self> {
        let text = files::read_text("read tokenizer", vocabulary)?;
        let bad = |path: &Path, why: String| {
            Error::new(Kind::Format, "read tokenizer", format!("{}: {why}", path.display()))
        };
        let vocab: serde_json::Map<String, Value> =
            serde_json::from_str(&text).map_err(|e| bad(vocabulary, e.to_string()))?;
        let mut pairs = vec![];
        let text = files::read_text("read tokenizer", merges)?;
        for (number, line) in text.lines().enumerate() {
            // Only the first line is a comment; "# #" is a merge.
            if line.is_empty() || (number == 0 && line.starts_with("#version")) {
                continue;
            }
            if line.split(' ').filter(|part| !part.is_empty()).count() != 2 {
                let why = format!("line {}: {line:?} is not two tokens", number + 1);
                return Err(bad(merges, why).hint("give vocab.bpe or merges.txt as second file"));
            }
            pairs.push(Value::from(line));
        }
        let mut added = vec![];
        for name in ["<s>", "<pad>", "</s>", "<unk>", "<|endoftext|>"] {
            if let Some(id) = vocab.get(name).and_then(Value::as_u64) {
                added.push(special_token(id as usize, name));
            }
        }
        let level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
        });
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": level, "post_processor": null, "decoder": level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": pairs,
            },
        });
        Self::from_json(file.to_string()).map_err(|e| {
            e.fact(format!("made from {} and {}", vocabulary.display(), merges.display()))
        })
    }
}

/// Runs a trainer on texts that may fail to be read.
pub(super) fn learn<S, I>(
    operation: &'static str,
    texts: I,
    run: impl FnOnce(&mut (dyn Iterator<Item = S> + Send)) -> tokenizers::Result<()>,
) -> Result<()>
where
    S: AsRef<str> + Send,
    I: IntoIterator<Item = Result<S>>,
    I::IntoIter: Send,
{
    // The trainer's iterator yields plain texts: the first error ends it and is kept here.
    let failed = Mutex::new(None);
    let bytes = AtomicUsize::new(0);
    let mut plain = texts.into_iter().map_while(|text| match text {
        Ok(text) => {
            bytes.fetch_add(text.as_ref().len(), Ordering::Relaxed);
            Some(text)
        }
        Err(e) => {
            *failed.lock().unwrap_or_else(|p| p.into_inner()) = Some(e);
            None
        }
    });
    guard(operation, || run(&mut plain))?;
    if let Some(e) = failed.into_inner().unwrap_or_else(|p| p.into_inner()) {
        return Err(e);
    }
    match bytes.into_inner() {
        0 => Err(Error::new(Kind::Input, operation, "the text is empty; nothing to learn")),
        _ => Ok(()),
    }
}
