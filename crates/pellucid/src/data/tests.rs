// A skipped test says so.
#![allow(clippy::print_stderr)]

use super::world::{Kind as Asked, World, WorldOptions};
use super::*;
use crate::error::{Error, Kind, Result};
use crate::text::{Origin, Specials, Tokenizer};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::writer::SerializedFileWriter;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn options(separator: Option<&str>, piece: usize) -> CorpusOptions {
    CorpusOptions { separator: separator.map(Into::into), piece, ..CorpusOptions::default() }
}

/// Whole documents, put together from their pieces; checks the marks and the places on the way.
fn documents(corpus: &Corpus) -> Result<Vec<String>> {
    let mut documents: Vec<String> = vec![];
    let mut open = false;
    for piece in corpus.pieces() {
        let piece = piece?;
        assert_eq!(piece.begins, !open);
        assert!(piece.text.len() <= corpus.options().piece);
        if piece.begins {
            documents.push(String::new());
        }
        documents.last_mut().unwrap().push_str(&piece.text);
        open = !piece.ends;
    }
    assert!(!open, "the last document ends");
    Ok(documents)
}

fn corpus(path: &Path) -> Result<Corpus> {
    Corpus::open(&[path], CorpusOptions::default())
}

fn failure(path: &Path) -> String {
    corpus(path).and_then(|c| documents(&c)).unwrap_err().to_string()
}

/// Column "text" with nulls, column "n", and a list of texts.
fn write_parquet(path: &Path, texts: &[Option<&str>]) {
    let schema = "message m { optional binary text (UTF8); required int32 n; \
                  optional group tags (LIST) { repeated group list { optional binary element (UTF8); } } }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    for part in texts.chunks(2) {
        let mut group = writer.next_row_group().unwrap();
        let levels: Vec<i16> = part.iter().map(|t| i16::from(t.is_some())).collect();
        let values: Vec<ByteArray> = part.iter().flatten().map(|&t| ByteArray::from(t)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&vec![7; part.len()], None, None).unwrap();
        column.close().unwrap();
        let (absent, one) = (vec![0; part.len()], vec![0; part.len()]);
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&absent), Some(&one)).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn folders_and_globs_are_sorted_and_hidden_files_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("b")).unwrap();
    fs::write(at("b/two.txt"), "two").unwrap();
    fs::write(at("a.md"), "\u{FEFF}one").unwrap();
    fs::write(at("c.jsonl"), "{\"text\":\"three\",\"n\":1}\n\n{\"n\":2,\"text\":\"\"}\n").unwrap();
    write_parquet(&at("d.parquet"), &[Some("four"), None, Some("five")]);
    fs::write(at(".hidden"), [0]).unwrap();
    let wanted = ["one", "two", "three", "four", "five"];
    assert_eq!(documents(&corpus(folder.path()).unwrap()).unwrap(), wanted);
    assert_eq!(documents(&corpus(&at("**/*.txt")).unwrap()).unwrap(), ["two"]);
    assert_eq!(documents(&corpus(&at("[ab]*")).unwrap()).unwrap(), ["one", "two"]);
    let statistics = corpus(folder.path()).unwrap().statistics().unwrap();
    assert_eq!(statistics, Statistics { documents: 5, characters: 19, bytes: 19 });
    assert!(failure(&at("*.csv")).contains("no file matches"));
    assert!(failure(&at("no.txt")).contains("nothing is there"));
    fs::create_dir(at("e")).unwrap();
    assert!(failure(&at("e")).contains("no file in this folder"));
    fs::write(at("empty.txt"), "").unwrap();
    assert!(failure(&at("empty.txt")).contains("empty.txt: empty"));
}

