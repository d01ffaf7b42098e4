// Tests may print: a skipped one says so, and speeds are worth seeing.
#![allow(clippy::print_stderr)]

use super::characters::EACH;
use super::*;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

/// A file of the shared folder, which some checkouts have beside or above them.
fn shared(name: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = here.ancestors().map(|a| a.join("shared/data").join(name)).find(|p| p.exists());
    if found.is_none() {
        eprintln!("SKIPPED: shared/data/{name} is not here");
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

#[test]
fn gpt2_ids_are_those_of_the_ggml_conformance_strings() {
    let (Some(tokenizer), Some(folder)) = (gpt2(), shared("ggml-vocab")) else { return };
    let inputs = std::fs::read_to_string(folder.join("ggml-vocab-gpt-2.gguf.inp")).unwrap();
    let outputs = std::fs::read_to_string(folder.join("ggml-vocab-gpt-2.gguf.out")).unwrap();
    let texts: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let wanted: Vec<Vec<u32>> = outputs
        .lines()
        .map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect())
        .collect();
    assert_eq!(wanted.len(), 46);
    assert!(texts.len() >= wanted.len(), "{} texts", texts.len());
    for (text, wanted) in texts.iter().zip(&wanted) {
        assert_eq!(&tokenizer.encode(text).unwrap(), wanted, "{text:?}");
        assert_eq!(&tokenizer.decode(wanted).unwrap(), text);
    }
    assert_eq!(tokenizer.vocab_size(), 50257);
    assert_eq!(tokenizer.special_ids().eos, Some(50256));
    assert_eq!(tokenizer.flavor(), Flavor::ByteLevel);
    assert_eq!(tokenizer.encode("a<|endoftext|>b").unwrap(), [64, 50256, 65]);
    assert_eq!(tokenizer.encode_ordinary("<|endoftext|>").unwrap().len(), 7);
    assert_eq!(tokenizer.label(262), " the");
}

#[test]
fn long_texts_are_cut_without_changing_ids() {
    let (Some(tokenizer), Some(path)) = (gpt2(), shared("tinyshakespeare/input.txt")) else {
        return;
    };
    assert!(tokenizer.inner.cache.is_some());
    let text = std::fs::read_to_string(path).unwrap();
    let start = std::time::Instant::now();
    let ids = tokenizer.encode(&text).unwrap();
    eprintln!("gpt-2 bpe: {:.1} MB/s", text.len() as f64 / 1e6 / start.elapsed().as_secs_f64());
    let start = std::time::Instant::now();
    assert_eq!(tokenizer.encode(&text).unwrap(), ids);
    eprintln!("again: {:.1} MB/s", text.len() as f64 / 1e6 / start.elapsed().as_secs_f64());
    // nanoGPT's data/shakespeare/readme: 301,966 + 36,059 tokens for the two parts apart.
    let cut = text.char_indices().nth((text.chars().count() as f64 * 0.9) as usize).unwrap().0;
    assert_eq!(tokenizer.encode(&text[..cut]).unwrap().len(), 301_966);
    assert_eq!(tokenizer.encode(&text[cut..]).unwrap().len(), 36_059);
    assert_eq!(ids, slow(&tokenizer, &text).unwrap());
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
}

#[test]
fn characters_are_nanogpts_and_fast() {
    let Some(path) = shared("tinyshakespeare/input.txt") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let tokenizer = Tokenizer::characters([&text], &Specials::default()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 65);
    // nanoGPT: sorted(set(text)) begins with newline, space, "!".
    assert_eq!(tokenizer.encode("\n !Az").unwrap(), [0, 1, 2, 13, 64]);
    let start = std::time::Instant::now();
    let ids = tokenizer.encode(&text).unwrap();
    let speed = text.len() as f64 / 1e6 / start.elapsed().as_secs_f64();
    eprintln!("characters: {speed:.0} MB/s");
    assert!(speed > 20.0, "{speed} MB/s");
    assert_eq!(ids.len(), 1_115_394);
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert_eq!(tokenizer.encode(&text[..5000]).unwrap(), slow(&tokenizer, &text[..5000]).unwrap());
}

#[test]
fn an_unknown_character_is_named_with_its_place() {
    let tokenizer = Tokenizer::characters(["abc\n"], &Specials::default()).unwrap();
    let error = tokenizer.encode("ab\nc😀").unwrap_err().to_string();
    assert!(error.contains("'😀' (U+1F600)"), "{error}");
    assert!(error.contains("byte 4, line 2, column 2"), "{error}");
    let origin = Origin { byte: 100, line: 9 };
    let error = tokenizer.encode_into("x", origin, &mut vec![]).unwrap_err().to_string();
    assert!(error.contains("byte 100, line 10, column 1"), "{error}");
    // The unknown token stands for it, where there is one.
    let specials = Specials { unk: Some("<unk>".into()), ..Specials::end_of_text() };
    let tokenizer = Tokenizer::characters(["ab"], &specials).unwrap();
    assert_eq!(tokenizer.special_ids().unk, Some(2));
    assert_eq!(tokenizer.encode("a?b<|endoftext|>").unwrap(), [0, 2, 1, 3]);
    assert_eq!(tokenizer.decode(&[0, 2, 1, 3]).unwrap(), "a<unk>b<|endoftext|>");
    assert_eq!(tokenizer.decode_plain(&[0, 3, 1]).unwrap(), "ab");
    // Also behind a special token in the text.
    let tokenizer = Tokenizer::characters(["ab"], &Specials::end_of_text()).unwrap();
    let error = tokenizer.encode("ab<|endoftext|>?").unwrap_err().to_string();
    assert!(error.contains("'?'") && error.contains("byte 15"), "{error}");
}

#[test]
fn files_come_back_as_they_were_and_keep_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let specials = Specials {
        bos: Some("<begin>".into()),
        eos: Some("<end>".into()),
        unk: None,
        pad: Some("<pad>".into()),
    };
    let texts = || (0..9).map(|_| Ok("some words, and some words again\n"));
    let made = [
        Tokenizer::characters(["héllo, he\n"], &specials).unwrap(),
        Tokenizer::bytes_with(&specials).unwrap(),
        Tokenizer::train_bpe(texts(), 280, &specials).unwrap(),
    ];
    for tokenizer in made {
        tokenizer.save_folder(folder.path()).unwrap();
        let again = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(again.to_json(), tokenizer.to_json());
        assert_eq!(again.fingerprint(), tokenizer.fingerprint());
        assert_eq!(again.flavor(), tokenizer.flavor());
        assert_eq!(again.special_ids(), tokenizer.special_ids());
        let ids = again.special_ids();
        assert!(ids.bos.is_some() && ids.eos.is_some() && ids.pad.is_some());
        assert_eq!(again.encode("<begin>hello").unwrap()[0], ids.bos.unwrap());
        let ids = again.encode("hello").unwrap();
        assert_eq!(again.decode(&ids).unwrap(), "hello");
    }
}

