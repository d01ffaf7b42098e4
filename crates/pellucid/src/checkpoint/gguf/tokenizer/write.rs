//! A `tokenizer.json` to keys.

use super::super::EXPORT;
use super::super::writer::Keys;
use super::{BYTE, CONTROL, NORMAL, SPACE, Split, UNKNOWN, UNUSED, USER_DEFINED, WHOLE};
use crate::checkpoint::folder::ids_of_tokenizer;
use crate::error::{Error, Kind, Result};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Writes the text as it stands and, where llama.cpp has words for it, in its words.
pub(in super::super) fn write(text: Option<&str>, vocab: usize, keys: &mut Keys) -> Result<()> {
    let Some(text) = text else {
        keys.text("tokenizer.ggml.model", "none");
        return Ok(());
    };
    let refuse = |message: String| Error::new(Kind::Config, EXPORT, message);
    let Some(ids) = ids_of_tokenizer(text) else {
        return Err(refuse("the text given is no tokenizer.json".into()));
    };
    if ids > vocab as u64 {
        let message =
            format!("the tokenizer has ids up to {}, but the model's vocab = {vocab}", ids - 1);
        return Err(refuse(message).hint("the tokenizer belongs to another model"));
    }
    keys.text(WHOLE, text);
    let json: Value = serde_json::from_str(text)
        .map_err(|e| refuse(format!("the tokenizer is not JSON: {e}")).source(e))?;
    if words(&json, vocab, keys).is_none() {
        keys.text("tokenizer.ggml.model", "none");
    }
    Ok(())
}

/// Nothing is written where it returns none.
fn words(json: &Value, vocab: usize, keys: &mut Keys) -> Option<()> {
    let model = &json["model"];
    let affixes = ["continuing_subword_prefix", "end_of_word_suffix"];
    let plain = affixes.iter().all(|key| model[key].as_str().unwrap_or_default().is_empty());
    if model["type"].as_str().unwrap_or("BPE") != "BPE" || !plain {
        return None;
    }
    let mut merges = vec![];
    for merge in model["merges"].as_array()? {
        let (a, b) = match merge {
            Value::String(line) => line.split_once(' ')?,
            pair => (pair[0].as_str()?, pair[1].as_str()?),
        };
        if a.contains(' ') || b.contains(' ') {
            return None;
        }
        merges.push((a, b));
    }
    let (tokens, types) = tokens(json, vocab)?;
    match split_of(json) {
        Some(split) => {
            keys.text("tokenizer.ggml.model", "gpt2");
            keys.text("tokenizer.ggml.pre", split.names()[0]);
            let lines: Vec<String> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
            keys.texts("tokenizer.ggml.merges", lines.len(), lines.iter().map(String::as_str));
        }
        None => {
            let prefix = prefix_of(json)?;
            let scores = scores(&tokens, &types, &merges)?;
            keys.text("tokenizer.ggml.model", "llama");
            keys.text("tokenizer.ggml.pre", "default");
            keys.singles("tokenizer.ggml.scores", &scores);
            keys.flag("tokenizer.ggml.add_space_prefix", prefix);
            if let Some(id) = types.iter().position(|&kind| kind == UNKNOWN) {
                keys.size("tokenizer.ggml.unknown_token_id", id);
            }
        }
    }
    keys.texts("tokenizer.ggml.tokens", tokens.len(), tokens.iter().map(String::as_str));
    keys.signeds("tokenizer.ggml.token_type", &types);
    let template = template_of(json);
    let special =
        |place: Option<&Value>| place.is_some_and(|part| part["SpecialToken"].is_object());
    keys.flag("tokenizer.ggml.add_bos_token", special(template.and_then(|t| t.first())));
    keys.flag("tokenizer.ggml.add_eos_token", special(template.and_then(|t| t.last())));
    Some(())
}

/// Every id's text and type; ids without are unused.
fn tokens(json: &Value, vocab: usize) -> Option<(Vec<String>, Vec<i32>)> {
    let model = &json["model"];
    let mut all: Vec<_> = (0..vocab).map(|id| (format!("[PAD{id}]"), UNUSED)).collect();
    let bytes = model["byte_fallback"] == json!(true);
    let is_byte =
        |text: &str| bytes && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
    for (text, id) in model["vocab"].as_object()? {
        let kind = if is_byte(text) { BYTE } else { NORMAL };
        *all.get_mut(id.as_u64()? as usize)? = (text.clone(), kind);
    }
    for token in json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice) {
        let kind = if token["special"] == json!(true) { CONTROL } else { USER_DEFINED };
        let place = all.get_mut(token["id"].as_u64()? as usize)?;
        *place = (token["content"].as_str()?.into(), kind);
    }
    if let Some(unknown) = model["unk_token"].as_str() {
        all.iter_mut().filter(|(text, _)| text == unknown).for_each(|(_, kind)| *kind = UNKNOWN);
    }
    Some(all.into_iter().unzip())
}

