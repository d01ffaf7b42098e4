//! Chat templates: conversations as the text that a model was taught to answer.
//!
//! A template is a Jinja program in `chat_template.jinja` or in `tokenizer_config.json`. It may come
//! from a stranger: it sees the conversation and nothing else, and runs for a limited time.

use super::chat_python::{self, ChatDate};
use crate::error::{Error, Kind, Result};
use crate::files;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value as Jinja};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

pub(super) const CHAT: &str = "chat template";
const NAME: &str = "template";

/// Names that a template may use for special tokens.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Steps after which a template is taken to run for ever.
const FUEL: u64 = 20_000_000;

/// One turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user`, `assistant` or `tool`; the template decides which it knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// What a template is told besides the conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// Ends with what begins an answer, for the model to go on.
    pub add_generation_prompt: bool,
    /// Today, for templates that ask with `strftime_now`; without it they do not find the function.
    pub date: Option<ChatDate>,
    /// More variables, such as `enable_thinking`; they go before the standard ones.
    pub variables: Map<String, Value>,
}

/// A chat template that was read and understood.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    tokens: Map<String, Value>,
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Reads a template. `tokens` are the special tokens by their names in `tokenizer_config.json`,
    /// such as `("eos_token", "</s>")`.
    ///
    /// # Errors
    /// It is not Jinja; the error names the line.
    pub fn new<'a>(
        source: &str,
        tokens: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        let tokens = tokens.into_iter().map(|(name, token)| (name.into(), token.into())).collect();
        Self::with_tokens(source, tokens)
    }

    fn with_tokens(source: &str, tokens: Map<String, Value>) -> Result<Self> {
        let mut environment = chat_python::environment().map_err(refused)?;
        environment.set_fuel(Some(FUEL));
        environment
            .add_template_owned(NAME, chat_python::without_generation(source))
            .map_err(refused)?;
        Ok(Self { source: source.into(), tokens, environment })
    }

    /// The template of a checkpoint folder: `chat_template.jinja`, else `chat_template` in
    /// `tokenizer_config.json`; `None` if it has neither. Of several, `which` names one, and the one
    /// called `default` is taken without it.
    ///
    /// # Errors
    /// A file that cannot be read, a template that is not Jinja, none of that name.
    pub fn from_folder(folder: &Path, which: Option<&str>) -> Result<Option<Self>> {
        let json = |name: &str| -> Result<Value> {
            let path = folder.join(name);
            if !path.is_file() {
                return Ok(Value::Null);
            }
            serde_json::from_str(&files::read_text(CHAT, &path)?)
                .map_err(|e| Error::new(Kind::Format, CHAT, format!("{}: {e}", path.display())))
        };
        let (config, map) = (json("tokenizer_config.json")?, json("special_tokens_map.json")?);
        let mut tokens = Map::new();
        for name in TOKENS {
            let found = [&config[name], &map[name]].into_iter();
            let mut found = found.filter_map(|t| t.as_str().or_else(|| t["content"].as_str()));
            if let Some(token) = found.next() {
                tokens.insert(name.into(), token.into());
            }
        }
        let path = folder.join("chat_template.jinja");
        let (source, path) = match which {
            None | Some("default") if path.is_file() => (files::read_text(CHAT, &path)?, path),
            _ => {
                let path = folder.join("tokenizer_config.json");
                match choose(&config["chat_template"], which, &path)? {
                    Some(source) => (source, path),
                    None => return Ok(None),
                }
            }
        };
        Self::with_tokens(&source, tokens)
            .map(Some)
            .map_err(|e| e.fact(format!("in {}", path.display())))
    }

    /// The template as it was read.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Writes `chat_template.jinja` into a folder, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_folder(&self, folder: &Path) -> Result<()> {
        let path = folder.join("chat_template.jinja");
        files::replace(CHAT, &path, |w| w.write_all(self.source.as_bytes()))
    }

    /// The text of a conversation, as `apply_chat_template` of `transformers` has it. Special tokens
    /// are spelled out, and [`super::Tokenizer::encode`] gives their ids; so it does for those that
    /// a stranger spells in a message.
    ///
    /// # Errors
    /// The template refuses the conversation or fails; the error has its words and line.
    pub fn render(&self, messages: &[ChatMessage], options: &ChatOptions) -> Result<String> {
        let mut variables = Map::new();
        for name in ["tools", "documents"] {
            variables.insert(name.into(), Value::Null);
        }
        variables.extend(self.tokens.clone());
        variables.extend(options.variables.clone());
        let context = minijinja::context! {
            messages => Serde(messages),
            add_generation_prompt => options.add_generation_prompt,
            ..Serde(&variables)
        };
        let context = match options.date {
            None => context,
            Some(date) => minijinja::context! {
                strftime_now => Jinja::from_function(move |form: &str| date.strftime(form)),
                ..context
            },
        };
        let template = self.environment.get_template(NAME).map_err(refused)?;
        template.render(context).map_err(refused)
    }
}