#[test]
fn training_is_repeatable_and_honest_about_its_bounds() {
    let a = small_bpe();
    assert_eq!(a.to_json(), small_bpe().to_json());
    assert_eq!(a.flavor(), Flavor::ByteLevel);
    assert!(a.vocab_size() <= 300 && a.vocab_size() > 257);
    assert!(a.encode("the cat").unwrap().len() < 7);
    let text = "grün 😀\t\n";
    assert_eq!(a.decode(&a.encode(text).unwrap()).unwrap(), text);
    let error = Tokenizer::train_bpe([Ok("a")], 100, &Specials::end_of_text()).unwrap_err();
    assert!(error.to_string().contains("at least 257"), "{error}");
    let none: [crate::error::Result<&str>; 0] = [];
    assert!(Tokenizer::train_bpe(none, 300, &Specials::default()).is_err());
    let broken = crate::error::Error::new(crate::error::Kind::Io, "x", "the disk is gone");
    let error = Tokenizer::train_bpe([Ok("a b"), Err(broken)], 300, &Specials::default());
    assert!(error.unwrap_err().to_string().contains("the disk is gone"));
}

#[test]
fn bytes_are_bytes() {
    let tokenizer = Tokenizer::bytes();
    assert_eq!((tokenizer.vocab_size(), tokenizer.flavor()), (256, Flavor::Bytes));
    let text = "a\0é😀\n";
    let ids: Vec<u32> = text.bytes().map(u32::from).collect();
    assert_eq!(tokenizer.encode(text).unwrap(), ids);
    assert_eq!(slow(&tokenizer, text).unwrap(), ids);
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert_eq!(tokenizer.decode(&[0xF0, 0x9F, 65]).unwrap(), "\u{FFFD}A");
    assert_eq!(tokenizer.label(0xF0), "<0xF0>");
    let error = tokenizer.decode(&[1, 256]).unwrap_err().to_string();
    assert!(error.contains("id 256") && error.contains("below 256"), "{error}");
}

