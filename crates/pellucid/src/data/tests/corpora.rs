use super::*;

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

fn failure(path: &Path) -> String {
    corpus(path).and_then(|c| documents(&c)).unwrap_err().to_string()
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
