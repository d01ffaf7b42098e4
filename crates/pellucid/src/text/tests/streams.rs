use super::*;
use proptest::prelude::*;

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