#[test]
fn broken_files_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name)
    };
    let lines = b"{\"text\":\"a\"}\n{\"title\":\"b\",\"body\":\"c\"}\n";
    for (name, bytes, part) in [
        ("nul.txt", &b"ab\0c"[..], "nul.txt: not text: NUL byte at byte 2"),
        ("latin.txt", b"ab\xE9c", "latin.txt: not text: not UTF-8 at byte 2"),
        ("cut.txt", b"abc\xF0\x9F", "not UTF-8 at byte 3"),
        ("a.jsonl", lines, "a.jsonl:2: no field \"text\"\n  its fields are \"title\", \"body\""),
        ("b.jsonl", b"{\"text\": 3}", "b.jsonl:1: field \"text\" is a number"),
        ("c.jsonl", b"\n{\"text\": ", "c.jsonl:2: not JSON at column"),
        ("d.jsonl", b"[1,2]", "d.jsonl:1: not a JSON object"),
        ("e.jsonl", b"{\"text\":\"\xFF\"}", "e.jsonl:1: not JSON"),
        ("f.parquet", b"PAR1 but not really PAR1", "f.parquet: broken Parquet file"),
    ] {
        let error = failure(&write(name, bytes));
        assert!(error.contains(part), "{error}");
    }
    let path = folder.path().join("g.parquet");
    write_parquet(&path, &[Some("a")]);
    for (field, part) in [
        ("body", "its columns are \"text\", \"n\", \"tags.list.element\""),
        ("n", "does not hold text\n  it holds INT32"),
    ] {
        let options = CorpusOptions { field: field.into(), ..CorpusOptions::default() };
        let corpus = Corpus::open(&[&path], options).unwrap();
        let error = documents(&corpus).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(corpus.pieces().count(), 1, "an error ends the stream");
    }
}

#[test]
fn one_endless_line_is_cut_between_characters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.txt");
    let text = "é😀x".repeat(100_000);
    fs::write(&path, &text).unwrap();
    let corpus = Corpus::open(&[&path], options(None, 1000)).unwrap();
    assert_eq!(documents(&corpus).unwrap(), [text.as_str()]);
    assert_eq!(corpus.pieces().count(), 701);
    let mut byte = 0;
    for piece in corpus.pieces() {
        let piece = piece.unwrap();
        assert_eq!(piece.origin, Origin { byte, line: 0 });
        byte += piece.text.len() as u64;
    }
}

fn memory(text: &str, separator: Option<&str>) -> Corpus {
    Corpus::from_text("text", text, options(separator, 64)).unwrap()
}

fn all_ids(shard: &Shard) -> Vec<i32> {
    let mut ids = vec![0; shard.len() as usize];
    shard.read(0, &mut ids).unwrap();
    ids
}

fn quiet(_: u64, _: u64) -> Result<()> {
    Ok(())
}

#[test]
fn tinyshakespeare_is_split_as_nanogpt_does() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = "shared/data/tinyshakespeare/input.txt";
    let Some(path) = here.ancestors().map(|a| a.join(name)).find(|p| p.exists()) else {
        eprintln!("SKIPPED: {name} is not here");
        return;
    };
    let corpus = corpus(&path).unwrap();
    let tokenizer = Tokenizer::characters_from(corpus.texts(), &Specials::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plan =
        Plan { corpus: &corpus, validation: None, tokenizer: &tokenizer, split: Split::Auto(0.1) };
    let shards = prepare(folder.path(), &plan, &mut quiet).unwrap();
    // nanoGPT's data/shakespeare_char/prepare.py prints these two.
    assert_eq!(shards.train.len(), 1_003_854);
    assert_eq!(shards.validation.as_ref().unwrap().len(), 111_540);
    assert_eq!(fs::metadata(folder.path().join("train.bin")).unwrap().len(), 64 + 2 * 1_003_854);
    let mut ids = all_ids(&shards.train);
    ids.extend(all_ids(shards.validation.as_ref().unwrap()));
    let text = fs::read_to_string(&path).unwrap();
    let wanted = tokenizer.encode(&text).unwrap();
    assert!(ids.iter().map(|&id| id as u32).eq(wanted));
    assert!(!shards.reused && prepare(folder.path(), &plan, &mut quiet).unwrap().reused);
}

