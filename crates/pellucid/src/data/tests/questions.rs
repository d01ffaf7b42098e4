//! Questions of task files, and how they are put.

use super::*;

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn has<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) {
    let text = result.unwrap_err().to_string();
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in\n{text}"));
}

#[test]
fn questions_are_read_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(
        folder.path(),
        "q.jsonl",
        "{\"question\": \"One?\", \"choices\": [\"a\", \"b \"], \"answer\": \"b\"}\n\n\
         {\"context\": \"It is\", \"choices\": [\"1\", \"0\", \"2\"], \"answer\": 0, \"more\": null}\n",
    );
    let found = read_questions(&path).unwrap();
    assert_eq!(found.path, path);
    let [one, two] = &found.all[..] else { panic!("{found:?}") };
    assert_eq!((one.text.as_str(), one.answer, one.form, one.line), ("One?", 1, Form::Question, 1));
    assert_eq!(one.choices, ["a", "b "]);
    // A number is the place of a choice, text is its text.
    assert_eq!((two.answer, two.form, two.line), (0, Form::Context, 3));
    let path = written(
        folder.path(),
        "w.jsonl",
        "{\"text\": \"a  good\\u00a0day \\n\"}\n{\"text\": \"two words\"}\n",
    );
    let found = read_last_words(&path, "text").unwrap().all;
    assert_eq!(
        (found[0].text.as_str(), &*found[0].choices),
        ("a  good\u{a0}", &["day".into()][..])
    );
    assert_eq!((found[1].text.as_str(), found[1].line), ("two ", 2));
}

#[test]
fn faults_of_questions_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(
        folder.path(),
        "q.jsonl",
        r#"{"question": "a", "choices": ["x", "y"]}
{"question": "a", "choices": ["x", "y"], "answer": 2}
{"question": "a", "choices": ["x", "y"], "answer": "z"}
{"question": "a", "choices": ["x", " "], "answer": 0}
{"question": "a", "choices": ["x"], "answer": 0}
{"question": " ", "choices": ["x", "y"], "answer": 0}
{"text": "a whole passage"}
{"question": "a", "context": "b", "choices": ["x", "y"], "answer": 0}
{"question": "a", "choices": ["x", "x "], "answer": 0}
{"question": "a", "choices": "xy", "answer": 0}
{"question": "a", "choices": ["x", 1], "answer": 0}
{"question": "a", "choices": ["x", "y"], "answer": -1}
"#,
    );
    has(
        read_questions(&path),
        &[
            "q.jsonl:1: no field \"answer\"; its fields are",
            "q.jsonl:2: answer 2, but choices are 0..=1",
            "q.jsonl:3: answer \"z\" is not among the choices \"x\", \"y\"",
            "q.jsonl:4: choice 1 is empty",
            "q.jsonl:5: 1 choices; there must be at least two",
            "q.jsonl:6: the question is empty",
            "q.jsonl:7: no field \"question\"; its fields are \"text\"",
            "q.jsonl:8: both a context and a question",
            "q.jsonl:9: choices 0 and 1 are both \"x \"",
            "q.jsonl:10: \"choices\" is text, not an array",
            "and 2 more",
            "hint: a line is {\"question\"",
        ],
    );
    has(
        read_last_words(&path, "text"),
        &["q.jsonl:1: no field \"text\"", "{\"text\": \"… last\"}"],
    );
    let path = written(folder.path(), "w.jsonl", "{\"text\": \" word \"}\n{\"text\": \" \"}\n");
    has(
        read_last_words(&path, "text"),
        &["w.jsonl:1: the text is one word", "w.jsonl:2: the text is empty"],
    );
    let path = written(folder.path(), "t.jsonl", "question\tanswer\n");
    has(read_questions(&path), &["t.jsonl:1: not JSON", "hint: a line is {\"question\""]);
    has(read_questions(&written(folder.path(), "e.jsonl", "\n")), &["no questions in it"]);
}