#[test]
fn templates_truncation_and_dropout() {
    let tokenizer = word_piece();
    assert_eq!(tokenizer.flavor(), Flavor::Other);
    assert_eq!(tokenizer.encode("Playing the game").unwrap(), [3, 4, 6, 7]);
    assert_eq!(tokenizer.encode_with_template("playing").unwrap(), [1, 3, 4, 2]);
    assert_eq!(tokenizer.decode(&[3, 4, 6, 7]).unwrap(), "playing the game");
    assert_eq!(tokenizer.special_ids().unk, Some(0));
    // The file's truncation to two ids and its dropout are not applied.
    let tokenizer = llama_like();
    for _ in 0..20 {
        assert_eq!(tokenizer.encode("hi hi hi").unwrap(), [263, 263, 263]);
    }
    assert_eq!(tokenizer.decode(&[263, 263]).unwrap(), "hi hi");
    let hub: tokenizers::Tokenizer = tokenizer.to_json().parse().unwrap();
    let ids = tokenizer.encode("hi é😀  h ").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), hub.decode(&ids, false).unwrap());
    let special = tokenizer.special_ids();
    assert_eq!((special.bos, special.eos, special.unk), (Some(1), Some(2), Some(0)));
}

#[test]
fn folders_without_a_tokenizer_say_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no tokenizer.json") && error.contains("vocab.json"), "{error}");
    std::fs::write(folder.path().join("tokenizer.model"), "x").unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("save_pretrained"), "{error}");
    assert!(Tokenizer::from_folder(&folder.path().join("no")).is_err());
    let path = folder.path().join("tokenizer.json");
    for (text, part) in [
        ("", "not JSON"),
        ("[1]", "without a \"model\""),
        ("{\"model\": {\"type\": \"BPE\"}}", "refused"),
        (&small_bpe().to_json().replace(r#""vocab":{"#, r#""vocab":{"zz":4000000000,"#), "holes"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Tokenizer::from_file(&path).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("tokenizer.json"), "{error}");
    }
}

/// All pieces of a stream, and the rest.
fn run(mut stream: StreamDecoder, ids: &[u32]) -> (Vec<String>, Option<String>) {
    let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    pieces.push(stream.finish());
    let stopped = stream.stopped().map(str::to_owned);
    (pieces, stopped)
}

/// Whether pieces show a text as a stream must: all of it, whole characters only, and nothing of
/// what comes after the first stop string or begins it.
fn shows(pieces: &[String], text: &str, stops: &[&str]) -> bool {
    let end = stops.iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
    let mut so_far = String::new();
    pieces.iter().all(|piece| {
        so_far.push_str(piece);
        text[..end].starts_with(so_far.as_str())
    }) && so_far == text[..end]
}

#[test]
fn wrong_streams_are_caught() {
    let tokenizer = Tokenizer::bytes();
    let text = "a😀b\n\nUser: c";
    let ids = tokenizer.encode(text).unwrap();
    let right = run(StreamDecoder::new(&tokenizer).with_stops(["User:"]), &ids).0;
    assert!(shows(&right, text, &["User:"]));
    let each: Vec<String> = ids.iter().map(|&id| tokenizer.decode(&[id]).unwrap()).collect();
    let dropped: Vec<String> = each.iter().filter(|p| *p != "\u{FFFD}").cloned().collect();
    let late = run(StreamDecoder::new(&tokenizer), &ids).0;
    let mut with_stop = right.clone();
    with_stop.push("User:".into());
    for (name, wrong) in [
        ("every token by itself", &each),
        ("half characters dropped", &dropped),
        ("stop strings ignored", &late),
        ("the stop string shown", &with_stop),
        ("the rest forgotten", &right[..right.len() / 4].to_vec()),
    ] {
        assert!(!shows(wrong, text, &["User:"]), "{name}");
    }
}

#[test]
fn a_stream_never_shows_half_a_character() {
    let text = "a😶‍🌫️é🦙 z";
    let mut tokenizers = vec![Tokenizer::bytes(), small_bpe(), llama_like()];
    tokenizers.extend(gpt2());
    for tokenizer in tokenizers {
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.len() > 8, "the emoji is split");
        let (pieces, _) = run(StreamDecoder::new(&tokenizer), &ids);
        assert!(shows(&pieces, text, &[]), "{pieces:?}");
        assert!(pieces.iter().filter(|piece| piece.is_empty()).count() >= 3, "{pieces:?}");
        // Cut inside the last emoji: one replacement at the end, not before.
        let cut = ids.len() - 4;
        let (pieces, _) = run(StreamDecoder::new(&tokenizer), &ids[..cut]);
        assert_eq!(pieces.concat(), tokenizer.decode(&ids[..cut]).unwrap());
    }
}