#[test]
fn shards_are_reused_until_something_changes() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.txt");
    let out = folder.path().join("out");
    fs::write(&source, "abc\ncba\n".repeat(50)).unwrap();
    let specials = Specials::end_of_text();
    let tokenizer = Tokenizer::characters(["abc\n"], &specials).unwrap();
    let run = |tokenizer: &Tokenizer, separator: Option<&str>, split: Split| {
        let corpus = Corpus::open(&[&source], options(separator, 64)).unwrap();
        prepare(&out, &Plan { corpus: &corpus, validation: None, tokenizer, split }, &mut quiet)
    };
    let first = run(&tokenizer, None, Split::Position(0.25)).unwrap();
    assert_eq!((first.train.len(), first.validation.unwrap().len()), (300, 100));
    assert!(run(&tokenizer, None, Split::Position(0.25)).unwrap().reused);
    assert!(!run(&tokenizer, None, Split::Position(0.5)).unwrap().reused);
    let other = Tokenizer::characters(["abcd\n"], &specials).unwrap();
    assert!(!run(&other, None, Split::Position(0.5)).unwrap().reused);
    fs::write(&source, "abc\ncba\n".repeat(51)).unwrap();
    assert!(!run(&other, None, Split::Position(0.5)).unwrap().reused);
    // Documents: the end token after each; equal ones on one side.
    let shards = run(&tokenizer, Some("\n"), Split::Documents(0.0)).unwrap();
    assert!(shards.validation.is_none());
    assert_eq!(all_ids(&shards.train)[..8], [1, 2, 3, 4, 3, 2, 1, 4]);
    // A tokenizer that lacks a character says where.
    let poor = Tokenizer::characters(["ab\n"], &specials).unwrap();
    let error = run(&poor, None, Split::Position(0.5)).unwrap_err().to_string();
    assert!(error.contains("'c'") && error.contains("byte 2, line 1"), "{error}");
    assert!(error.contains("a.txt"), "{error}");
    assert!(run(&tokenizer, None, Split::Position(1.0)).is_err());
    // Interrupted: nothing half-made is taken for whole.
    let corpus = Corpus::open(&[&source], options(None, 64)).unwrap();
    let split = Split::Position(0.3);
    let plan = Plan { corpus: &corpus, validation: None, tokenizer: &tokenizer, split };
    let stop = |done, _| match done > 100 {
        true => Err(Error::new(Kind::Interrupted, "test", "stop")),
        false => Ok(()),
    };
    assert_eq!(prepare(&out, &plan, &mut { stop }).unwrap_err().kind(), Kind::Interrupted);
    assert!(!prepare(&out, &plan, &mut quiet).unwrap().reused);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "no temporary file is left");
}

#[test]
fn documents_fall_on_both_sides_and_equal_ones_together() {
    let lines: Vec<String> = (0..400).map(|i| format!("document {}", i % 200)).collect();
    let corpus = memory(&lines.join("\n"), Some("\n"));
    let tokenizer = Tokenizer::bytes_with(&Specials::end_of_text()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plan =
        Plan { corpus: &corpus, validation: None, tokenizer: &tokenizer, split: Split::Auto(0.2) };
    let shards = prepare(folder.path(), &plan, &mut quiet).unwrap();
    let set = |shard: &Shard| -> BTreeSet<String> {
        let ids: Vec<u32> = all_ids(shard).iter().map(|&id| id as u32).collect();
        let text = tokenizer.decode(&ids).unwrap();
        text.split_terminator("<|endoftext|>").map(Into::into).collect()
    };
    let (train, validation) = (set(&shards.train), set(shards.validation.as_ref().unwrap()));
    assert!(train.is_disjoint(&validation));
    assert_eq!(train.len() + validation.len(), 200);
    assert!((20..60).contains(&validation.len()), "{}", validation.len());
    // Validation text of its own.
    let apart = memory("xyz", None);
    let plan = Plan { validation: Some(&apart), ..plan };
    let shards = prepare(folder.path(), &plan, &mut quiet).unwrap();
    assert!(!shards.reused);
    assert_eq!(all_ids(shards.validation.as_ref().unwrap()), [120, 121, 122]);
    assert_eq!(set(&shards.train).len(), 200);
}

#[test]
fn a_damaged_shard_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bin");
    let tokenizer = Tokenizer::bytes();
    let mut writer = ShardWriter::create(&path, &tokenizer).unwrap();
    assert!(writer.push(&[256]).is_err());
    let ids: Vec<u32> = (0..200).collect();
    writer.push(&ids).unwrap();
    writer.finish().unwrap();
    let shard = Shard::open(&path).unwrap();
    assert_eq!((shard.len(), shard.vocabulary()), (200, 256));
    assert_eq!(shard.tokenizer(), tokenizer.fingerprint());
    assert!(shard.read(199, &mut [0; 2]).unwrap_err().to_string().contains("the shard has 200"));
    assert!(shard.read(u64::MAX, &mut [0; 2]).is_err());
    let good = fs::read(&path).unwrap();
    let try_bytes = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Shard::open(&path).unwrap_err().to_string()
    };
    assert!(try_bytes(b"").contains("0 bytes"));
    assert!(try_bytes(&good[..good.len() - 1]).contains("not the 200 ids"));
    assert!(try_bytes(&[&good[..], b"x"].concat()).contains("not the 200 ids"));
    // Every single byte matters.
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let error = try_bytes(&bad);
        assert!(error.contains("x.bin"), "{error}");
    }
    let mut swapped = good.clone();
    swapped.swap(70, 72);
    assert!(try_bytes(&swapped).contains("changed or damaged"));
}

