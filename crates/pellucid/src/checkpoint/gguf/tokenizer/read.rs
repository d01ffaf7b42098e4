//! Keys to a `tokenizer.json`.

use super::super::meta::Meta;
use super::{BYTE, CONTROL, NORMAL, SPACE, Split, UNKNOWN, USER_DEFINED, WHOLE};
use crate::checkpoint::folder::ids_of_tokenizer;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Longest token that is looked at for merges; SentencePiece's own have 16 characters.
const LONGEST: usize = 1024;

/// The text, if there is a tokenizer that can be said so. What contradicts itself is a fault.
pub(in super::super) fn read(meta: &mut Meta<'_>, vocab: usize) -> Option<String> {
    if let Some(text) = meta.text(WHOLE) {
        let ids = ids_of_tokenizer(text);
        match ids {
            Some(ids) if ids <= vocab as u64 => {}
            Some(ids) => meta.fault(format!(
                "{WHOLE} has ids up to {}, but the model's vocab = {vocab}",
                ids - 1
            )),
            None => meta.fault(format!("{WHOLE} is no tokenizer")),
        }
        return Some(text.into());
    }
    let kind = meta.text("tokenizer.ggml.model")?;
    let split = match kind {
        "llama" => None,
        "gpt2" => {
            // Old files do not say it, and only of GPT-2 is it known.
            let usual = (meta.architecture() == "gpt2").then_some("gpt-2");
            let name = meta.text("tokenizer.ggml.pre").or(usual)?;
            Some(Split::ALL.into_iter().find(|split| split.names().contains(&name))?)
        }
        _ => return None,
    };
    let tokens = Tokens::read(meta, vocab)?;
    match split {
        Some(split) => byte_level(meta, &tokens, split),
        None => sentence_piece(meta, &tokens),
    }
    .map(|json| json.to_string())
}

/// The vocabulary, without what only fills it up.
struct Tokens<'a> {
    /// Text, type, id.
    list: Vec<(&'a str, i32, usize)>,
    ids: HashMap<&'a str, usize>,
    count: usize,
}

impl<'a> Tokens<'a> {
    fn read(meta: &mut Meta<'a>, vocab: usize) -> Option<Self> {
        let Some(tokens) = meta.texts("tokenizer.ggml.tokens") else {
            meta.fault("tokenizer.ggml.tokens is missing");
            return None;
        };
        let count = tokens.len();
        if count > vocab {
            meta.fault(format!(
                "tokenizer.ggml.tokens has {count}, but the model's vocab = {vocab}"
            ));
        }
        let types =
            meta.reals("tokenizer.ggml.token_type").unwrap_or(vec![f64::from(NORMAL); count]);
        if types.len() != count {
            meta.fault(format!(
                "tokenizer.ggml.token_type has {} types of {count} tokens",
                types.len()
            ));
            return None;
        }
        let kept = |(id, text): (usize, &'a String)| {
            let filler = text.strip_prefix("[PAD").and_then(|rest| rest.strip_suffix(']'));
            let filler = filler.is_some_and(|number| number.parse() == Ok(id));
            (!filler).then_some((text.as_str(), types[id] as i32, id))
        };
        let list: Vec<_> = tokens.iter().enumerate().filter_map(kept).collect();
        let mut ids = HashMap::with_capacity(list.len());
        list.iter().for_each(|&(text, _, id)| {
            ids.entry(text).or_insert(id);
        });
        Some(Self { list, ids, count })
    }

    fn vocabulary(&self) -> Map<String, Value> {
        let first = self.list.iter().filter(|(text, _, id)| self.ids.get(text) == Some(id));
        first.map(|&(text, _, id)| (text.to_owned(), json!(id))).collect()
    }

    fn added(&self) -> Value {
        let special = |kind: i32| match kind {
            CONTROL | UNKNOWN => Some(true),
            USER_DEFINED => Some(false),
            _ => None,
        };
        let added = |&(text, kind, id): &(&str, i32, usize)| {
            Some(json!({
                "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special(kind)?,
            }))
        };
        self.list.iter().filter(|(text, ..)| !text.is_empty()).filter_map(added).collect()
    }

    fn text(&self, id: u32) -> Option<&'a str> {
        self.list.iter().find(|(.., own)| *own == id as usize).map(|(text, ..)| *text)
    }

    /// What is put around a text, if anything.
    fn template(&self, meta: &mut Meta<'_>, begins: bool) -> Option<Value> {
        let mut token = |key: &str, default: bool| {
            let wanted = meta.flag(&format!("tokenizer.ggml.add_{key}_token")).unwrap_or(default);
            let id = meta.id(&format!("tokenizer.ggml.{key}_token_id")).filter(|_| wanted)?;
            Some((id, self.text(id)?))
        };
        let around = [token("bos", begins), token("eos", false)];
        if around == [None, None] {
            return None;
        }
        let mut special = Map::new();
        for (id, text) in around.iter().flatten() {
            special.insert((*text).into(), json!({"id": text, "ids": [id], "tokens": [text]}));
        }
        let place = |token: &Option<(u32, &str)>, kind: u8| {
            token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": kind}}))
        };
        let text = |name: &str, kind: u8| {
            let text = json!({"Sequence": {"id": name, "type_id": kind}});
            [place(&around[0], kind), Some(text), place(&around[1], kind)].into_iter().flatten()
        };
        let single: Value = text("A", 0).collect();
        let pair: Value = text("A", 0).chain(text("B", 1)).collect();
        Some(json!({
            "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special,
        }))
    }
}

