//! Against ids and texts by `tokenizers` and `transformers`: see `tests/golden/make_text.py`.

use super::*;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text")
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn ids_and_segments_are_those_of_transformers() {
    let golden = read("ids.json");
    let texts: Vec<&str> =
        golden["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let mut compared = 0;
    for (name, wanted) in golden["kinds"].as_object().unwrap() {
        let tokenizer = Tokenizer::from_file(&folder().join(format!("{name}.json"))).unwrap();
        for (at, text) in texts.iter().enumerate() {
            assert_eq!(
                tokenizer.encode(text).unwrap(),
                ids(&wanted["without"][at]),
                "{name} {text:?}"
            );
            assert_eq!(
                tokenizer.encode_with_template(text).unwrap(),
                ids(&wanted["with"][at]),
                "{name} {text:?}"
            );
            assert_eq!(
                tokenizer.encode_pair(text, None, None).unwrap().ids,
                ids(&wanted["with"][at])
            );
        }
        let mut rows = wanted["pairs"].as_array().unwrap().iter();
        for pair in golden["pairs"].as_array().unwrap() {
            let [a, b] = [0, 1].map(|side| texts[pair[side].as_u64().unwrap() as usize]);
            for longest in golden["lengths"].as_array().unwrap() {
                let longest = longest.as_u64().map(|longest| longest as usize);
                let row = rows.next().unwrap();
                let wanted = Encoded { ids: ids(&row[0]), segments: ids(&row[1]) };
                let found = tokenizer.encode_pair(a, Some(b), longest).unwrap();
                assert_eq!(found, wanted, "{name} {a:?} {b:?} {longest:?}");
                assert!(longest.is_none_or(|longest| found.ids.len() <= longest));
                compared += 1;
            }
        }
        let special = tokenizer.special_ids();
        for (token, id) in special.named() {
            // A guess by name: <s> of RoBERTa is both bos and cls.
            assert_eq!(
                id.map(Value::from).as_ref(),
                wanted["special"].get(token),
                "{name} {token}"
            );
        }
    }
    assert_eq!(compared, 4 * 6 * 4);
}

/// See `tests/golden/make_words.py`.
#[test]
fn words_have_the_ids_and_places_of_transformers() {
    let golden = read("words.json");
    let mut compared = 0;
    for (name, rows) in golden["kinds"].as_object().unwrap() {
        let tokenizer = Tokenizer::from_file(&folder().join(format!("{name}.json"))).unwrap();
        let mut rows = rows.as_array().unwrap().iter();
        for words in golden["sentences"].as_array().unwrap() {
            let words: Vec<&str> =
                words.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
            let mut most = 0;
            for longest in golden["lengths"].as_array().unwrap() {
                let longest = longest.as_u64().map(|longest| longest as usize);
                let row = rows.next().unwrap();
                let found = tokenizer.encode_words(&words, longest).unwrap();
                assert_eq!(found.ids, ids(&row[0]), "{name} {words:?} {longest:?}");
                let of = row[1].as_array().unwrap();
                let first = |word: usize| of.iter().position(|of| of.as_u64() == Some(word as u64));
                let wanted: Vec<Option<usize>> = (0..words.len()).map(first).collect();
                assert_eq!(found.first, wanted, "{name} {words:?} {longest:?}");
                let there = found.first.iter().flatten().count();
                most = most.max(there);
                // Of words without any id none is cut off.
                let last = found.first.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
                assert_eq!(longest.is_none_or(|_| most == there), found.cut == 0, "{words:?}");
                assert!(found.cut <= words.len() - last);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 4 * 5 * 4);
    let bert = Tokenizer::from_file(&folder().join("bert.json")).unwrap();
    assert_eq!(bert.encode_words::<&str>(&[], None).unwrap().ids.len(), 2);
    let error = bert.encode_words(&["a"], Some(2)).unwrap_err().to_string();
    assert!(error.contains("the template takes 2"), "{error}");
}

#[test]
fn a_pair_that_has_no_room_is_refused() {
    let tokenizer = Tokenizer::from_file(&folder().join("bert.json")).unwrap();
    let error = tokenizer.encode_pair("a", Some("b"), Some(3)).unwrap_err().to_string();
    assert!(error.contains("at most 3 ids, of which the template takes 3"), "{error}");
    assert_eq!(tokenizer.encode_pair("the the", None, Some(3)).unwrap().ids.len(), 3);
}

fn messages(value: &Value) -> Vec<ChatMessage> {
    let turn =
        |turn: &Value| ChatMessage::new(turn[0].as_str().unwrap(), turn[1].as_str().unwrap());
    value.as_array().unwrap().iter().map(turn).collect()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, [("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap()
}

fn options(prompt: bool) -> ChatOptions {
    let mut variables = serde_json::Map::new();
    variables.insert("date_string".into(), "25 Nov 2026".into());
    ChatOptions { add_generation_prompt: prompt, variables, ..ChatOptions::default() }
}

#[test]
fn chats_are_those_of_transformers() {
    let golden = read("chats.json");
    let (mut texts, mut errors) = (0, 0);
    for case in golden["cases"].as_array().unwrap() {
        let template =
            template(golden["templates"][case["template"].as_str().unwrap()].as_str().unwrap());
        let messages = messages(&golden["chats"][case["chat"].as_str().unwrap()]);
        let found = template.render(&messages, &options(case["prompt"].as_bool().unwrap()));
        match case["text"].as_str() {
            Some(text) => {
                assert_eq!(found.unwrap(), text, "{case}");
                texts += 1;
            }
            None => {
                let error = found.unwrap_err();
                assert!(error.to_string().contains(case["error"].as_str().unwrap()), "{error}");
                assert_eq!(error.kind(), crate::error::Kind::Input);
                errors += 1;
            }
        }
    }
    assert_eq!((texts, errors), (30, 2));
}

#[test]
fn answers_are_found_by_rendering_up_to_them() {
    let golden = read("chats.json");
    let specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"];
    let mut file: Value = serde_json::from_str(Tokenizer::bytes().to_json()).unwrap();
    for (at, name) in specials.iter().enumerate() {
        file["model"]["vocab"][*name] = (256 + at).into();
        file["added_tokens"]
            .as_array_mut()
            .unwrap()
            .push(characters::special_token(256 + at, name));
    }
    let bytes = Tokenizer::from_json(file.to_string()).unwrap();
    // A tokenizer that leaves blanks out of the places of tokens, and one that adds a blank.
    let roberta = Tokenizer::from_file(&folder().join("roberta.json")).unwrap();
    let plain = messages(&golden["chats"]["plain"]);
    let system = messages(&golden["chats"]["system"]);
    let open = messages(&golden["chats"]["open"]);
    for (name, messages, wanted) in [
        ("chatml", &plain, "Hello there.<|im_end|>|4 <|im_end|>"),
        ("chatml", &system, "Hé \"you\" <b><|im_end|>"),
        ("chatml", &open, "A<|im_end|>"),
        ("headers", &plain, "Hello there.<|eot_id|>|4<|eot_id|>"),
        ("merging", &plain, " Hello there. </s>| 4 </s>"),
        ("merging", &open, " A </s>"),
    ] {
        let template = template(golden["templates"][name].as_str().unwrap());
        let text = template.render(messages, &options(false)).unwrap();
        for tokenizer in [&bytes, &roberta] {
            let chat = template.encode(tokenizer, messages, &options(true)).unwrap();
            assert_eq!(chat.ids, tokenizer.encode(&text).unwrap());
            let mut answers: Vec<Vec<u32>> = vec![];
            for at in 0..chat.ids.len() {
                if chat.answers[at] {
                    if at == 0 || !chat.answers[at - 1] {
                        answers.push(vec![]);
                    }
                    answers.last_mut().unwrap().push(chat.ids[at]);
                }
            }
            let answers: Vec<_> =
                answers.iter().map(|ids| tokenizer.decode(ids).unwrap()).collect();
            match std::ptr::eq(tokenizer, &bytes) {
                true => assert_eq!(answers.join("|"), wanted, "{name}"),
                // It has no <|im_end|>, whose letters and the line end after it are then an answer's.
                false => {
                    assert!(answers.join("|").replace(">\n", ">") == wanted, "{name}: {answers:?}")
                }
            }
        }
    }
}

#[test]
fn templates_that_fail_say_where_and_why() {
    let user = [ChatMessage::new("user", "Hi"), ChatMessage::new("assistant", "Ho")];
    let fails = |source: &str, parts: &[&str]| {
        let error = match ChatTemplate::new(source, []) {
            Ok(template) => template.render(&user, &ChatOptions::default()).unwrap_err(),
            Err(error) => error,
        };
        let error = error.to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in\n{error}");
        }
    };
    fails("a\n{% if %}", &["is not Jinja at line 2"]);
    fails("a\nb\n{{ messages[0].content.nothing.more }}", &["fails at line 3"]);
    fails("\n{{ nothing() }}", &["fails at line 2", "nothing"]);
    fails("\n\n{{ raise_exception('no ' + messages[0].role) }}", &["at line 3: no user", "hint: "]);
    fails(
        "{% macro m() %}\n{{ raise_exception('deep') }}{% endmacro %}\n\n{{ m() }}",
        &["refuses", "deep"],
    );
    fails("{{ strftime_now('%Y') }}", &["asks for today's date"]);
    fails(
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        &["does not come to an end"],
    );
    fails("{{ messages | tojson(ensure_ascii=true) }}", &["ensure_ascii"]);
    fails("{% include 'secret' %}", &["include"]);
    let encode = |source: &str, messages: &[ChatMessage]| {
        let template = ChatTemplate::new(source, []).unwrap();
        template
            .encode(&Tokenizer::bytes(), messages, &ChatOptions::default())
            .unwrap_err()
            .to_string()
    };
    let each = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    assert!(encode(each, &user[..1]).contains("no message of the assistant"));
    let counted = encode(&format!("so far {{{{ messages | length }}}}\n{each}"), &user);
    assert!(counted.contains("another way") && counted.contains("so far 1"), "{counted}");
    let dropped = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
    assert!(encode(dropped, &user).contains("leaves out the answer in message 1"));
}

#[test]
fn dates_are_told_as_python_tells_them() {
    let form = "{{ strftime_now('%Y-%m-%d %y %B %b %A %a %H:%M:%S %I %p %-d %-m %F %T %%') }}";
    let template = ChatTemplate::new(form, []).unwrap();
    let show = |seconds| {
        let options =
            ChatOptions { date: Some(ChatDate::from_unix(seconds)), ..ChatOptions::default() };
        template.render(&[], &options).unwrap()
    };
    // By Python: datetime.fromtimestamp(n, timezone.utc).strftime(...).
    for (seconds, wanted) in [
        (0, "1970-01-01 70 January Jan Thursday Thu 00:00:00 12 AM 1 1 1970-01-01 00:00:00 %"),
        (
            951_782_399,
            "2000-02-28 00 February Feb Monday Mon 23:59:59 11 PM 28 2 2000-02-28 23:59:59 %",
        ),
        (
            951_827_696,
            "2000-02-29 00 February Feb Tuesday Tue 12:34:56 12 PM 29 2 2000-02-29 12:34:56 %",
        ),
        (
            1_795_608_000,
            "2026-11-25 26 November Nov Wednesday Wed 12:00:00 12 PM 25 11 2026-11-25 12:00:00 %",
        ),
        (
            4_107_542_399,
            "2100-02-28 00 February Feb Sunday Sun 23:59:59 11 PM 28 2 2100-02-28 23:59:59 %",
        ),
        (-1, "1969-12-31 69 December Dec Wednesday Wed 23:59:59 11 PM 31 12 1969-12-31 23:59:59 %"),
    ] {
        assert_eq!(show(seconds), wanted);
    }
    let unknown = ChatTemplate::new("{{ strftime_now('%Q') }}", []).unwrap();
    let options = ChatOptions { date: Some(ChatDate::from_unix(0)), ..ChatOptions::default() };
    assert!(unknown.render(&[], &options).unwrap_err().to_string().contains("%Q"));
}

#[test]
fn templates_come_from_the_folder_of_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let read = |which| ChatTemplate::from_folder(folder.path(), which);
    let show = |which| read(which).unwrap().unwrap().render(&[], &ChatOptions::default()).unwrap();
    assert!(read(None).unwrap().is_none());
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<b>"}, "chat_template": "one {{ bos_token }}{{ eos_token }}"}"#,
    );
    write("special_tokens_map.json", r#"{"eos_token": "<e>", "bos_token": "<x>"}"#);
    assert_eq!(show(None), "one <b><e>");
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#,
    );
    assert_eq!((show(None).as_str(), show(Some("tool_use")).as_str()), ("d", "t"));
    let error = read(Some("rag")).unwrap_err().to_string();
    assert!(
        error.contains("no chat template \"rag\"") && error.contains("\"tool_use\""),
        "{error}"
    );
    write("chat_template.jinja", "file");
    assert_eq!((show(None).as_str(), show(Some("tool_use")).as_str()), ("file", "t"));
    let other = tempfile::tempdir().unwrap();
    read(None).unwrap().unwrap().save_folder(other.path()).unwrap();
    let saved = ChatTemplate::from_folder(other.path(), None).unwrap().unwrap();
    assert_eq!(saved.source(), "file");
    write("chat_template.jinja", "\n{% bad %}");
    let error = read(None).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("chat_template.jinja"), "{error}");
    std::fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    for bad in [r#"{"chat_template": 3}"#, r#"{"chat_template": [{"name": "x"}]}"#, "{"] {
        write("tokenizer_config.json", bad);
        assert!(read(None).unwrap_err().to_string().contains("tokenizer_config.json"));
    }
}