#[test]
fn a_stream_of_word_pieces_and_of_sentence_pieces_keeps_its_spaces() {
    let tokenizer = word_piece();
    let (pieces, _) = run(StreamDecoder::new(&tokenizer), &[1, 3, 4, 6, 7, 2]);
    assert_eq!(pieces.concat(), "playing the game");
    let (pieces, _) = run(StreamDecoder::new(&tokenizer).after(&[6, 3]), &[4, 7]);
    assert_eq!(pieces.concat(), "ing game");
    let (pieces, _) = run(StreamDecoder::new(&tokenizer).with_special(), &[1, 3]);
    assert_eq!(pieces.concat(), "[CLS] play");
    let tokenizer = llama_like();
    let (pieces, _) = run(StreamDecoder::new(&tokenizer), &[1, 263, 263, 2]);
    assert_eq!(pieces.concat(), "hi hi");
    let (pieces, _) = run(StreamDecoder::new(&tokenizer).after(&[263]), &[263, 2]);
    assert_eq!(pieces.concat(), " hi");
    assert!(StreamDecoder::new(&tokenizer).push(9999).is_err());
}

#[test]
fn stop_strings_are_never_shown_not_even_in_part() {
    let tokenizer = Tokenizer::bytes();
    let stream = || StreamDecoder::new(&tokenizer).with_stops(["\n\nUser:", "END", ""]);
    let ids = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    let text = "hi\n\nUsed ENglish\n\nUser: more END";
    let (pieces, stopped) = run(stream(), &ids(text));
    assert!(shows(&pieces, text, &["\n\nUser:", "END"]), "{pieces:?}");
    assert_eq!(stopped.as_deref(), Some("\n\nUser:"));
    let (pieces, stopped) = run(stream(), &ids("so EN"));
    assert_eq!((pieces.concat().as_str(), stopped), ("so EN", None));
    assert_eq!(pieces.last().unwrap(), "EN", "held back until it is over");
    let (pieces, stopped) = run(StreamDecoder::new(&tokenizer).with_stops(["é😀"]), &ids("aéé😀b"));
    assert_eq!((pieces.concat().as_str(), stopped.as_deref()), ("aé", Some("é😀")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_paths_agree(text in "(<\\|endoftext\\|>|[a-dé😀\\n\\r <|]){0,40}") {
        let specials = Specials { unk: Some("<unk>".into()), ..Specials::end_of_text() };
        for tokenizer in [
            Tokenizer::characters(["abcé😀\n"], &specials).unwrap(),
            Tokenizer::bytes_with(&Specials::end_of_text()).unwrap(),
        ] {
            prop_assert_eq!(tokenizer.encode(&text).unwrap(), slow(&tokenizer, &text).unwrap());
            let mut hub: tokenizers::Tokenizer = tokenizer.to_json().parse().unwrap();
            hub.set_encode_special_tokens(true);
            let ordinary = hub.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
            prop_assert_eq!(tokenizer.encode_ordinary(&text).unwrap(), ordinary);
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), hub.decode(&ids, false).unwrap());
        }
    }

    #[test]
    fn a_cut_changes_no_id(text in "[a-c!1é\u{A0} \\n\\r\\t']{1,60}", limit in 4usize..60) {
        let level = small_bpe();
        let mut llama3: serde_json::Value = serde_json::from_str(level.to_json()).unwrap();
        llama3["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": cut::KNOWN[0]}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
        for tokenizer in [level, Tokenizer::from_json(llama3.to_string()).unwrap()] {
            prop_assert!(tokenizer.inner.cache.is_some());
            prop_assert_eq!(cut::Segments(&text).collect::<String>(), text.as_str());
            let wanted = slow(&tokenizer, &text).unwrap();
            prop_assert_eq!(tokenizer.encode(&text).unwrap(), wanted.clone());
            prop_assert_eq!(tokenizer.encode(&text).unwrap(), wanted.clone(), "from the cache");
            // Pieces of a stream, where they end after a lone line end.
            let at = piece_end(&text, limit);
            if at < text.len() && cut::Segments(&text).scan(0, |sum, s| { *sum += s.len(); Some(*sum) }).any(|end| end == at) {
                let mut ids = tokenizer.encode(&text[..at]).unwrap();
                ids.extend(tokenizer.encode(&text[at..]).unwrap());
                prop_assert_eq!(ids, wanted, "cut at {}", at);
            }
        }
    }

    #[test]
    fn pieces_end_between_characters(text in "[a😀é \\n]{1,80}", limit in 4usize..90) {
        let end = piece_end(&text, limit);
        prop_assert!(end > 0 && end <= limit.max(1) && text.is_char_boundary(end));
    }

    #[test]
    fn a_stream_gives_the_text_of_all_tokens(ids in prop::collection::vec(0u32..256, 0..40)) {
        let tokenizer = Tokenizer::bytes();
        let (pieces, _) = run(StreamDecoder::new(&tokenizer), &ids);
        let bytes: Vec<u8> = ids.iter().map(|&id| id as u8).collect();
        prop_assert_eq!(pieces.concat(), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn strange_files_give_errors_not_panics(
        start in 0usize..2000, length in 0usize..60, junk in "[\\[\\]{}\",:0-9a-z\\\\]{0,12}"
    ) {
        for tokenizer in [llama_like(), word_piece()] {
            let mut text = tokenizer.to_json().to_owned();
            let floor = |at: usize| (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap();
            let range = floor(start)..floor(start + length);
            text.replace_range(range, &junk);
            if let Ok(tokenizer) = Tokenizer::from_json(text) {
                let _ = tokenizer.encode("hi <s> é");
                let _ = tokenizer.encode_with_template("hi <s> é");
                let all: Vec<u32> = (0..tokenizer.vocab_size().min(300) as u32).collect();
                let _ = tokenizer.decode(&all);
                let mut stream = StreamDecoder::new(&tokenizer);
                for id in all {
                    let _ = stream.push(id);
                }
                stream.finish();
            }
        }
    }
}

#[test]
fn the_pattern_of_single_characters_is_what_is_recognised() {
    let tokenizer = Tokenizer::characters(["a"], &Specials::default()).unwrap();
    assert!(tokenizer.to_json().contains(&serde_json::to_string(EACH).unwrap()));
    assert_eq!(tokenizer.flavor(), Flavor::Characters);
}