/// How a byte-level tokenizer splits, if one of ours is exactly that.
fn split_of(json: &Value) -> Option<Split> {
    let told = &json["pre_tokenizer"];
    let parts = match told["type"].as_str()? {
        "Sequence" => told["pretokenizers"].as_array()?.iter().collect(),
        _ => vec![told],
    };
    // What changes offsets only is no part of it.
    let bare = |part: &Value| {
        let mut part = part.clone();
        part.as_object_mut().map(|map| map.remove("trim_offsets"));
        part
    };
    let fits = |split: &Split| {
        let own = split.pre_tokenizer();
        let own = match own["pretokenizers"].as_array() {
            Some(parts) => parts.iter().map(bare).collect::<Vec<_>>(),
            None => vec![bare(&own)],
        };
        let normalizer = &json["normalizer"];
        own == parts.iter().map(|part| bare(part)).collect::<Vec<_>>()
            && (normalizer.is_null() || *normalizer == split.normalizer())
    };
    let level = json["decoder"]["type"] == json!("ByteLevel");
    Split::ALL.into_iter().find(fits).filter(|_| level)
}

/// Whether a SentencePiece tokenizer puts a space before a text; none if it is no such tokenizer.
fn prefix_of(json: &Value) -> Option<bool> {
    if json["model"]["byte_fallback"] != json!(true) {
        return None;
    }
    let (normalizer, splitter) = (&json["normalizer"], &json["pre_tokenizer"]);
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let prepend = json!({"type": "Prepend", "prepend": SPACE});
    if splitter.is_null() {
        let both = json!({"type": "Sequence", "normalizers": [prepend, spaces]});
        return [(both, true), (spaces, false)]
            .into_iter()
            .find(|(n, _)| n == normalizer)
            .map(|f| f.1);
    }
    let metaspace = splitter["type"] == json!("Metaspace")
        && splitter["replacement"] == json!(SPACE)
        && splitter["split"] == json!(false)
        && normalizer.is_null();
    match splitter["prepend_scheme"].as_str().filter(|_| metaspace)? {
        "never" => Some(false),
        _ => Some(true),
    }
}

/// The later a token's merges come, the less it scores; those of tokens that score the same come together. None if the
/// reader would not find the same merges again.
fn scores(tokens: &[String], types: &[i32], merges: &[(&str, &str)]) -> Option<Vec<f32>> {
    let merged: Vec<String> = merges.iter().map(|(a, b)| [*a, *b].concat()).collect();
    let last: HashMap<&str, usize> =
        merged.iter().enumerate().map(|(i, token)| (token.as_str(), i)).collect();
    let mut ranks: HashMap<&str, usize> = HashMap::with_capacity(last.len());
    let (mut rank, mut end) = (0, 0);
    for (i, token) in merged.iter().enumerate() {
        if i > end {
            rank += 1;
        }
        end = end.max(last[token.as_str()]);
        ranks.insert(token, rank);
    }
    let score = |token: &String| -(*ranks.get(token.as_str()).unwrap_or(&(rank + 1)) as f32);
    let scores: Vec<f32> = tokens.iter().map(score).collect();
    let list = tokens.iter().zip(types).enumerate();
    let list: Vec<_> = list.map(|(id, (text, kind))| (text.as_str(), *kind, id)).collect();
    let wide: Vec<f64> = scores.iter().map(|&score| score.into()).collect();
    (super::read::merges(&list, &wide) == merges).then_some(scores)
}

/// What stands around a single text.
fn template_of(json: &Value) -> Option<&Vec<Value>> {
    let processor = &json["post_processor"];
    let inner = processor["processors"].as_array();
    let all = inner.map_or(std::slice::from_ref(processor), Vec::as_slice);
    all.iter().find(|p| p["type"] == json!("TemplateProcessing"))?["single"].as_array()
}
