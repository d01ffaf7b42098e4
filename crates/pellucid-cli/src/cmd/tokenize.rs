//! `pellucid tokenize`

use crate::input::{parse_ids, stdin};
use crate::out;
use clap::{Args, Subcommand, ValueEnum};
use pellucid::data::{Corpus, CorpusOptions};
use pellucid::error::Result;
use pellucid::text::{Specials, Tokenizer};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Tokenize {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Learn a vocabulary from text and write a tokenizer.json
    Train {
        /// Files, folders or patterns
        #[arg(required = true)]
        data: Vec<PathBuf>,
        /// Folder for tokenizer.json
        #[arg(long, short)]
        out: PathBuf,
        /// What an id stands for
        #[arg(long, value_enum, default_value_t = Scheme::Bpe)]
        kind: Scheme,
        /// Size of the vocabulary (bpe only)
        #[arg(long, default_value_t = 4096)]
        vocab: usize,
        /// Leaves out the token that ends a text
        #[arg(long)]
        no_end_of_text: bool,
    },
    /// Ids of a text, from an argument or from stdin
    Encode {
        /// A tokenizer.json, or a folder that has one
        tokenizer: PathBuf,
        /// The text; without it, stdin
        text: Option<String>,
        /// Each id with what it stands for
        #[arg(long)]
        pieces: bool,
        /// A JSON object
        #[arg(long)]
        json: bool,
    },
    /// Text of ids, from arguments or from stdin
    Decode {
        /// A tokenizer.json, or a folder that has one
        tokenizer: PathBuf,
        /// The ids; without any, stdin
        ids: Vec<u32>,
    },
    /// What a tokenizer is: scheme, size, special tokens
    Inspect {
        /// A tokenizer.json, or a folder that has one
        tokenizer: PathBuf,
        /// A JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scheme {
    /// Pieces of words, learnt from the text
    Bpe,
    /// One id per character
    Characters,
    /// One id per byte
    Bytes,
}

impl Tokenize {
    pub(crate) fn run(self) -> Result<()> {
        match self.what {
            What::Train { data, out, kind, vocab, no_end_of_text } => {
                let specials =
                    if no_end_of_text { Specials::default() } else { Specials::end_of_text() };
                let corpus = Corpus::open(&data, CorpusOptions::default())?;
                let tokenizer = match kind {
                    Scheme::Bpe => Tokenizer::train_bpe(corpus.texts(), vocab, &specials)?,
                    Scheme::Characters => Tokenizer::characters_from(corpus.texts(), &specials)?,
                    Scheme::Bytes => Tokenizer::bytes_with(&specials)?,
                };
                tokenizer.save_folder(&out)?;
                let (v, path) = (tokenizer.vocab_size(), out.join("tokenizer.json"));
                out::line(format!("{} ids in {}", out::count(v as u64), path.display()))
            }
            What::Encode { tokenizer, text, pieces, json } => {
                let tokenizer = open(&tokenizer)?;
                let text = text.map_or_else(stdin, Ok)?;
                let ids = tokenizer.encode(&text)?;
                encode(&tokenizer, &text, &ids, pieces, json)
            }
            What::Decode { tokenizer, ids } => {
                let tokenizer = open(&tokenizer)?;
                let ids = if ids.is_empty() { parse_ids(&stdin()?)? } else { ids };
                out::line(tokenizer.decode(&ids)?)
            }
            What::Inspect { tokenizer, json } => inspect(&open(&tokenizer)?, json),
        }
    }
}

fn open(path: &Path) -> Result<Tokenizer> {
    if path.is_dir() { Tokenizer::from_folder(path) } else { Tokenizer::from_file(path) }
}

fn encode(tokenizer: &Tokenizer, text: &str, ids: &[u32], pieces: bool, json: bool) -> Result<()> {
    let labels = || ids.iter().map(|&id| tokenizer.label(id));
    if json {
        let labels: Vec<String> = labels().collect();
        return out::json(&json!({ "ids": ids, "pieces": labels, "bytes": text.len() }));
    }
    if pieces {
        let lines: String =
            ids.iter().zip(labels()).map(|(id, label)| format!("{id:>8}  {label:?}\n")).collect();
        let per = text.len() as f64 / ids.len().max(1) as f64;
        return out::write(&format!("{lines}{} ids, {per:.2} bytes per id\n", ids.len()));
    }
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    out::line(ids.join(" "))
}

fn inspect(tokenizer: &Tokenizer, json: bool) -> Result<()> {
    let ids = tokenizer.special_ids();
    let special = [("bos", ids.bos), ("eos", ids.eos), ("unk", ids.unk), ("pad", ids.pad)];
    let kind = format!("{:?}", tokenizer.flavor());
    if json {
        let special: serde_json::Map<_, _> =
            special.iter().map(|(name, id)| ((*name).into(), json!(id))).collect();
        let v = tokenizer.vocab_size();
        return out::json(&json!({ "kind": kind, "vocab": v, "special": special }));
    }
    out::line(format!("kind    {kind}\nvocab   {}", out::count(tokenizer.vocab_size() as u64)))?;
    for (name, id) in special {
        if let Some(id) = id {
            let piece = tokenizer.id_to_piece(id).unwrap_or_default();
            out::line(format!("{name}     {id} {piece}"))?;
        }
    }
    Ok(())
}
