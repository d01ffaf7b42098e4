use super::*;
use crate::text::ChatMessage;

fn read(text: &str) -> Result<Vec<Conversation>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    fs::write(&path, text).unwrap();
    read_conversations(&path)
}

#[test]
fn conversations_come_as_messages_or_as_prompt_and_completion() {
    let text = r#"{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": " Hi\n"}, {"content": "Ho", "role": "assistant", "n": 1}]}

{"prompt": "2 + 2?", "completion": 4}
"#;
    let [system, user, answer] = [("system", "S"), ("user", " Hi\n"), ("assistant", "Ho")]
        .map(|(r, c)| ChatMessage::new(r, c));
    let second = [("user", "2 + 2?"), ("assistant", "4")].map(|(r, c)| ChatMessage::new(r, c));
    assert_eq!(
        read(text).unwrap(),
        [
            Conversation { messages: vec![system, user, answer], line: 1 },
            Conversation { messages: second.into(), line: 3 },
        ]
    );
}

#[test]
fn faults_of_conversations_name_the_line_and_the_message() {
    let turn = |role: &str, content: &str| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"a\"}}, {{\"role\": {role}, \"content\": {content}}}]}}"
        )
    };
    for (line, part) in [
        (
            turn("\"bot\"", "\"b\""),
            "x.jsonl:2: message 2: unknown role \"bot\"; the roles are system",
        ),
        (turn("\"assistant\"", "\" \""), "message 2: the content of the assistant is empty"),
        (turn("\"assistant\"", "null"), "message 2: content is null, not text"),
        (turn("\"user\"", "\"b\""), "no message of the assistant"),
        ("{\"messages\": {}}".into(), "\"messages\" is an object, not an array"),
        ("{\"messages\": [3]}".into(), "message 1: a number, not an object"),
        ("{\"messages\": [{\"role\": \"user\"}]}".into(), "message 1: no content"),
        ("{\"text\": \"a\"}".into(), "no field \"messages\"; its fields are \"text\""),
        ("{\"prompt\": \"a\"}".into(), "no field \"completion\""),
        ("{\"prompt\": \"a\", \"completion\": \"\"}".into(), "the completion is empty"),
        ("{\"prompt\":".into(), "x.jsonl:2: not JSON"),
    ] {
        let good = turn("\"assistant\"", "\"b\"");
        let error = read(&format!("{good}\n{line}\n{good}\n")).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("x.jsonl:2:"), "{error}");
    }
    assert!(read("\n").unwrap_err().to_string().contains("no conversations"));
}

#[test]
fn a_saved_conversation_is_read_back_and_replaces_what_it_goes_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("said.jsonl");
    let say = |role: &str, text: &str| ChatMessage::new(role, text);
    let first = [say("user", "a\n\"b\""), say("assistant", "c")];
    let longer = [&first[..], &[say("user", "d"), say("assistant", "e")]].concat();
    let other = [say("system", "f"), say("user", "g"), say("assistant", "h")];
    for said in [&first[..], &longer, &longer, &other] {
        add_conversation(&path, said).unwrap();
    }
    let all: Vec<_> = read_conversations(&path).unwrap().into_iter().map(|c| c.messages).collect();
    assert_eq!(all, [longer, other.to_vec()]);
    let refused = add_conversation(&path, &first[..1]).unwrap_err().to_string();
    assert!(refused.contains("nothing to save") && refused.contains("assistant"), "{refused}");
    fs::write(&path, "a poem\n").unwrap();
    let refused = add_conversation(&path, &first).unwrap_err().to_string();
    assert!(refused.contains("last line") && refused.contains("another file"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "a poem\n");
}
