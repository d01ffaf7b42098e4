use super::*;

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn columns(words: &str, tags: Option<&str>) -> TaggedColumns {
    TaggedColumns { words: words.into(), tags: tags.map(Into::into), header: false }
}

fn sentence(words: &str, tags: &str, line: u64) -> Tagged {
    let all = |text: &str| text.split(' ').map(Into::into).collect();
    Tagged { words: all(words), tags: all(tags), line }
}

#[test]
fn sentences_come_from_columns_or_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name, text: &str| written(folder.path(), name, text);
    let read = |path: &Path, columns: &TaggedColumns| read_tagged(path, columns, None).unwrap();
    let (simple, third) = (TaggedColumns::default(), columns("1", Some("3")));
    let wanted = [sentence("U.N. in Rome", "B-ORG O B-LOC", 3), sentence("Go", "O", 8)];
    let conll = "-DOCSTART- -X- -X- O\n\nU.N. NNP I-NP B-ORG\nin IN  I-PP O \nRome NNP\tI-NP B-LOC\r\n\n\nGo VB I-VP O";
    let conll = write("a.conll", conll);
    assert_eq!(read(&conll, &simple), wanted);
    let syntax = [sentence("U.N. in Rome", "I-NP I-PP I-NP", 3), sentence("Go", "I-VP", 8)];
    assert_eq!(read(&conll, &third), syntax);
    // A document ends a sentence; tabs leave blanks in words; a no-break space is no blank.
    let tabs = write("t.tsv", "\u{FEFF}10 000\tB\n-DOCSTART-\tO\n# tag\tO\n \t \nx\u{A0}y\tO\n");
    let found = read(&tabs, &simple);
    let words: Vec<&[String]> = found.iter().map(|s| &*s.words).collect();
    assert_eq!(words, [["10 000"], ["# tag"], ["x\u{A0}y"]]);
    assert_eq!(found.iter().map(|s| s.line).collect::<Vec<_>>(), [1, 3, 5]);
    let named = write("n.txt", "\nid form ner pos\n1 Rome B-LOC NNP\n\n1 is O VBZ\n");
    let wanted = [sentence("Rome", "B-LOC", 3), sentence("is", "O", 5)];
    assert_eq!(read(&named, &columns("form", Some("ner"))), wanted);
    assert_eq!(read(&named, &columns("2", Some("ner"))), wanted);
    let header = TaggedColumns { header: true, ..columns("2", Some("3")) };
    assert_eq!(read(&named, &header), wanted);
    let json = "{\"tokens\": [\"Rome\", \"is\"], \"tags\": [\"B-LOC\", \"O\"], \"ids\": [3, 0]}\n\n{\"tokens\": [\"a\"], \"tags\": [\"O\"], \"ids\": [0]}";
    let json = write("a.jsonl", json);
    assert_eq!(read(&json, &simple), [sentence("Rome is", "B-LOC O", 1), sentence("a", "O", 3)]);
    assert_eq!(read(&json, &columns("tokens", Some("ids")))[0].tags, ["3", "0"]);
}

/// What is said of these files, without the folder they are in.
fn said(files: &[(&str, &str)], columns: &TaggedColumns, known: Option<&[String]>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let said = files.iter().map(|(name, text)| {
        let path = written(folder.path(), name, text);
        read_tagged(&path, columns, known).unwrap_err().to_string()
    });
    let said: Vec<String> = said.collect();
    let place = format!("{}{}", folder.path().display(), std::path::MAIN_SEPARATOR);
    said.join("\n\n").replace(&place, "")
}

#[test]
fn faults_of_tagged_text_name_their_lines() {
    let simple = TaggedColumns::default();
    let files = [
        ("columns.txt", "a DT O\nb O\n\nc\n"),
        ("word.txt", "a\nb\n"),
        ("empty.tsv", "a\tO\n\tO\nb\t\n"),
        ("nothing.txt", "\n-DOCSTART- O\n \n"),
        ("no.jsonl", ""),
        (
            "lengths.jsonl",
            "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}\n{\"tokens\": []}\n{\"tokens\": \"a b\", \"tags\": []}\n{\"tokens\": [\"a\", \"\"], \"tags\": [\"O\", \"O\"]}\n{\"tokens\": [null], \"tags\": [\"O\"]}\n{\"tokens\": [], \"tags\": []}",
        ),
    ];
    insta::assert_snapshot!("faults", said(&files, &simple, None));
    let known = ["O".to_owned(), "B-PER".to_owned()];
    let unknown = [
        ("new.txt", "a O\nb I-PER\n\n\nc B-PER\nd LOC\n"),
        ("new.jsonl", "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\", \"X\"]}"),
    ];
    insta::assert_snapshot!("unknown_tags", said(&unknown, &simple, Some(&known)));
    let nowhere = [
        ("header.txt", "form ner\na O\n"),
        ("few.txt", "a pos\nO\n"),
        ("number.jsonl", "{\"tokens\": [\"a\"], \"tags\": [\"O\"]}"),
    ];
    let (named, third) = (columns("1", Some("pos")), columns("1", Some("3")));
    insta::assert_snapshot!("no_column", said(&nowhere[..2], &named, None));
    insta::assert_snapshot!("no_number", said(&nowhere, &third, None));
}