fn many(folder: &Path, name: &str, numbers: std::ops::Range<usize>) -> Questions {
    let line = |i| {
        format!("{{\"question\": \"q{i}?\", \"choices\": [\"a{i}\", \"no\"], \"answer\": 0}}\n")
    };
    let text: String = numbers.map(line).collect();
    read_questions(&written(folder, name, &text)).unwrap()
}

#[test]
fn shots_grow_never_hold_the_question_and_follow_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let questions = many(folder.path(), "q.jsonl", 0..20);
    let prompts = Prompts {
        examples: &questions,
        template: Some(Template::parse("<{question}={answer}>").unwrap()),
        separator: ";".into(),
        seed: 3,
    };
    let put =
        |prompts: &Prompts<'_>, number, shots| prompts.put(&questions, number, shots).unwrap();
    assert_eq!(put(&prompts, 4, 0).context, "<q4?=");
    let mut drawn = BTreeSet::new();
    for number in 0..20 {
        let eight = put(&prompts, number, 8).context;
        let shots: Vec<&str> = eight.split(';').collect();
        assert_eq!((shots.len(), shots[8]), (9, &*format!("<q{number}?=")));
        assert!(!shots[..8].contains(&&*format!("<q{number}?=a{number}>")), "{eight}");
        assert!(shots[..8].iter().all(|s| s.starts_with("<q") && s.contains("?=a")), "{eight}");
        assert_eq!(shots.iter().collect::<BTreeSet<_>>().len(), 9, "none twice: {eight}");
        // Two shots are the first two of eight, again and again.
        let two = put(&prompts, number, 2).context;
        assert_eq!(two, format!("{};{};<q{number}?=", shots[0], shots[1]));
        assert_eq!(two, put(&prompts, number, 2).context);
        drawn.insert(shots[0].to_owned());
    }
    assert!(drawn.len() > 8, "each question has examples of its own: {drawn:?}");
    let other = Prompts { seed: 4, ..prompts.clone() };
    assert!((0..20).any(|i| put(&other, i, 2) != put(&prompts, i, 2)));
    let all = put(&prompts, 0, 19).context;
    assert_eq!(all.matches(';').count(), 19);
    has(
        prompts.put(&questions, 5, 20),
        &["q.jsonl: 19 examples other than the question at ", "q.jsonl:6, but 20 shots are asked"],
    );
    has(prompts.put(&questions, 20, 0), &["no question 20"]);
    // The same question in another file is no example either.
    let few = many(folder.path(), "few.jsonl", 5..8);
    let prompts = Prompts { examples: &few, ..prompts };
    assert_eq!(prompts.put(&questions, 0, 3).unwrap().context.matches(';').count(), 3);
    has(prompts.put(&questions, 6, 3), &["few.jsonl: 2 examples", "q.jsonl:7"]);
}

#[test]
fn questions_are_put_as_their_form_says() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"question\": \"Why?\", \"choices\": [\"so\", \"no\"], \"answer\": 0}\n\
                {\"context\": \"It is\", \"choices\": [\"so\", \"no\"], \"answer\": \"no\"}\n";
    let questions = read_questions(&written(folder.path(), "q.jsonl", text)).unwrap();
    let prompts =
        Prompts { examples: &questions, template: None, separator: "\n\n".into(), seed: 0 };
    let put = prompts.put(&questions, 0, 1).unwrap();
    assert_eq!(put.context, "It is no\n\nQuestion: Why?\nAnswer: ");
    assert_eq!((put.choices, put.answer), (vec!["so".to_owned(), "no".into()], 0));
    let words = written(folder.path(), "w.jsonl", "{\"text\": \"a b  c\"}\n{\"text\": \"d e\"}\n");
    let words = read_last_words(&words, "text").unwrap();
    let prompts = Prompts { examples: &words, ..prompts };
    assert_eq!(prompts.put(&words, 0, 1).unwrap().context, "d e\n\na b  ");
    for bad in ["{question}", "{answer}{question}", "{question}{answer}{answer}", ""] {
        has(Template::parse(bad), &["template", "{question} once"]);
    }
}
