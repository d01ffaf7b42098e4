//! BERT's tokenizer: words, and pieces of words that begin with `##`.
//!
//! Devlin et al. 2019; the pieces are learned by merging frequent pairs, as Hugging Face's trainer
//! does, since Google's own was not published.

use super::bpe::learn;
use super::characters::special_token;
use super::special::Specials;
use super::tokenizer::{Tokenizer, guard};
use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::tokenizer::{Normalizer, PreTokenizer};
use tokenizers::{
    AddedToken, Model, NormalizedString, OffsetReferential, OffsetType, PreTokenizedString,
    Tokenizer as Hub, Trainer,
};

const TRAIN: &str = "train word pieces";
const READ: &str = "read tokenizer";

/// BERT's special tokens, in the order of their ids.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Most characters that are learned; rarer ones become `[UNK]`, as in BERT's own trainer.
const ALPHABET: usize = 1000;

/// How BERT's tokenizer reads a text before it looks for words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordPieceOptions {
    /// Makes letters small.
    pub lowercase: bool,
    /// Takes accents off; `None`: where letters are made small, as in BERT.
    pub strip_accents: Option<bool>,
    /// Makes each Chinese character a word.
    pub chinese: bool,
}

impl Default for WordPieceOptions {
    /// As in `bert-base-uncased`.
    fn default() -> Self {
        Self { lowercase: true, strip_accents: None, chinese: true }
    }
}

impl Tokenizer {
    /// Learns a WordPiece vocabulary of at most `vocab_size` ids, of which the first five are
    /// `[PAD] [UNK] [CLS] [SEP] [MASK]`, from a stream of texts. The template is BERT's:
    /// `[CLS] … [SEP]`, and `[CLS] … [SEP] … [SEP]` for pairs. The same texts give the same
    /// vocabulary.
    ///
    /// # Errors
    /// A vocabulary too small for the characters of the text; the first error among the texts; no
    /// text.
    pub fn train_word_piece<S, I>(
        texts: I,
        vocab_size: usize,
        options: WordPieceOptions,
    ) -> Result<Self>
    where
        S: AsRef<str> + Send,
        I: IntoIterator<Item = Result<S>>,
        I::IntoIter: Send,
    {
        // A vocabulary cannot be empty, nor a tokenizer be without its unknown token.
        let mut vocab = Map::new();
        for (id, name) in SPECIAL.iter().enumerate() {
            vocab.insert((*name).into(), id.into());
        }
        let start = file(&vocab, options).to_string();
        let hub: Hub = guard(TRAIN, || start.parse())?;
        let mut trainer = WordPieceTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .build();
        let mut seen = Mutex::default();
        learn(TRAIN, texts, |texts| trainer.feed(texts, |text| words(&hub, text, &seen)))?;
        give_letters(&mut trainer, seen.get_mut().unwrap_or_else(|p| p.into_inner()));
        let mut model = WordPiece::default();
        guard(TRAIN, || trainer.train(&mut model))?;
        let mut words: Vec<(String, u32)> = model.get_vocab().into_iter().collect();
        words.sort_by_key(|&(_, id)| id);
        if words.len() > vocab_size {
            let message = format!(
                "vocabulary of {vocab_size}; the characters of the text and the special tokens need {}",
                words.len()
            );
            return Err(Error::new(Kind::Config, TRAIN, message)
                .fact("a character has one id where it begins a word and one where it does not")
                .hint(format!("ask for more than {}", words.len())));
        }
        let vocab: Map<String, Value> =
            words.into_iter().map(|(word, id)| (word, id.into())).collect();
        Self::from_json(file(&vocab, options).to_string())?.named(&specials())
    }

    /// BERT's `vocab.txt`, one token a line. `config` is the `tokenizer_config.json`, or null.
    pub(super) fn from_vocab_txt(path: &Path, config: &Value) -> Result<Self> {
        let bad = |line: usize, why: &str| {
            Error::new(Kind::Format, READ, format!("{}:{}: {why}", path.display(), line + 1))
        };
        let mut vocab = Map::new();
        for (id, token) in files::read_text(READ, path)?.lines().enumerate() {
            let token = token.trim_end();
            if token.is_empty() {
                return Err(bad(id, "an empty line").hint("one token a line"));
            }
            if let Some(first) = vocab.insert(token.into(), id.into()) {
                return Err(bad(id, &format!("{token:?} is already the token with id {first}")));
            }
        }
        if !vocab.contains_key("[UNK]") {
            let message = format!("{}: no [UNK] in it", path.display());
            return Err(Error::new(Kind::Format, READ, message)
                .hint("this reads the vocab.txt of BERT; other tokenizers have a tokenizer.json"));
        }
        let flag = |name: &str| config[name].as_bool();
        let options = WordPieceOptions {
            lowercase: flag("do_lower_case").unwrap_or(true),
            strip_accents: flag("strip_accents"),
            chinese: flag("tokenize_chinese_chars").unwrap_or(true),
        };
        Self::from_json(file(&vocab, options).to_string())?.named(&specials())
    }
}

