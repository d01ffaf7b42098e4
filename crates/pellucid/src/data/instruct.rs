//! Conversations to learn answers from, one JSON object a line.

use super::rows::{self, Column, Faults};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::text::ChatMessage;
use serde_json::{Map, Value, json};
use std::path::Path;

const READ: &str = "read conversations";

/// Roles that a message may have.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// A conversation with at least one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// In order.
    pub messages: Vec<ChatMessage>,
    /// Line in the file, from 1.
    pub line: u64,
}

/// Reads JSON lines of `{"messages": [{"role": …, "content": …}, …]}` or of
/// `{"prompt": …, "completion": …}`, which becomes a user's message and an answer.
///
/// # Errors
/// A file that cannot be read or is not UTF-8; a line that is neither form; an unknown role, an
/// empty message, no answer: the first ten are listed with their lines.
pub fn read_conversations(path: &Path) -> Result<Vec<Conversation>> {
    let text = rows::read(READ, path)?;
    let mut faults = Faults::new(READ, path);
    let mut conversations = vec![];
    for (line, fields) in rows::objects(READ, path, &text)? {
        match messages(&fields) {
            Ok(messages) => conversations.push(Conversation { messages, line }),
            Err(fault) => faults.add(line, fault),
        }
    }
    faults.check(
        "a line is {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, …]} or {\"prompt\": \"…\", \"completion\": \"…\"}",
    )?;
    match conversations.is_empty() {
        false => Ok(conversations),
        true => {
            let message = format!("{}: no conversations", path.display());
            Err(Error::new(Kind::Input, READ, message))
        }
    }
}

/// Adds a line of `messages` to a file that [`read_conversations`] reads, in the place of a last line that they go on
/// with; the file is replaced whole.
///
/// # Errors
/// Messages that could not be read back; a last line that is no conversation; the disk.
pub fn add_conversation(path: &Path, said: &[ChatMessage]) -> Result<()> {
    const WRITE: &str = "save conversation";
    let fields = json!({ "messages": said });
    let check = |fields: &Value| messages(fields.as_object().unwrap_or(&Map::new()));
    if let Err(fault) = check(&fields) {
        return Err(Error::new(Kind::Input, WRITE, format!("nothing to save: {fault}")));
    }
    let mut text = if path.exists() { files::read_text(WRITE, path)? } else { String::new() };
    text.truncate(text.trim_end().len());
    let start = text.rfind('\n').map_or(0, |at| at + 1);
    if !text.is_empty() {
        let last = serde_json::from_str(&text[start..]).map_err(|e| e.to_string());
        let last = last.and_then(|last| check(&last)).map_err(|fault| {
            let message = format!("{}: the last line is no conversation: {fault}", path.display());
            Error::new(Kind::Format, WRITE, message).hint("save to another file")
        })?;
        if said.starts_with(&last) {
            text.truncate(start);
        } else {
            text.push('\n');
        }
    }
    files::replace(WRITE, path, |w| writeln!(w, "{text}{fields}"))
}

fn messages(fields: &Map<String, Value>) -> Result<Vec<ChatMessage>, String> {
    let Some(messages) = fields.get("messages") else {
        if !fields.contains_key("prompt") {
            let names: Vec<String> = fields.keys().cloned().collect();
            return Err(format!("no field \"messages\"; its fields are {}", rows::list(&names)));
        }
        let get = |name: &str| match rows::field(fields, &Column::Name(name.into()))? {
            text if text.trim().is_empty() => Err(format!("the {name} is empty")),
            text => Ok(text),
        };
        let (prompt, answer) = (get("prompt")?, get("completion")?);
        return Ok(vec![ChatMessage::new("user", prompt), ChatMessage::new("assistant", answer)]);
    };
    let Value::Array(list) = messages else {
        return Err(format!("\"messages\" is {}, not an array", rows::kind(messages)));
    };
    let read = list.iter().enumerate().map(|(index, value)| {
        message(value).map_err(|fault| format!("message {}: {fault}", index + 1))
    });
    let read = read.collect::<Result<Vec<_>, _>>()?;
    if !read.iter().any(|message| message.role == "assistant") {
        return Err("no message of the assistant: nothing to learn".into());
    }
    Ok(read)
}

fn message(value: &Value) -> Result<ChatMessage, String> {
    let Value::Object(fields) = value else {
        return Err(format!("{}, not an object", rows::kind(value)));
    };
    let get = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("{name} is {}, not text", rows::kind(other))),
        None => Err(format!("no {name}")),
    };
    let (role, content) = (get("role")?, get("content")?);
    if !ROLES.contains(&role.as_str()) {
        return Err(format!("unknown role {role:?}; the roles are {}", ROLES.join(", ")));
    }
    if content.trim().is_empty() {
        return Err(format!("the content of the {role} is empty"));
    }
    Ok(ChatMessage { role, content })
}
