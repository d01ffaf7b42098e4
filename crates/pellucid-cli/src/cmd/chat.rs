//! `pellucid chat`

use crate::args::SamplingArgs;
use crate::input;
use crate::model::{Held, Model};
use crate::out;
use crate::plan;
use crate::signal;
use clap::Args;
use pellucid::data::add_conversation;
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid::generate::{self, Answer, Event, Flow, GenerateOptions, WithModel};
use pellucid::text::{ChatDate, ChatOptions, ChatTemplate, Tokenizer};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// What a line that begins with `/` may say.
const COMMANDS: &str =
    "/reset, /system TEXT, /save FILE and /exit; a message that begins with / is written with two";

/// The most tokens of a conversation, unless more are asked for.
const CONTEXT: usize = 8192;

#[derive(Debug, Args)]
#[command(after_help = "\
A line of stdin is a message, and so is a line that a script pipes in; the end of stdin ends the conversation.
Lines that are commands:
  /reset        forgets all but the system's message
  /system TEXT  tells the model something before all else; without TEXT, nothing
  /save FILE    adds the conversation to FILE, in the form that instructions are learnt from
  /exit         ends")]
pub(crate) struct Chat {
    /// A model folder or the folder of a run
    model: PathBuf,
    /// What the model is told before all else
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A chat template in Jinja, instead of the model's own
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// The most tokens of an answer
    #[arg(long, short = 'n', value_name = "N")]
    max_new: Option<usize>,
    /// Ends an answer before this string
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Drops the oldest turns when the conversation no longer fits the context
    #[arg(long)]
    forget: bool,
    /// The most tokens of the conversation; without it as many as the model takes, up to 8192
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// A JSON object per answer
    #[arg(long)]
    json: bool,
    /// How weights are held; without it, as the folder has them: plain ones in f32
    #[arg(long, value_enum, value_name = "KIND")]
    weights: Option<Held>,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Chat {
    pub(crate) fn run(self) -> Result<()> {
        let pool = plan::pool(self.threads);
        let model = Model::load_as(&pool, &self.model, self.weights)?;
        let tokenizer = model.tokenizer.as_ref().ok_or_else(|| {
            let message = format!("{}: has no tokenizer", model.folder.display());
            Error::new(Kind::Input, "chat", message).hint("put its tokenizer.json there")
        })?;
        let template = self.template(&model, tokenizer)?;
        let options = GenerateOptions {
            max_new: self.max_new.or(model.generation.max_new_tokens).unwrap_or(512),
            sampling: self.sampling.over(model.sampling()),
            stop_ids: model.ends(),
            stop_strings: self.stop.clone(),
            ..GenerateOptions::default()
        };
        let capacity = self.context.unwrap_or(model.config.context.min(CONTEXT));
        let mut decoder = model.decoder(&pool, 1, capacity)?;
        let (weights, vocab) = (&model.weights, model.config.vocab);
        let mut with = WithModel { decoder: &mut decoder, pool: &pool, weights, vocab };
        let about = ChatOptions { date: today(), ..ChatOptions::default() };
        let mut chat = generate::Chat::new(&mut with, tokenizer, &template, about)?;
        chat.set_system(self.system.as_deref().unwrap_or(""));
        let person = std::io::stdin().is_terminal();
        if person {
            signal::listen("stopped; Ctrl-C again ends the conversation")?;
            out::note("/exit or Ctrl-D ends, /reset begins anew; `pellucid chat --help` has more");
        }
        loop {
            if person {
                out::ask("> ");
            }
            let Some(line) = input::line()? else { return Ok(()) };
            // What was pressed before the line was sent is no wish about the answer.
            signal::take();
            match self.line(&mut chat, line.trim(), &options) {
                Ok(Flow::Continue) => {}
                Ok(Flow::StopRow) => return Ok(()),
                // A person reads what was wrong and goes on; what a script says next might depend on it.
                Err(error) if person && !out::pipe_closed() => {
                    out::complain(&format!("error: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The template that was given, else the model's.
    fn template(&self, model: &Model, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        let Some(path) = &self.template else {
            return ChatTemplate::from_folder(&model.folder, None)?.ok_or_else(|| {
                let message = format!("{}: has no chat template", model.folder.display());
                Error::new(Kind::Input, "chat", message)
                    .hint("was it trained to answer? Then give what its conversations look like, in Jinja: --template FILE; \
                           `generate` continues texts without one")
            });
        };
        let ids = tokenizer.special_ids();
        let named = [("bos_token", ids.bos), ("eos_token", ids.eos), ("pad_token", ids.pad)];
        let named: Vec<_> = (named.into_iter())
            .filter_map(|(name, id)| Some((name, tokenizer.id_to_piece(id?)?)))
            .collect();
        let source = files::read_text("chat template", path)?;
        ChatTemplate::new(&source, named.iter().map(|(name, piece)| (*name, piece.as_str())))
            .map_err(|e| e.fact(format!("in {}", path.display())))
    }

    /// A command or a message; `StopRow` ends the conversation.
    fn line(
        &self,
        chat: &mut generate::Chat<'_>,
        line: &str,
        options: &GenerateOptions,
    ) -> Result<Flow> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => {}
            "/exit" => return Ok(Flow::StopRow),
            "/reset" => chat.reset(),
            "/system" => chat.set_system(rest.trim()),
            "/save" if rest.trim().is_empty() => {
                return Err(Error::new(Kind::Input, "chat", "/save needs the name of a file"));
            }
            "/save" => {
                add_conversation(Path::new(rest.trim()), chat.messages())?;
                out::note(&format!("saved to {}", rest.trim()));
            }
            _ if line.starts_with("//") => self.answer(chat, &line[1..], options)?,
            _ if line.starts_with('/') => {
                return Err(Error::new(Kind::Input, "chat", format!("no command {word}"))
                    .hint(format!("the commands are {COMMANDS}")));
            }
            _ => self.answer(chat, line, options)?,
        }
        Ok(Flow::Continue)
    }

    fn answer(
        &self,
        chat: &mut generate::Chat<'_>,
        question: &str,
        options: &GenerateOptions,
    ) -> Result<()> {
        let start = Instant::now();
        let mut sink = |event: Event<'_>| {
            let (Event::Token { text, .. } | Event::End { text, .. }) = event;
            if !self.json && !text.is_empty() {
                out::write(text)?;
            }
            Ok(if signal::stopped() { Flow::StopRow } else { Flow::Continue })
        };
        let answer = chat.ask(question, options, self.forget, &mut sink)?;
        let seconds = start.elapsed().as_secs_f64();
        if self.json {
            return out::json(&object(&answer, seconds));
        }
        out::line("")?;
        let made = &answer.generated;
        out::note(&format!(
            "[{} tokens in {}; {} read, {} kept from before{}; stopped by: {}{}]",
            made.tokens.len(),
            out::duration(seconds),
            made.prompt.len() - answer.reused,
            answer.reused,
            match answer.forgotten {
                0 => String::new(),
                n => format!("; {n} of the oldest messages forgotten"),
            },
            made.stop.name(),
            if answer.kept { "" } else { "; it said nothing, so the turn is left out" },
        ));
        Ok(())
    }
}

/// For scripts.
fn object(answer: &Answer, seconds: f64) -> serde_json::Value {
    let made = &answer.generated;
    json!({
        "role": "assistant",
        "content": made.text,
        "ids": made.tokens,
        "stop": made.stop.name(),
        "prompt_tokens": made.prompt.len(),
        "reused_tokens": answer.reused,
        "forgotten_messages": answer.forgotten,
        "kept": answer.kept,
        "seconds": seconds,
    })
}

/// In UTC.
fn today() -> Option<ChatDate> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(ChatDate::from_unix(i64::try_from(since.as_secs()).ok()?))
}
