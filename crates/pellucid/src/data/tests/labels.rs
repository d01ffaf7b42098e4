use super::*;

fn written(folder: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn pairs(path: &Path, columns: Option<(&str, &str)>) -> Result<Vec<TextPair>> {
    let columns = columns.map(|(a, b)| (a.into(), b.into()));
    read_parallel(&ParallelSource::Columns { path: path.into(), columns })
}

fn two(source: &Path, target: &Path) -> Result<Vec<TextPair>> {
    read_parallel(&ParallelSource::Files { source: source.into(), target: target.into() })
}

fn columns(text: &str, second: Option<&str>, label: &str) -> LabelledColumns {
    let second = second.map(Into::into);
    LabelledColumns { text: text.into(), second, label: label.into(), header: false }
}

/// Asserts that an error has all parts, and gives it.
fn has<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) -> String {
    let error = result.unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in\n{error}");
    }
    error
}

#[test]
fn parallel_text_comes_from_two_files_a_table_or_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, text: &str| written(folder.path(), name, text.as_bytes());
    let wanted = [("a dog", "ein \"Hund\"", 1), ("a cat\u{2028}x", "eine Katze", 3)];
    let wanted = wanted.map(|(s, t, line)| TextPair { source: s.into(), target: t.into(), line });
    let en = write("x.en", "\u{FEFF}a dog\r\n\r\na cat\u{2028}x\n");
    let de = write("x.de", "ein \"Hund\"\n\neine Katze");
    assert_eq!(two(&en, &de).unwrap(), wanted);
    let tsv = write("x.tsv", "a dog\tein \"Hund\"\n\na cat\u{2028}x\teine Katze\n");
    assert_eq!(pairs(&tsv, None).unwrap(), wanted);
    let named =
        write("n.tsv", "id\tde\ten\n1\tein \"Hund\"\ta dog\n3\teine Katze\ta cat\u{2028}x\n");
    let lines =
        |pairs: Vec<TextPair>| pairs.iter().map(|p| (p.source.clone(), p.line)).collect::<Vec<_>>();
    let both = [("a dog".to_owned(), 2), ("a cat\u{2028}x".to_owned(), 3)];
    assert_eq!(lines(pairs(&named, Some(("en", "de"))).unwrap()), both);
    let csv = write("n.csv", "en,de\na dog,\"ein \"\"Hund\"\"\"\n\"a cat\u{2028}x\",eine Katze\n");
    let read = pairs(&csv, Some(("en", "de"))).unwrap();
    assert_eq!(read[0].target, wanted[0].target);
    assert_eq!(lines(read), both);
    let json = write(
        "x.jsonl",
        "{\"source\": \"a dog\", \"target\": \"ein \\\"Hund\\\"\"}\n\n{\"source\": \"a cat\u{2028}x\", \"target\": \"eine Katze\", \"n\": 1}\n",
    );
    assert_eq!(pairs(&json, None).unwrap(), wanted);
    assert_eq!(pairs(&json, Some(("target", "source"))).unwrap()[0].source, wanted[0].target);
}