/// How often each character occurs, and whether inside a word.
type Letters = HashMap<char, (u64, bool)>;

/// The words of a text; counts their characters.
fn words(hub: &Hub, text: &str, seen: &Mutex<Letters>) -> tokenizers::Result<Vec<String>> {
    let mut normal = NormalizedString::from(text);
    if let Some(normalizer) = hub.get_normalizer() {
        normalizer.normalize(&mut normal)?;
    }
    let mut cut = PreTokenizedString::from(normal);
    if let Some(splitter) = hub.get_pre_tokenizer() {
        splitter.pre_tokenize(&mut cut)?;
    }
    let splits = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let words: Vec<String> = splits.into_iter().map(|(word, ..)| word.to_owned()).collect();
    let mut here = Letters::new();
    for word in &words {
        for (at, c) in word.chars().enumerate() {
            let (count, inside) = here.entry(c).or_default();
            *count += 1;
            *inside |= at > 0;
        }
    }
    let mut seen = seen.lock().unwrap_or_else(|p| p.into_inner());
    for (c, (count, inside)) in here {
        let sum = seen.entry(c).or_default();
        *sum = (sum.0 + count, sum.1 | inside);
    }
    Ok(words)
}

/// Tells the trainer the characters and their forms inside a word, in order. Left to itself it
/// numbers the latter as they come out of a hash map, so that no two runs would agree.
fn give_letters(trainer: &mut WordPieceTrainer, seen: &Letters) {
    let mut letters: Vec<(char, u64, bool)> =
        seen.iter().map(|(&c, &(count, inside))| (c, count, inside)).collect();
    letters.sort_by_key(|&(c, count, _)| (Reverse(count), c));
    letters.truncate(ALPHABET);
    letters.sort_by_key(|&(c, ..)| c);
    let inside = letters.iter().filter(|(.., inside)| *inside).map(|(c, ..)| format!("##{c}"));
    let names = SPECIAL.iter().map(|&name| name.to_owned()).chain(inside);
    trainer.set_special_tokens(names.map(|name| AddedToken::from(name, true)).collect());
    trainer.set_limit_alphabet(Some(letters.len()));
    trainer.set_initial_alphabet(letters.into_iter().map(|(c, ..)| c).collect());
}

fn specials() -> Specials {
    let [pad, unk, cls, sep, mask] = SPECIAL.map(|name| Some(name.to_owned()));
    Specials { bos: None, eos: None, unk, pad, cls, sep, mask }
}

/// The `tokenizer.json` of a vocabulary.
fn file(vocab: &Map<String, Value>, options: WordPieceOptions) -> Value {
    let id = |name: &str| vocab.get(name).and_then(Value::as_u64);
    let added: Vec<Value> =
        SPECIAL.iter().filter_map(|name| Some(special_token(id(name)? as usize, name))).collect();
    let template = match (id("[CLS]"), id("[SEP]")) {
        (Some(cls), Some(sep)) => template(cls, sep),
        _ => Value::Null,
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": options.chinese,
            "strip_accents": options.strip_accents, "lowercase": options.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    })
}

/// `[CLS] A [SEP]`, and `[CLS] A [SEP] B [SEP]` whose last two are segment 1.
fn template(cls: u64, sep: u64) -> Value {
    let special =
        |name: &str, segment: u64| json!({"SpecialToken": {"id": name, "type_id": segment}});
    let text = |name: &str, segment: u64| json!({"Sequence": {"id": name, "type_id": segment}});
    let token = |name: &str, id: u64| json!({"id": name, "ids": [id], "tokens": [name]});
    let single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)];
    let mut pair = single.to_vec();
    pair.extend([text("B", 1), special("[SEP]", 1)]);
    json!({
        "type": "TemplateProcessing", "single": single, "pair": pair,
        "special_tokens": {"[CLS]": token("[CLS]", cls), "[SEP]": token("[SEP]", sep)},
    })
}
