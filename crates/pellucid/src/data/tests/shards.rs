use super::*;

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
        // Past the test harness, which hides what passing tests print.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: {name} is not here\n"),
        );
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