#[test]
fn faults_of_parallel_text_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, text: &str| written(folder.path(), name, text.as_bytes());
    let (three, four) = (write("x.en", "a\nb\nc\n"), write("x.de", "a\nb\nc\nd\n"));
    has(two(&three, &four), &["3 and 4 lines", "x.en: 3 lines", "x.de: 4 lines", "hint: line n"]);
    let gap = write("gap.de", "a\n \nc\n");
    has(two(&three, &gap), &["gap.de:2: empty", "both files"]);
    has(two(&gap, &three), &["gap.de:2: empty"]);
    let many = write("many.tsv", &"a\tb\nno tab\n".repeat(12));
    let error =
        has(pairs(&many, None), &["many.tsv:2: 1 columns, not two", "many.tsv:20:", "and 2 more"]);
    assert!(!error.contains("many.tsv:22"), "{error}");
    has(
        pairs(&write("e.tsv", "a\tb\n\tb\na\t\n"), None),
        &["e.tsv:2: the source is empty", "e.tsv:3: the target"],
    );
    has(pairs(&write("t.tsv", "a\tb\tc\n"), None), &["t.tsv:1: 3 columns, not two"]);
    has(
        pairs(&write("h.tsv", "en\tde\na\tb\n"), Some(("en", "fr"))),
        &["h.tsv:1: no column \"fr\"", "\"en\", \"de\""],
    );
    has(
        pairs(&write("s.tsv", "en\tde\na\n"), Some(("en", "de"))),
        &["s.tsv:2: 1 columns; 2 are needed"],
    );
    has(
        pairs(&write("m.jsonl", "{\"source\": \"a\"}"), None),
        &["m.jsonl:1: no field \"target\"", "\"source\""],
    );
    has(
        pairs(&write("b.jsonl", "{}\n[1]\n{\"a\"\n"), None),
        &["b.jsonl:2: an array", "b.jsonl:3: not JSON at column"],
    );
    has(
        pairs(&write("k.jsonl", "{\"source\": [], \"target\": \"\"}"), None),
        &["k.jsonl:1: field \"source\" is an array"],
    );
    has(pairs(&write("q.csv", "a,\"b\nc\n"), None), &["q.csv:1: a quote begins here"]);
    has(pairs(&write("0.tsv", "\n"), None), &["0.tsv: no rows"]);
    has(two(&write("1.en", "\n"), &write("1.de", "\n")), &["no pairs"]);
    has(
        pairs(&written(folder.path(), "u.tsv", b"a\tb\nab\xFF\tc\n"), None),
        &["u.tsv:2: not UTF-8 at byte 2 of the line"],
    );
    has(pairs(&written(folder.path(), "z.gz", b"\x1F\x8B\x08"), None), &["gzip", "gunzip"]);
    has(pairs(&folder.path().join("none.tsv"), None), &["none.tsv", "nothing is there"]);
    has(pairs(&many, Some(("0", "2"))), &["no column \"0\""]);
}

#[test]
fn labels_get_ids_in_an_order_that_is_stable() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, text: &str| written(folder.path(), name, text.as_bytes());
    let read =
        |path: &Path, columns: &LabelledColumns| read_labelled(path, columns, LabelKind::Classes);
    let ids = |text: &LabelledText| text.rows.iter().map(|row| row.label).collect::<Vec<_>>();
    let glue = write("g.tsv", "sentence\tlabel\n\"quoted\tpos\na \" b\tneg\nc\tpos \n");
    let text = read(&glue, &columns("sentence", None, "label")).unwrap();
    assert_eq!(text.classes, ["neg", "pos"]);
    assert_eq!(ids(&text), [Label::Class(1), Label::Class(0), Label::Class(1)]);
    assert_eq!((text.rows[0].text.as_str(), text.rows[0].line), ("\"quoted", 2));
    let with_header = LabelledColumns { header: true, ..columns("1", None, "2") };
    assert_eq!(read(&glue, &with_header).unwrap(), text);
    let numbers = write("n.tsv", "10\ta\n9\tb\n-1\tc\n");
    assert_eq!(read(&numbers, &columns("2", None, "1")).unwrap().classes, ["-1", "9", "10"]);
    let json = write(
        "j.jsonl",
        "{\"a\": \"x\", \"b\": \"y\", \"label\": true}\n{\"a\": \"x\", \"b\": \"z\", \"label\": false}\n",
    );
    let text = read(&json, &columns("a", Some("b"), "label")).unwrap();
    assert_eq!(text.rows[1].second.as_deref(), Some("z"));
    assert_eq!(ids(&text), [Label::Class(1), Label::Class(0)]);
    let csv = write("c.csv", "text,label\n\"two\nlines, one cell\",5\nplain,4\n");
    let text = read(&csv, &columns("text", None, "label")).unwrap();
    assert_eq!((text.rows[0].text.as_str(), text.rows[1].line), ("two\nlines, one cell", 4));
    let known = ["pos".to_owned(), "neg".to_owned()];
    let text = read_labelled(&glue, &columns("sentence", None, "label"), LabelKind::Known(&known))
        .unwrap();
    assert_eq!((ids(&text)[0], text.classes.as_slice()), (Label::Class(0), &known[..]));
}

