// Tests may print: a skipped one says so, and speeds are worth seeing.
#![allow(clippy::print_stderr)]

mod golden;
mod ids;
mod streams;
mod word_pieces;

use super::*;
use std::path::{Path, PathBuf};

/// A file of the shared folder, which some checkouts have beside or above them.
fn shared(name: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = here.ancestors().map(|a| a.join("shared/data").join(name)).find(|p| p.exists());
    if found.is_none() {
        // Past the test harness, which hides what passing tests print.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: shared/data/{name} is not here\n"),
        );
    }
    found
}

fn gpt2() -> Option<Tokenizer> {
    let folder = shared("gpt2-bpe")?;
    Some(Tokenizer::from_gpt2(&folder.join("encoder.json"), &folder.join("vocab.bpe")).unwrap())
}

fn small_bpe() -> Tokenizer {
    let text =
        "the cat sat on the mat; the dog sat on the log.\nA cat and a dog, a mat and a log! ";
    let texts = (0..20).map(|_| Ok(text));
    Tokenizer::train_bpe(texts, 300, &Specials::end_of_text()).unwrap()
}

/// What the `tokenizers` crate itself gives, past every direct path.
fn slow(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, String> {
    let hub: tokenizers::Tokenizer = tokenizer.to_json().parse().unwrap();
    hub.encode_fast(text, false).map(|e| e.get_ids().to_vec()).map_err(|e| e.to_string())
}

/// A tokenizer that cuts up text as Llama 2's SentencePiece does, with two whole words.
fn llama_like() -> Tokenizer {
    let mut vocab = serde_json::Map::new();
    for (id, token) in ["<unk>", "<s>", "</s>"].iter().enumerate() {
        vocab.insert((*token).into(), id.into());
    }
    for byte in 0..256usize {
        vocab.insert(format!("<0x{byte:02X}>"), (3 + byte).into());
    }
    for (id, token) in ["▁", "h", "i", "▁h", "▁hi"].iter().enumerate() {
        vocab.insert((*token).into(), (259 + id).into());
    }
    let file = serde_json::json!({
        "version": "1.0", "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0,
        "direction": "Right"}, "padding": null,
        "added_tokens": [super::characters::special_token(1, "<s>"), super::characters::special_token(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": 0.5, "unk_token": "<unk>", "fuse_unk": true,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "byte_fallback": true, "vocab": vocab, "merges": ["▁ h", "▁h i"]},
    });
    Tokenizer::from_json(file.to_string()).unwrap()
}

fn word_piece() -> Tokenizer {
    let words = ["[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##ed", "the", "game", "é"];
    let vocab: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(i, w)| ((*w).to_owned(), i.into())).collect();
    let special = |id: usize| super::characters::special_token(id, words[id]);
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": false, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    });
    Tokenizer::from_json(file.to_string()).unwrap()
}
