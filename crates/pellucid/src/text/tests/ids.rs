use super::super::characters::EACH;
use super::*;
use proptest::prelude::*;

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
        ..Specials::default()
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

#[test]
fn the_pattern_of_single_characters_is_what_is_recognised() {
    let tokenizer = Tokenizer::characters(["a"], &Specials::default()).unwrap();
    assert!(tokenizer.to_json().contains(&serde_json::to_string(EACH).unwrap()));
    assert_eq!(tokenizer.flavor(), Flavor::Characters);
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
}