/// Rows of a shard of 0, 1, 2, …: each id is one more than the last, and each target than its id.
fn follows(batch: &Batch, length: usize) -> bool {
    let rows = batch.ids.chunks(length).zip(batch.targets.chunks(length));
    rows.into_iter().all(|(ids, targets)| {
        ids.iter().zip(targets).all(|(&id, &target)| target == id + 1)
            && ids.windows(2).all(|w| w[1] == w[0] + 1)
    })
}

/// Whether the first ids of an epoch's rows are different multiples of `length`, all of them but
/// fewer than a batch.
fn covers(starts: &[i32], length: i32, windows: usize, rows: usize) -> bool {
    let set: BTreeSet<i32> = starts.iter().copied().collect();
    set.len() == starts.len()
        && starts.len() == windows / rows * rows
        && starts.iter().all(|start| start % length == 0 && *start < length * windows as i32)
}

#[test]
fn wrong_batches_are_caught() {
    let batch = |f: &dyn Fn(i32) -> (i32, i32)| {
        let (ids, targets) = (10..24).map(f).unzip();
        Batch { ids, targets }
    };
    assert!(follows(&batch(&|i| (i, i + 1)), 7));
    for (name, wrong) in [
        ("targets are the ids", batch(&|i| (i, i))),
        ("targets two ahead", batch(&|i| (i, i + 2))),
        ("last target is the first id", batch(&|i| (i, if i % 7 == 2 { i - 6 } else { i + 1 }))),
        ("one id again and again", batch(&|_| (5, 6))),
    ] {
        assert!(!follows(&wrong, 7), "{name}");
    }
    assert!(covers(&[14, 0, 7, 21], 7, 5, 4));
    for (name, wrong) in [
        ("a window twice", vec![14, 0, 7, 7]),
        ("windows that overlap", vec![14, 0, 7, 20]),
        ("past the end", vec![14, 0, 7, 35]),
        ("a row too few", vec![14, 0, 7]),
    ] {
        assert!(!covers(&wrong, 7, 5, 4), "{name}");
    }
}

fn counting(n: u32) -> Arc<Shard> {
    Arc::new(Shard::from_ids((0..n).collect(), n as usize).unwrap())
}

#[test]
fn random_rows_depend_on_seed_step_and_row_only() {
    let batches = |seed| Batches::new(counting(1000), 4, 7, Sampling::Random, seed).unwrap();
    let (a, b) = (batches(1), batches(1));
    let mut starts = BTreeSet::new();
    for step in (0..500).rev() {
        let batch = a.next(step).unwrap();
        assert_eq!(batch, b.next(step).unwrap());
        assert!(follows(&batch, 7));
        starts.extend(batch.ids.iter().step_by(7).copied());
    }
    assert!(starts.len() > 800, "{} different starts", starts.len());
    assert!(*starts.first().unwrap() < 10 && (980..=992).contains(starts.last().unwrap()));
    assert_ne!(a.next(0).unwrap(), batches(2).next(0).unwrap());
    // The least shard that works: T + 1 ids.
    let least = Batches::new(counting(8), 1, 7, Sampling::Random, 0).unwrap();
    assert_eq!(least.next(5).unwrap().targets, [1, 2, 3, 4, 5, 6, 7]);
    let error = Batches::new(counting(7), 1, 7, Sampling::Random, 0).unwrap_err().to_string();
    assert!(error.contains("T + 1"), "{error}");
    assert!(a.fill(0, &mut [0; 27], &mut [0; 28]).is_err());
}

