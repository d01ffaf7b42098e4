use super::*;
use crate::text::WordPieceOptions;

fn word_piece() -> Tokenizer {
    let text = "the player played and the players were playing an unplayable game of games; ";
    Tokenizer::train_word_piece((0..20).map(|_| Ok(text)), 70, WordPieceOptions::default()).unwrap()
}

fn masking(tokenizer: &Tokenizer, whole_words: bool) -> Masking {
    Masking::new(tokenizer, MaskingOptions { whole_words, ..MaskingOptions::default() }).unwrap()
}

/// `[CLS]` some tokens `[SEP]` some padding.
fn row(tokenizer: &Tokenizer, length: usize) -> Vec<i32> {
    let special = tokenizer.special_ids();
    let n = tokenizer.vocab_size() as u64;
    let mut ids = vec![special.cls.unwrap() as i32];
    ids.extend((0..length as u64).map(|i| 5 + random_below(n - 5, 9, i, 0) as i32));
    ids.extend([
        special.sep.unwrap() as i32,
        special.pad.unwrap() as i32,
        special.pad.unwrap() as i32,
    ]);
    ids
}

fn hide(masking: &Masking, before: &[i32], seed: u64, step: u64, row: u64) -> (Vec<i32>, Vec<i32>) {
    let (mut ids, mut targets) = (before.to_vec(), vec![7; before.len()]);
    let hidden = masking.hide(seed, step, row, &mut ids, &mut targets).unwrap();
    assert_eq!(hidden, targets.iter().filter(|&&t| t != IGNORE).count());
    (ids, targets)
}

#[test]
fn shares_are_those_of_bert() {
    let tokenizer = word_piece();
    let (masking, mask) =
        (masking(&tokenizer, false), tokenizer.special_ids().mask.unwrap() as i32);
    let before = row(&tokenizer, 200);
    let (mut masked, mut kept, mut other, mut chosen) = (0, 0, 0, vec![0; before.len()]);
    let mut others = BTreeSet::new();
    for step in 0..400 {
        let (ids, targets) = hide(&masking, &before, 1, step, 0);
        assert_eq!(targets.iter().filter(|&&t| t != IGNORE).count(), 30, "15 % of 200");
        for at in 0..ids.len() {
            if targets[at] == IGNORE {
                assert_eq!(ids[at], before[at]);
                continue;
            }
            assert_eq!(targets[at], before[at]);
            assert!(before[at] >= 5 && (ids[at] >= 5 || ids[at] == mask), "never a special token");
            chosen[at] += 1;
            match ids[at] {
                id if id == mask => masked += 1,
                id if id == before[at] => kept += 1,
                id => {
                    other += 1;
                    others.insert(id);
                }
            }
        }
    }
    let share = |count: i32| f64::from(count) / 12_000.0;
    assert!((share(masked) - 0.8).abs() < 0.012, "{}", share(masked));
    assert!((share(kept) - 0.1).abs() < 0.012, "{}", share(kept));
    assert!((share(other) - 0.1).abs() < 0.012, "{}", share(other));
    assert_eq!(others.len(), tokenizer.vocab_size() - 5, "every ordinary token may come");
    assert!(chosen[1..201].iter().all(|&n| (30..100).contains(&n)), "all places alike: {chosen:?}");
}

#[test]
fn the_mask_is_a_function_of_seed_step_and_row() {
    let tokenizer = word_piece();
    let masking = masking(&tokenizer, false);
    let before = row(&tokenizer, 60);
    let first = hide(&masking, &before, 1, 2, 3);
    assert_eq!(hide(&masking.clone(), &before, 1, 2, 3), first);
    for (seed, step, row) in [(2, 2, 3), (1, 3, 3), (1, 2, 4)] {
        assert_ne!(hide(&masking, &before, seed, step, row), first);
    }
}

#[test]
fn one_token_is_hidden_in_the_shortest_row_and_none_where_none_is() {
    let tokenizer = word_piece();
    for whole_words in [false, true] {
        let masking = masking(&tokenizer, whole_words);
        for length in 1..4 {
            let (_, targets) = hide(&masking, &row(&tokenizer, length), 1, 0, 0);
            assert!(targets.iter().any(|&t| t != IGNORE), "{length}");
        }
        let (ids, targets) = hide(&masking, &row(&tokenizer, 0), 1, 0, 0);
        assert_eq!((ids, targets), (row(&tokenizer, 0), vec![IGNORE; 4]));
    }
}

/// Words that are hidden in part, and words.
fn partial(tokenizer: &Tokenizer, text: &str, whole_words: bool) -> (usize, usize) {
    let masking = masking(tokenizer, whole_words);
    let before: Vec<i32> = tokenizer.encode(text).unwrap().iter().map(|&id| id as i32).collect();
    let words: Vec<usize> = {
        let mut word = 0;
        let starts = |at: usize| {
            let piece = tokenizer.id_to_piece(before[at] as u32).unwrap();
            at == 0
                || piece.starts_with('Ġ')
                || !(piece.starts_with("##")
                    || tokenizer.flavor() == crate::text::Flavor::ByteLevel)
        };
        (0..before.len())
            .map(|at| {
                word += usize::from(starts(at));
                word - 1
            })
            .collect()
    };
    let mut cut = 0;
    for step in 0..50 {
        let (_, targets) = hide(&masking, &before, 1, step, 0);
        for word in 0..=words[words.len() - 1] {
            let hidden =
                (0..before.len()).filter(|&at| words[at] == word && targets[at] != IGNORE).count();
            let size = words.iter().filter(|&&w| w == word).count();
            cut += usize::from(hidden > 0 && hidden < size);
        }
    }
    (cut, words[words.len() - 1] + 1)
}

#[test]
fn whole_words_are_hidden_whole() {
    let text = "unplayable players gamed the playing game, unwere andplay. ".repeat(4);
    let specials = Specials { mask: Some("<mask>".into()), ..Specials::translation() };
    let level =
        Tokenizer::train_bpe((0..9).map(|_| Ok("the played game and ")), 275, &specials).unwrap();
    for tokenizer in [word_piece(), level] {
        let (cut, words) = partial(&tokenizer, &text, true);
        assert_eq!(cut, 0, "{tokenizer:?}");
        assert!(words >= 32);
        assert!(partial(&tokenizer, &text, false).0 > 0, "single tokens cut words");
    }
}

#[test]
fn masking_refuses_what_it_cannot_do() {
    let tokenizer = word_piece();
    let none =
        Masking::new(&Tokenizer::bytes(), MaskingOptions::default()).unwrap_err().to_string();
    assert!(none.contains("no mask token"), "{none}");
    for rate in [0.0, 1.0, f64::NAN] {
        let options = MaskingOptions { rate, ..MaskingOptions::default() };
        assert!(Masking::new(&tokenizer, options).unwrap_err().to_string().contains("a rate of"));
    }
    let masking = masking(&tokenizer, false);
    let hide =
        |ids: &mut [i32], n| masking.hide(1, 1, 1, ids, &mut vec![0; n]).unwrap_err().to_string();
    assert!(hide(&mut [5, 6], 3).contains("2 ids and 3 targets"));
    assert!(hide(&mut [5, 70_000], 2).contains("id 70000 at 1"));
    assert!(hide(&mut [-1], 1).contains("id -1 at 0"));
}
