use super::*;

const TEXT: &str =
    "The player played; the PLAYERS were playing unplayable games, naïve café games. ";

fn trained(vocab_size: usize, options: WordPieceOptions) -> Result<Tokenizer, crate::error::Error> {
    Tokenizer::train_word_piece((0..20).map(|_| Ok(TEXT)), vocab_size, options)
}

#[test]
fn word_pieces_are_learned_and_have_berts_template() {
    let tokenizer = trained(90, WordPieceOptions::default()).unwrap();
    assert!(tokenizer.vocab_size() <= 90 && tokenizer.vocab_size() > 60, "{tokenizer:?}");
    let special = tokenizer.special_ids();
    let wanted = SpecialIds {
        bos: None,
        eos: None,
        pad: Some(0),
        unk: Some(1),
        cls: Some(2),
        sep: Some(3),
        mask: Some(4),
    };
    assert_eq!(special, wanted);
    assert!((0..5).all(|id| tokenizer.is_special(id)) && !tokenizer.is_special(5));
    let pair = tokenizer.encode_pair("Naive PLAYER", Some("game"), None).unwrap();
    assert_eq!((pair.ids[0], *pair.ids.last().unwrap()), (2, 3));
    assert_eq!(
        tokenizer.decode_plain(&pair.ids).unwrap(),
        "naive player game",
        "small, without accents"
    );
    let second = pair.segments.iter().position(|&segment| segment == 1).unwrap();
    assert_eq!(pair.ids[second - 1], 3, "the separator is of the first text");
    assert!(pair.segments[second..].iter().all(|&segment| segment == 1));
    assert!(tokenizer.encode("unplayer").unwrap().len() > 1);
    assert_eq!(tokenizer.encode("Ж").unwrap(), [1]);
    assert_eq!(trained(90, WordPieceOptions::default()).unwrap().to_json(), tokenizer.to_json());
    let cased =
        trained(120, WordPieceOptions { lowercase: false, ..WordPieceOptions::default() }).unwrap();
    assert_eq!(
        cased.decode(&cased.encode("The PLAYERS café").unwrap()).unwrap(),
        "The PLAYERS café"
    );
    let error = trained(20, WordPieceOptions::default()).unwrap_err().to_string();
    assert!(error.contains("vocabulary of 20") && error.contains("ask for more than"), "{error}");
    let none = Tokenizer::train_word_piece([Ok("")], 90, WordPieceOptions::default());
    assert!(none.unwrap_err().to_string().contains("nothing to learn"));
}

#[test]
fn a_folder_keeps_what_the_special_tokens_mean() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(90, WordPieceOptions::default()).unwrap();
    tokenizer.save_folder(folder.path()).unwrap();
    let read = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(read.special_ids(), tokenizer.special_ids());
    assert_eq!(read.to_json(), tokenizer.to_json());
    let config = std::fs::read_to_string(folder.path().join("tokenizer_config.json")).unwrap();
    assert!(
        config.contains("\"mask_token\": \"[MASK]\"") && config.contains("\"cls_token\""),
        "{config}"
    );
}

#[test]
fn berts_vocabulary_file_gives_the_ids_of_the_same_tokenizer_json() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    for lowercase in [true, false] {
        let json =
            trained(110, WordPieceOptions { lowercase, ..WordPieceOptions::default() }).unwrap();
        let tokens = (0..json.vocab_size() as u32).map(|id| json.id_to_piece(id).unwrap() + "\n");
        write("vocab.txt", &tokens.collect::<String>());
        match lowercase {
            true => write("tokenizer_config.json", "{}"),
            false => write("tokenizer_config.json", "{\"do_lower_case\": false}"),
        }
        let read = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(read.special_ids(), json.special_ids());
        for text in [TEXT, "CAFÉ café 中文 [MASK]"] {
            let pair =
                |tokenizer: &Tokenizer| tokenizer.encode_pair(text, Some("a game"), None).unwrap();
            assert_eq!(pair(&read), pair(&json), "{text}");
        }
    }
    for (text, part) in [
        ("a\nb\n", "no [UNK]"),
        ("[UNK]\na\n\nb\n", "vocab.txt:3: an empty line"),
        ("[UNK]\na\na\n", "vocab.txt:3: \"a\" is already the token with id 1"),
    ] {
        write("vocab.txt", text);
        let error = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn one_vocabulary_for_two_languages() {
    let (en, de) = ("the dog and the cat played ", "der Hund und die Katze spielten ");
    let texts = (0..40).map(|i| Ok(if i % 2 == 0 { en } else { de }));
    let tokenizer = Tokenizer::train_bpe(texts, 320, &Specials::translation()).unwrap();
    let special = tokenizer.special_ids();
    let known = [special.unk, special.pad, special.bos, special.eos];
    assert_eq!(known, [Some(0), Some(1), Some(2), Some(3)]);
    for text in [en, de] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.len() * 3 < text.len(), "{} ids", ids.len());
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