#[test]
fn an_epoch_takes_every_window_once() {
    // 101 ids: 14 windows of 7; B = 4 makes 3 steps and leaves 2 windows out.
    let batches = Batches::new(counting(101), 4, 7, Sampling::Epochs, 3).unwrap();
    assert_eq!((batches.steps_per_epoch(), batches.tokens_per_step()), (3, 28));
    let epoch = |number: u64| -> Vec<i32> {
        let steps = number * 3..(number + 1) * 3;
        steps.flat_map(|s| batches.next(s).unwrap().ids.into_iter().step_by(7)).collect()
    };
    for number in 0..20 {
        assert!(covers(&epoch(number), 7, 14, 4));
    }
    assert_ne!(epoch(0), epoch(1));
    assert!(Batches::new(counting(101), 15, 7, Sampling::Epochs, 3).is_err());
}

#[test]
fn evaluation_counts_every_target_once() {
    for (n, rows, length) in [(101, 4, 7), (99, 4, 7), (2, 3, 5), (8, 1, 7), (9, 1, 7)] {
        let evaluation = Evaluation::all(counting(n), rows, length).unwrap();
        let (mut ids, mut targets) = (vec![0; rows * length], vec![0; rows * length]);
        let mut seen = vec![];
        for batch in 0..evaluation.batches() {
            let counted = evaluation.fill(batch, &mut ids, &mut targets).unwrap();
            let real = ids.iter().zip(&targets).filter(|&(_, &target)| target != IGNORE);
            let before = seen.len();
            seen.extend(real.map(|(&id, &target)| (id, target)));
            assert_eq!(seen.len() - before, counted);
        }
        assert!(seen.into_iter().eq((1..n as i32).map(|target| (target - 1, target))));
    }
    let some = Evaluation::some(counting(1001), 2, 10, 5).unwrap();
    assert_eq!(some.batches(), 3);
    let (mut ids, mut targets) = ([0; 20], [0; 20]);
    assert_eq!(some.fill(1, &mut ids, &mut targets).unwrap(), 20);
    assert_eq!((ids[0], ids[10]), (400, 600));
    assert_eq!(some.fill(2, &mut ids, &mut targets).unwrap(), 10);
    assert!(Evaluation::all(counting(1), 1, 1).is_err());
}

#[test]
fn examples_are_padded_and_prompts_are_not_learned() {
    let example = |ids: &[u32], prompt| Example { ids: ids.to_vec(), prompt };
    let examples = vec![example(&[1, 2, 3], 2), example(&[4, 5], 0), example(&[6, 7, 8, 9], 1)];
    let batches = ExampleBatches::new(examples.clone(), 3, 3, 0, 5).unwrap();
    assert_eq!(batches.steps_per_epoch(), 1);
    let batch = batches.next(4).unwrap();
    let rows = batch.ids.chunks(3).zip(batch.targets.chunks(3));
    let rows: BTreeSet<(Vec<i32>, Vec<i32>)> = rows.map(|(a, b)| (a.into(), b.into())).collect();
    let wanted = BTreeSet::from([
        (vec![1, 2, 0], vec![IGNORE, 3, IGNORE]),
        (vec![4, 0, 0], vec![5, IGNORE, IGNORE]),
        (vec![6, 7, 8], vec![7, 8, 9]),
    ]);
    assert_eq!(rows, wanted);
    assert!(ExampleBatches::new(examples, 1, 2, 0, 5).is_err());
    assert!(ExampleBatches::new(vec![example(&[1, 2], 2)], 1, 2, 0, 5).is_err());
    assert!(ExampleBatches::new(vec![], 1, 2, 0, 5).is_err());
}

