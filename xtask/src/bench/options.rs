//! What was asked for; anything unknown is an error.

use crate::root;
use std::path::PathBuf;

/// Kinds of measurement.
pub(super) const KINDS: [&str; 5] = ["train", "decode", "prompt", "attention", "start"];
const PEERS: [&str; 3] = ["torch", "candle", "llama.cpp"];
/// Recipes of a training step that are decoders.
pub(super) const DECODERS: [&str; 3] = ["tiny", "nano", "gpt2"];
const RECIPES: [&str; 6] =
    ["tiny", "nano", "gpt2", "bert-mini", "transformer-tiny", "transformer-iwslt"];
const PRECISIONS: [&str; 2] = ["f32", "bf16"];
const WEIGHTS: [&str; 4] = ["f32", "bf16", "int8", "int4"];

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) kinds: Vec<String>,
    pub(super) python: Option<String>,
    pub(super) peers: Vec<String>,
    pub(super) gguf: Option<String>,
    pub(super) model: Option<String>,
    pub(super) recipes: Vec<String>,
    pub(super) precisions: Vec<String>,
    pub(super) weights: Vec<String>,
    pub(super) lengths: Vec<usize>,
    pub(super) rounds: usize,
    pub(super) steps: Option<usize>,
    /// In place of the presets', in a training step of an encoder or an encoder-decoder.
    pub(super) dropout: Option<String>,
    pub(super) tokens: usize,
    pub(super) limit: u64,
    /// A binary to measure in place of the one that is built.
    pub(super) pellucid: Option<String>,
    pub(super) name: Option<String>,
    pub(super) add: bool,
    /// Why candle does not run although asked for.
    pub(super) no_candle: Option<String>,
}

fn list(name: &str, value: &str, allowed: &[&str]) -> Result<Vec<String>, String> {
    let items: Vec<String> = value.split(',').map(|s| s.trim().to_string()).collect();
    match items.iter().find(|i| !allowed.contains(&i.as_str())) {
        Some(wrong) => Err(format!("{name}: {wrong:?} is none of {}", allowed.join(", "))),
        None => Ok(items),
    }
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    match value.trim().parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{name} wants a number above 0, not {value:?}")),
    }
}

fn share(name: &str, value: String) -> Result<String, String> {
    match value.parse::<f32>() {
        Ok(p) if (0.0..1.0).contains(&p) => Ok(value),
        _ => Err(format!("{name} wants a number from 0 and below 1, not {value:?}")),
    }
}

impl Options {
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let quick = arguments.iter().any(|a| a == "--quick");
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let longest = if quick { 4096 } else { 32768 };
        let mut o = Self {
            peers: owned(&["torch", "llama.cpp"]),
            recipes: owned(if quick { &["tiny", "gpt2", "transformer-tiny"] } else { &RECIPES }),
            precisions: owned(&PRECISIONS),
            weights: owned(&WEIGHTS),
            lengths: (10..16).map(|i| 1 << i).filter(|t| *t <= longest).collect(),
            rounds: if quick { 1 } else { 2 },
            steps: quick.then_some(2),
            tokens: if quick { 16 } else { 48 },
            limit: 240,
            ..Self::default()
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value =
                || rest.next().cloned().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--quick" => {}
                "--add" => o.add = true,
                "--python" => o.python = Some(value()?),
                "--gguf" => o.gguf = Some(value()?),
                "--model" => o.model = Some(value()?),
                "--pellucid" => o.pellucid = Some(value()?),
                "--name" => o.name = Some(value()?),
                "--peers" => o.peers = list(argument, &value()?, &PEERS)?,
                "--recipes" => o.recipes = list(argument, &value()?, &RECIPES)?,
                "--precisions" => o.precisions = list(argument, &value()?, &PRECISIONS)?,
                "--weights" => o.weights = list(argument, &value()?, &WEIGHTS)?,
                "--lengths" => {
                    let lengths = value()?;
                    o.lengths = lengths
                        .split(',')
                        .map(|t| number(argument, t))
                        .collect::<Result<_, _>>()?;
                }
                "--rounds" => o.rounds = number(argument, &value()?)?,
                "--steps" => o.steps = Some(number(argument, &value()?)?),
                "--tokens" => o.tokens = number(argument, &value()?)?,
                "--dropout" => o.dropout = Some(share(argument, value()?)?),
                "--limit" => o.limit = number(argument, &value()?)? as u64,
                kind if KINDS.contains(&kind) => o.kinds.push(kind.into()),
                other => {
                    return Err(format!(
                        "bench: {other:?} is neither an option nor one of {}; `cargo xtask bench --help` lists them",
                        KINDS.join(", ")
                    ));
                }
            }
        }
        if o.kinds.is_empty() {
            o.kinds = owned(&KINDS);
        }
        o.check_files()?;
        Ok(o)
    }

    fn check_files(&self) -> Result<(), String> {
        let files =
            [("--gguf", &self.gguf), ("--model", &self.model), ("--pellucid", &self.pellucid)];
        for (name, path) in files {
            if let Some(path) = path
                && !std::path::Path::new(path).exists()
            {
                return Err(format!("{name}: {path} is not there"));
            }
        }
        match &self.name {
            Some(n) if n.contains(['/', '\\']) || n.starts_with('.') => {
                Err(format!("--name {n:?} is to be one folder's name"))
            }
            _ => Ok(()),
        }
    }

    /// Our binary.
    pub(super) fn binary(&self) -> PathBuf {
        self.pellucid.as_ref().map_or_else(|| root().join("target/release/pellucid"), PathBuf::from)
    }

    /// Whether a peer was asked for.
    pub(super) fn wants(&self, peer: &str) -> bool {
        self.peers.iter().any(|p| p == peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
        Options::parse(&words)
    }

    #[test]
    fn unknown_things_are_named() {
        assert!(parse("--peers torch,jax").unwrap_err().contains("\"jax\" is none of torch"));
        assert!(parse("train --recipes huge").unwrap_err().contains("\"huge\""));
        assert!(parse("trian").unwrap_err().contains("\"trian\""));
        assert!(parse("--rounds 0").unwrap_err().contains("--rounds"));
        assert!(parse("--steps").unwrap_err().contains("wants a value"));
        assert!(parse("--dropout 1").unwrap_err().contains("below 1"));
        assert!(parse("--name ../x").unwrap_err().contains("one folder"));
        assert!(parse("--gguf no-such-file").unwrap_err().contains("not there"));
    }

    #[test]
    fn defaults_are_everything_and_quick_is_less() {
        let all = parse("").unwrap();
        assert_eq!((all.kinds.len(), all.rounds, all.lengths.len()), (5, 2, 6));
        assert_eq!(all.recipes.len(), 6);
        let quick = parse("decode --quick --tokens 5").unwrap();
        assert_eq!((quick.kinds.len(), quick.rounds, quick.tokens), (1, 1, 5));
        assert_eq!(quick.lengths, [1024, 2048, 4096]);
    }
}