fn byte_level(meta: &mut Meta<'_>, tokens: &Tokens<'_>, split: Split) -> Option<Value> {
    let Some(lines) = meta.texts("tokenizer.ggml.merges") else {
        meta.fault("tokenizer.ggml.merges is missing");
        return None;
    };
    let mut merges = Vec::with_capacity(lines.len());
    for (i, line) in lines.iter().enumerate() {
        // The first character is never the one between.
        let first = line.chars().next().map_or(0, char::len_utf8);
        let pair = line[first..].find(' ').map(|at| (&line[..first + at], &line[first + at + 1..]));
        let known = |text: &str| tokens.ids.contains_key(text);
        match pair {
            Some((a, b)) if known(a) && known(b) && known(&format!("{a}{b}")) => {
                merges.push(json!([a, b]));
            }
            _ => {
                meta.fault(format!(
                    "tokenizer.ggml.merges[{i}] = {line:?} is no pair of tokens that is one"
                ));
                return None;
            }
        }
    }
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let template = tokens.template(meta, split == Split::Llama3);
    let processor = match template {
        Some(template) => json!({"type": "Sequence", "processors": [level, template]}),
        None => level.clone(),
    };
    Some(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": split.normalizer(),
        "pre_tokenizer": split.pre_tokenizer(),
        "post_processor": processor,
        "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": split.ignores_merges(), "vocab": tokens.vocabulary(), "merges": merges,
        },
    }))
}

/// The merges behind scores. Two pieces become one wherever the one is a token, that of the greatest score first: all
/// ways to cut each token in two, in this order (`transformers` converts SentencePiece's files the same way). Tokens are
/// text, type, id; scores are by id.
pub(super) fn merges<'a>(
    tokens: &[(&'a str, i32, usize)],
    scores: &[f64],
) -> Vec<(&'a str, &'a str)> {
    let plain = |kind: i32| matches!(kind, NORMAL | USER_DEFINED);
    let all = tokens.iter().filter(|(text, kind, _)| plain(*kind) && text.len() <= LONGEST);
    let ids: HashMap<&str, usize> = all.clone().map(|&(text, _, id)| (text, id)).collect();
    let mut merges = vec![];
    for &(text, _, id) in all {
        let start = merges.len();
        for (at, _) in text.char_indices().skip(1) {
            let (a, b) = text.split_at(at);
            if let (Some(&left), Some(&right)) = (ids.get(a), ids.get(b)) {
                merges.push((scores[id], a, b, left, right));
            }
        }
        merges[start..].sort_by_key(|&(.., left, right)| (left, right));
    }
    let letters = |text: &str| text.chars().count();
    merges.sort_by(|a, b| {
        let lengths = (letters(b.1), letters(b.2)).cmp(&(letters(a.1), letters(a.2)));
        b.0.total_cmp(&a.0).then(lengths)
    });
    merges.into_iter().map(|(_, a, b, ..)| (a, b)).collect()
}

fn sentence_piece(meta: &mut Meta<'_>, tokens: &Tokens<'_>) -> Option<Value> {
    let scores = meta.reals("tokenizer.ggml.scores").unwrap_or_default();
    if scores.len() != tokens.count {
        let (found, wanted) = (scores.len(), tokens.count);
        meta.fault(format!("tokenizer.ggml.scores has {found} scores of {wanted} tokens"));
        return None;
    }
    let merges = merges(&tokens.list, &scores);
    let merges: Vec<Value> = merges.into_iter().map(|(a, b)| json!([a, b])).collect();
    let unknown = meta.id("tokenizer.ggml.unknown_token_id").and_then(|id| tokens.text(id));
    let unknown = unknown.or_else(|| {
        tokens.list.iter().find(|(_, kind, _)| *kind == UNKNOWN).map(|(text, ..)| *text)
    });
    let prefix = meta.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let normalizer = match prefix {
        true => {
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, spaces]})
        }
        false => spaces,
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let bytes = tokens.list.iter().any(|(_, kind, _)| *kind == BYTE);
    Some(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": tokens.template(meta, true),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": bytes,
            "ignore_merges": false, "vocab": tokens.vocabulary(), "merges": merges,
        },
    }))
}