#[test]
fn faults_of_labels_name_line_and_known_labels() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, text: &str| written(folder.path(), name, text.as_bytes());
    let simple = columns("1", None, "2");
    let known = ["neg".to_owned(), "pos".to_owned()];
    let path = write("v.tsv", "a\tpos\nb\tneutral\nc\tneg\nd\tPOS\n");
    has(
        read_labelled(&path, &simple, LabelKind::Known(&known)),
        &[
            "v.tsv:2: unknown label \"neutral\"",
            "v.tsv:4: unknown label \"POS\"",
            "\"neg\", \"pos\"",
        ],
    );
    let path = write("r.tsv", "score\tx\na\t1.5\nb\tNaN\nc\tinf\nd\t1e99\n");
    has(
        read_labelled(&path, &simple, LabelKind::Numbers),
        &[
            "r.tsv:1: label \"x\" is not a finite number",
            "r.tsv:3:",
            "r.tsv:4:",
            "r.tsv:5:",
            "header",
        ],
    );
    has(
        read_labelled(&write("1.tsv", "a\tx\nb\tx\n"), &simple, LabelKind::Classes),
        &["all labels are \"x\""],
    );
    has(
        read_labelled(&write("e.tsv", " \tx\nb\t\n"), &simple, LabelKind::Classes),
        &["e.tsv:1: the text is empty", "e.tsv:2: the label is empty"],
    );
    has(
        read_labelled(&write("h.tsv", "t\tl\n"), &columns("t", None, "l"), LabelKind::Classes),
        &["no rows after the header"],
    );
    has(
        read_labelled(&write("j.jsonl", "{\"t\": \"a\"}"), &simple, LabelKind::Classes),
        &["j.jsonl:1", "by name"],
    );
}

/// A folder of the shared data, or a note that the test is skipped.
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

#[test]
fn real_files_have_the_rows_that_their_readmes_promise() {
    let count = |text: LabelledText| {
        let positive = text.rows.iter().filter(|row| row.label == Label::Class(1)).count();
        (text.rows.len(), positive, text.classes.len())
    };
    if let Some(folder) = shared("sst2") {
        let read = |name: &str, columns| {
            read_labelled(&folder.join(name), &columns, LabelKind::Classes).unwrap()
        };
        assert_eq!(count(read("train.tsv", columns("1", None, "2"))), (6920, 3610, 2));
        assert_eq!(count(read("dev.tsv", columns("1", None, "2"))), (872, 444, 2));
    }
    if let Some(folder) = shared("cola") {
        let path = folder.join("in_domain_train.tsv");
        let text = read_labelled(&path, &columns("4", None, "2"), LabelKind::Classes).unwrap();
        assert_eq!(count(text), (8551, 6023, 2));
    }
    if let Some(folder) = shared("stsb") {
        let columns = columns("6", Some("7"), "5");
        let read = |name| read_labelled(&folder.join(name), &columns, LabelKind::Numbers).unwrap();
        let (train, dev) = (read("sts-train.csv"), read("sts-dev.csv"));
        assert_eq!((train.rows.len(), dev.rows.len()), (5749, 1500));
        assert_eq!(dev.rows[1].label, Label::Number(4.75));
        assert_eq!(dev.rows[1].second.as_deref(), Some("A child is riding a horse."));
        let quotes = train.rows.iter().filter(|row| row.text.starts_with('"')).count();
        assert!(quotes > 0, "raw quotes are text");
    }
    if let Some(folder) = shared("multi30k") {
        let (en, de) = (folder.join("train.en"), folder.join("train.de"));
        if en.exists() {
            assert_eq!(two(&en, &de).unwrap().len(), 29_000);
        }
    }
}