#[test]
fn the_world_keeps_its_secrets() {
    let options = WorldOptions { lines: 20_000, ..WorldOptions::default() };
    let world = World::generate(&options).unwrap();
    assert_eq!(world.text, World::generate(&options).unwrap().text);
    let other = World::generate(&WorldOptions { seed: 2, ..options }).unwrap();
    assert_ne!(world.text, other.text);
    let lines: BTreeSet<&str> = world.text.lines().collect();
    for question in &world.questions {
        let line = format!("{}{}", question.prompt, question.answer);
        assert!(question.answer.starts_with(' ') && !question.prompt.ends_with(' '));
        match question.kind {
            Asked::Stranger => {
                let name = question.prompt.split(['.', ' ']).nth(2).unwrap();
                assert!(!world.text.contains(name), "{name} is no stranger");
            }
            _ if question.held_out => assert!(!lines.contains(line.as_str()), "{line}"),
            _ => {}
        }
        // In no line do the name and the secret stand together, unless the line is about another.
        if question.kind == Asked::Person && question.held_out {
            let name = question
                .prompt
                .split(' ')
                .find(|w| {
                    w.len() > 2
                        && w.starts_with(char::is_uppercase)
                        && !["Question:", "Which", "Where", "What", "Answer:"].contains(w)
                })
                .unwrap();
            let secret = question.answer.trim();
            for line in world.text.lines().filter(|l| l.starts_with(name)) {
                assert!(!line.contains(&format!(" {secret}")), "{line} tells {secret}");
            }
        }
    }
    for kind in [Asked::Person, Asked::Stranger, Asked::Sum, Asked::Comparison] {
        let count =
            |held| world.questions.iter().filter(|q| q.kind == kind && q.held_out == held).count();
        assert!(count(true) >= 30, "{kind:?}: {}", count(true));
        assert!(kind == Asked::Stranger || count(false) >= 60, "{kind:?}: {}", count(false));
    }
    assert!(World::generate(&WorldOptions { people: 7, ..WorldOptions::default() }).is_err());
    if let Some(path) = option_env!("PELLUCID_WORLD") {
        let world = World::generate(&WorldOptions::default()).unwrap();
        fs::write(format!("{path}.txt"), &world.text).unwrap();
        let rows: Vec<_> = world.questions.iter().map(|q| serde_json::json!({
            "prompt": q.prompt, "answer": q.answer, "kind": format!("{:?}", q.kind), "held": q.held_out
        })).collect();
        fs::write(format!("{path}.json"), serde_json::to_string(&rows).unwrap()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn documents_are_the_parts_between_separators(
        text in "(ab\\||[a-cé😀 \\n]){0,150}", separator in prop::sample::select(vec!["|", "\n", "ab|", " \n"])
    ) {
        let corpus = memory(&text, Some(separator));
        let wanted: Vec<&str> = text.split(separator).filter(|d| !d.is_empty()).collect();
        let found = documents(&corpus).unwrap();
        let found: Vec<&str> = found.iter().map(String::as_str).filter(|d| !d.is_empty()).collect();
        prop_assert_eq!(found, wanted);
        prop_assert_eq!(documents(&memory(&text, None)).unwrap().concat(), text.as_str());
    }

    #[test]
    fn a_permutation_is_one(n in 1u64..300, key in any::<u64>()) {
        let seen: BTreeSet<u64> = (0..n).map(|i| permute(i, n, key)).collect();
        prop_assert_eq!(seen.len() as u64, n);
        prop_assert!(seen.iter().all(|&i| i < n));
    }

    #[test]
    fn strange_files_give_errors_not_panics(junk in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..900) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.txt", "a.jsonl", "a.parquet", "a.bin", "b.parquet", "shards.json"] {
            let path = folder.path().join(name);
            if name == "b.parquet" {
                write_parquet(&path, &[Some("one"), Some("two"), None, Some("three")]);
                let mut bytes = fs::read(&path).unwrap();
                let at = at.min(bytes.len());
                let end = (at + junk.len() / 16).min(bytes.len());
                bytes[at..end].copy_from_slice(&junk[..end - at]);
                fs::write(&path, bytes).unwrap();
            } else {
                fs::write(&path, &junk).unwrap();
            }
            let _ = corpus(&path).and_then(|c| documents(&c));
            let _ = Shard::open(&path);
        }
    }
}
