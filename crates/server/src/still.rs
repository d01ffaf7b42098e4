//! The data of a figure, as an exported page wants them: for `export::page` without a browser.

use crate::inside::{Answer, Fault, HeadAt, Inside, Pattern, Prompt, Stack};
use crate::maps;
use serde_json::{Map, Value, json};

/// Bytes of all heads together up to which they are all written.
const ALL_HEADS: usize = 4_000_000;

/// What the view `attention` shows: all thumbnails of a stack, and all its heads or, where that is too much, one.
///
/// # Errors
/// As [`Inside::pattern`].
pub fn attention(inside: &mut dyn Inside, prompt: &Prompt, at: &HeadAt) -> Answer<Value> {
    let stacks = inside.card().stacks;
    let found: Option<&Stack> = stacks.iter().find(|s| s.name == at.stack);
    let stack = found.ok_or_else(|| Fault::input(format!("no stack is named {:?}", at.stack)))?;
    let tokens = inside.tokens(prompt)?;
    let words = |tokens: Vec<crate::inside::Token>| -> Vec<String> {
        tokens.into_iter().map(|t| t.text).collect()
    };
    let (text, source) = (words(tokens.text), words(tokens.source));
    let queries = if stack.from_source { &source } else { &text };
    let keys = if stack.to_source { &source } else { &text };
    let all = 2 * queries.len() * keys.len() * stack.layers * stack.heads < ALL_HEADS;
    let (mut thumbs, mut heads) = (vec![], Map::new());
    // Asked first: a head that is not there is found before any work.
    heads.insert(format!("{}.{}", at.layer, at.head), packed(&inside.pattern(prompt, at)?));
    for layer in 0..stack.layers {
        let (mut bytes, mut size) = (vec![], (0, 0));
        for head in 0..stack.heads {
            let here = HeadAt { stack: stack.name.clone(), layer, head };
            let pattern = inside.pattern(prompt, &here)?;
            size = maps::thumb_size(&pattern);
            bytes.extend(maps::thumb(&pattern));
            if all {
                heads.insert(format!("{layer}.{head}"), packed(&pattern));
            }
        }
        thumbs.push(json!({ "rows": size.0, "columns": size.1, "bytes": base64(&bytes) }));
    }
    Ok(json!({
        "stacks": [stack], "text": text, "source": source, "at": at,
        "queries": queries, "keys": keys, "thumbs": thumbs, "heads": heads,
    }))
}

/// What the view `lens` shows: the last positions of a text.
///
/// # Errors
/// As [`Inside::lens`].
pub fn lens(inside: &mut dyn Inside, prompt: &Prompt, most: usize) -> Answer<Value> {
    let words: Vec<String> = inside.tokens(prompt)?.text.into_iter().map(|t| t.text).collect();
    let from = words.len().saturating_sub(most);
    let lens = inside.lens(prompt, from..words.len(), 10)?;
    Ok(json!({
        "words": words, "width": words.len() - from,
        "from": from, "depths": lens.depths, "cells": lens.cells,
    }))
}

/// Weights in 16 bits each, as text.
fn packed(pattern: &Pattern) -> Value {
    let short = |w: &f32| (w.clamp(0.0, 1.0) * 65535.0).round() as u16;
    let bytes: Vec<u8> = pattern.weights.iter().flat_map(|w| short(w).to_le_bytes()).collect();
    base64(&bytes).into()
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let byte = |i: usize| u32::from(part.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= part.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[251, 255, 254]), "+//+");
    }

    #[test]
    fn figures_hold_what_their_views_read() {
        let prompt = Prompt { text: "one two three".into(), source: String::new() };
        let at = HeadAt { stack: "decoder".into(), layer: 1, head: 2 };
        let mut fake = Fake::new(2, 3);
        let data = attention(&mut fake, &prompt, &at).unwrap();
        assert_eq!(data["heads"].as_object().unwrap().len(), 6);
        assert_eq!(data["heads"]["1.2"].as_str().unwrap().len(), 24);
        assert_eq!(data["thumbs"][1]["bytes"].as_str().unwrap().len(), 36);
        assert_eq!(data["queries"], json!(["one", " two", " three"]));
        let lost = HeadAt { layer: 2, ..at.clone() };
        assert!(attention(&mut fake, &prompt, &lost).is_err());
        let long = Prompt { text: "w ".repeat(700), source: String::new() };
        let data = attention(&mut fake, &long, &at).unwrap();
        assert_eq!(data["heads"].as_object().unwrap().len(), 1, "too large for all");
        let data = lens(&mut fake, &prompt, 2).unwrap();
        assert_eq!((&data["from"], &data["width"]), (&json!(1), &json!(2)));
        assert_eq!(data["cells"].as_array().unwrap().len(), 3);
    }
}