/// One of the templates in `tokenizer_config.json`.
fn choose<'a>(value: &'a Value, which: Option<&str>, path: &Path) -> Result<Option<String>> {
    let fail = |why: &str| Error::new(Kind::Format, CHAT, format!("{}: {why}", path.display()));
    let all: Vec<(&'a str, &'a str)> = match value {
        Value::Null if which.is_none() => return Ok(None),
        Value::Null => vec![],
        Value::String(text) => vec![("default", text)],
        Value::Array(list) => {
            let pair = |item: &'a Value| Some((item["name"].as_str()?, item["template"].as_str()?));
            match list.iter().map(pair).collect() {
                Some(all) => all,
                None => {
                    return Err(fail("chat_template is a list, but not of names and templates"));
                }
            }
        }
        _ => return Err(fail("chat_template is neither text nor a list")),
    };
    let wanted = which.unwrap_or("default");
    match all.as_slice() {
        [(_, only)] if which.is_none() => Ok(Some((*only).into())),
        _ => match all.iter().find(|(name, _)| *name == wanted) {
            Some((_, source)) => Ok(Some((*source).into())),
            None => {
                let names: Vec<String> = all.iter().map(|(name, _)| format!("{name:?}")).collect();
                let names = if names.is_empty() { "none".into() } else { names.join(", ") };
                Err(fail(&format!("no chat template {wanted:?}")).fact(format!("it has {names}")))
            }
        },
    }
}

/// Says what a template objects to, and where.
fn refused(error: minijinja::Error) -> Error {
    // What a function or a macro says is the innermost.
    let mut inner: &minijinja::Error = &error;
    while let Some(next) = std::error::Error::source(inner).and_then(|e| e.downcast_ref()) {
        inner = next;
    }
    let line =
        inner.line().or(error.line()).map_or(String::new(), |line| format!(" at line {line}"));
    let detail = inner.detail().unwrap_or("").to_owned();
    if let Some(words) = detail.strip_prefix(chat_python::RAISED) {
        let message = format!("the template refuses the conversation{line}: {words}");
        return Error::new(Kind::Input, CHAT, message)
            .hint("the template decides which roles it knows and in which order");
    }
    let what = match detail.as_str() {
        "" => inner.kind().to_string(),
        detail => format!("{}: {detail}", inner.kind()),
    };
    let asks_date = inner.kind() == ErrorKind::UnknownFunction && detail.contains("strftime_now");
    let (kind, verb) = match inner.kind() {
        ErrorKind::SyntaxError => (Kind::Format, "is not Jinja"),
        ErrorKind::OutOfFuel => (Kind::Format, "does not come to an end"),
        _ => (Kind::Format, "fails"),
    };
    let error = Error::new(kind, CHAT, format!("the template {verb}{line}: {what}"));
    if asks_date { error.hint("the template asks for today's date; give it one") } else { error }
}
