//! The lists of tokens, and the one list that stands for both.

use super::settings::Settings;
use super::{IMPORT, fault};
use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// The tokens of both sides by our ids.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) tokens: Vec<String>,
    /// Of each id, its row in the source's table; none: zeros.
    pub(super) source: Vec<Option<usize>>,
    /// The same of the target's table.
    pub(super) target: Vec<Option<usize>>,
    /// The token whose vector is zero, with which the decoder starts.
    pub(super) zero: Option<u32>,
    /// How many ids the decoder may write: the first so many.
    pub(super) written: usize,
}

/// The source's tokens and the target's.
pub(super) fn read(folder: &Path, unknown: &str) -> Result<(Vec<String>, Vec<String>)> {
    if let Some(shared) = list(folder, "shared", unknown)? {
        return Ok((shared.clone(), shared));
    }
    let one = |side: &str| {
        list(folder, side, unknown)?.ok_or_else(|| {
            let message =
                format!("{}: neither shared_vocabulary nor {side}_vocabulary", folder.display());
            Error::new(Kind::Io, IMPORT, message)
                .hint("put the file (.json or .txt) beside model.bin, as the converter writes it")
        })
    };
    Ok((one("source")?, one("target")?))
}

/// The tokens of one file, to which CTranslate2 adds the unknown one where it is absent.
fn list(folder: &Path, side: &str, unknown: &str) -> Result<Option<Vec<String>>> {
    let of = |end: &str| Some(folder.join(format!("{side}_vocabulary.{end}")));
    let (path, mut tokens) = if let Some(path) = of("json").filter(|p| p.exists()) {
        let text = files::read_text(IMPORT, &path)?;
        let list = serde_json::from_str::<Vec<String>>(&text).map_err(|e| {
            fault(format!("{}: not a list of texts: {e}", path.display())).source(e)
        })?;
        (path, list)
    } else if let Some(path) = of("txt").filter(|p| p.exists()) {
        let text = files::read_text(IMPORT, &path)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let list = text.split('\n').map(str::to_owned).collect();
        (path, list)
    } else {
        return Ok(None);
    };
    let mut lines = HashMap::new();
    for (i, token) in tokens.iter().enumerate() {
        if let Some(first) = lines.insert(token.as_str(), i + 1) {
            let message =
                format!("{}: token {} is {token:?}, as is {first}", path.display(), i + 1);
            return Err(fault(message).hint("a token has one id; rename one of them"));
        }
    }
    if !lines.contains_key(unknown) {
        tokens.push(unknown.to_owned());
    }
    Ok(Some(tokens))
}

impl Joined {
    /// The target's tokens, those that only the source has, and where the decoder starts with zeros a token for that.
    /// A token that a side has not is to it the unknown one.
    pub(super) fn new(
        source: &[String],
        target: &[String],
        unknown: &str,
        starts_with_zeros: bool,
    ) -> Self {
        let rows = |tokens: &[String]| -> HashMap<String, usize> {
            tokens.iter().enumerate().map(|(row, token)| (token.clone(), row)).collect()
        };
        let (of_source, of_target) = (rows(source), rows(target));
        let only = source.iter().filter(|token| !of_target.contains_key(*token));
        let mut tokens: Vec<String> = target.iter().chain(only).cloned().collect();
        let find = |rows: &HashMap<String, usize>| -> Vec<Option<usize>> {
            let row = |token: &String| rows.get(token).or_else(|| rows.get(unknown)).copied();
            tokens.iter().map(row).collect()
        };
        let (mut source, mut target) = (find(&of_source), find(&of_target));
        let mut zero = None;
        if starts_with_zeros {
            // transformers' Marian has this token, of this name and in this place.
            let free =
                |name: &String| !of_source.contains_key(name) && !of_target.contains_key(name);
            let others = (0..).map(|i| format!("<start{i}>"));
            let name = std::iter::once("<pad>".to_owned()).chain(others).find(free);
            zero = u32::try_from(tokens.len()).ok();
            tokens.extend(name);
            source.push(None);
            target.push(None);
        }
        Self { tokens, source, target, zero, written: of_target.len() }
    }

    pub(super) fn id(&self, token: &str) -> Option<u32> {
        let at = self.tokens.iter().position(|other| other == token)?;
        u32::try_from(at).ok()
    }

    /// Words between blanks are tokens. The template always stands there: one that adds nothing says so.
    pub(super) fn tokenizer(&self, settings: &Settings) -> String {
        let special = [Some(&settings.unknown), Some(&settings.bos), Some(&settings.eos)]
            .into_iter()
            .chain([settings.start.as_ref(), self.zero.map(|id| &self.tokens[id as usize])]);
        let mut special: Vec<u32> = special.flatten().filter_map(|token| self.id(token)).collect();
        special.sort_unstable();
        special.dedup();
        let added = |&id: &u32| {
            json!({
                "id": id, "content": self.tokens[id as usize], "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        };
        let vocab: serde_json::Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": special.iter().map(added).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": self.template(settings),
            "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": settings.unknown},
        });
        format!("{tokenizer:#}\n")
    }

    fn template(&self, settings: &Settings) -> Value {
        let around = [(settings.begins, &settings.bos), (settings.ends, &settings.eos)];
        let token = |i: usize| {
            let (added, token) = around[i];
            self.id(token).filter(|_| added).map(|id| (token, id))
        };
        let of = |i: usize, kind: usize| {
            token(i).map(|(token, _)| json!({"SpecialToken": {"id": token, "type_id": kind}}))
        };
        let text = |id: &str, kind: usize| {
            let sequence = json!({"Sequence": {"id": id, "type_id": kind}});
            [of(0, kind), Some(sequence), of(1, kind)].into_iter().flatten().collect::<Vec<_>>()
        };
        let known: serde_json::Map<String, Value> = (0..2)
            .filter_map(token)
            .map(|(token, id)| {
                (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}))
            })
            .collect();
        let pair = [text("A", 0), text("B", 1)].concat();
        json!({
            "type": "TemplateProcessing",
            "single": text("A", 0),
            "pair": pair,
            "special_tokens": known,
        })
    }
}
