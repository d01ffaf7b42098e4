//! A model as the page of `pellucid look` sees it.

mod attention;
mod begin;
mod change;
mod stream;

use crate::model::{self, Model};
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::subject::Subject;
use pellucid::model::config::{Architecture, Config, Core};
use pellucid::model::observer::Text;
use pellucid_server::inside::{
    Answer, Attribution, Card, Edit, Effect, Fault, HeadAt, Inside, Lens, Pattern, Prompt, Reason,
    Stack, Token, Tokens, Whose,
};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A model and what it computed for the last text.
pub(crate) struct Glass {
    model: Model,
    pool: Pool,
    folder: PathBuf,
    checkpoint: Option<String>,
    begin: Prompt,
    /// Patterns of the last text.
    patterns: Option<attention::Kept>,
}

/// Ids of a prompt.
struct Read {
    ids: Vec<i32>,
    source: Vec<i32>,
}

impl Read {
    fn text(&self) -> Text<'_> {
        Text { ids: &self.ids, source: &self.source, ..Text::default() }
    }
}

/// An error of the library as an answer.
fn fault(error: &Error) -> Fault {
    let reason = match error.kind() {
        Kind::Input | Kind::Shape => Reason::Input,
        // What such a model cannot be asked.
        Kind::Config => Reason::Missing,
        _ => Reason::Broken,
    };
    Fault::new(reason, error.to_string())
}

impl Glass {
    /// The model of a folder, or of a run's best checkpoint.
    pub(crate) fn open(folder: &Path, pool: Pool) -> Result<Self> {
        let found = model::find(folder)?;
        let name = found.file_name().and_then(|n| n.to_str()).filter(|_| found != folder);
        let checkpoint = name.map(str::to_owned);
        let model = load(folder)?;
        let (folder, begin) = (folder.into(), Prompt::default());
        let mut glass = Self { model, pool, folder, checkpoint, begin, patterns: None };
        glass.begin = begin::prompt(&glass, &found);
        Ok(glass)
    }

    /// Texts that stand on the page at first.
    pub(crate) fn begin_with(&mut self, text: Option<String>, source: Option<String>) {
        if let Some(text) = text {
            self.begin.text = text;
        }
        if let Some(source) = source {
            self.begin.source = source;
        }
    }

    fn ids(&self, text: &str) -> Answer<Vec<u32>> {
        let ids = match self.model.config.has_source() {
            true => {
                let start = self.model.translator(&self.pool).map_err(|e| fault(&e))?.start;
                let tokenizer = self.model.tokenizer().map_err(|e| fault(&e))?;
                let mut ids = tokenizer.encode(text).map_err(|e| fault(&e))?;
                ids.insert(0, start);
                ids
            }
            false => self.model.encode(text).map_err(|e| fault(&e))?,
        };
        let (n, most) = (ids.len(), self.model.config.context);
        if n == 0 || n > most {
            let message = format!("the text has {n} tokens, but this model reads 1 to {most}");
            return Err(Fault::input(message));
        }
        Ok(ids)
    }

    fn source(&self, text: &str) -> Answer<Vec<i32>> {
        if !self.model.config.has_source() {
            return Ok(vec![]);
        }
        let translator = self.model.translator(&self.pool).map_err(|e| fault(&e))?;
        translator.source(text).map_err(|e| fault(&e))
    }

    fn read(&self, prompt: &Prompt) -> Answer<Read> {
        let ids = self.ids(&prompt.text)?.into_iter().map(|id| id as i32).collect();
        Ok(Read { ids, source: self.source(&prompt.source)? })
    }

    fn subject(&self) -> Subject<'_> {
        Subject { config: &self.model.config, weights: &self.model.weights, pool: &self.pool }
    }

    fn token(&self, id: u32) -> Answer<Token> {
        let tokenizer = self.model.tokenizer().map_err(|e| fault(&e))?;
        Ok(Token { id, text: tokenizer.label(id) })
    }
}

/// A model whose attention can be looked at.
fn load(folder: &Path) -> Result<Model> {
    let model = Model::load(folder)?;
    if model.config.core == Core::Lstm {
        let message = "an LSTM has no attention, no residual stream: nothing to look at";
        return Err(Error::new(Kind::Config, "look", message).hint("give a Transformer"));
    }
    model.tokenizer()?;
    Ok(model)
}

impl Inside for Glass {
    fn card(&self) -> Card {
        let config = &self.model.config;
        let decodes = config.architecture != Architecture::Encoder;
        let stack = |name: &str, title: &str, layers| Stack {
            name: name.into(),
            title: title.into(),
            layers,
            heads: config.heads,
            causal: decodes,
            from_source: false,
            to_source: false,
            prefix: "blocks".into(),
            attention: "attn".into(),
        };
        let mut stacks =
            vec![stack("text", "The text looks at itself", config.blocks_that_generate())];
        if config.has_source() {
            let layers = config.decoder_layers;
            stacks[0].prefix = "decoder".into();
            let cross = stack("cross", "The text looks at the source", layers);
            let (prefix, attention) = ("decoder".into(), "cross_attn".into());
            stacks.push(Stack { to_source: true, causal: false, prefix, attention, ..cross });
            let encoder = stack("source", "The source looks at itself", config.layers);
            let prefix = "encoder".into();
            let both = Stack { from_source: true, to_source: true, prefix, ..encoder };
            stacks.push(Stack { causal: false, ..both });
        }
        let Config { layers, heads, width, vocab, context, .. } = config;
        let layers = match config.has_source() {
            true => format!("{layers} + {}", config.decoder_layers),
            false => layers.to_string(),
        };
        let name = self.folder.file_name().map_or("model".into(), |n| n.to_string_lossy());
        let parameters = crate::out::short(self.model.parameters() as f64);
        Card {
            title: name.into_owned(),
            facts: format!(
                "{parameters} parameters · {layers} layers of {heads} heads · {width} wide · \
                 {vocab} tokens in its vocabulary · reads up to {context}"
            ),
            command: format!("pellucid look {}", self.folder.display()),
            stacks,
            has_source: config.has_source(),
            context: *context,
            checkpoint: self.checkpoint.clone(),
            text: self.begin.text.clone(),
            source: self.begin.source.clone(),
        }
    }

    fn tokens(&mut self, prompt: &Prompt) -> Answer<Tokens> {
        let named = |ids: Vec<u32>| -> Answer<Vec<Token>> {
            ids.into_iter().map(|id| self.token(id)).collect()
        };
        let text: Answer<Vec<Token>> = named(self.ids(&prompt.text)?);
        let source = self.source(&prompt.source)?;
        let source = named(source.into_iter().map(|id| id as u32).collect())?;
        Ok(Tokens { text: text?, source })
    }

    fn pattern(&mut self, prompt: &Prompt, at: &HeadAt) -> Answer<Pattern> {
        attention::pattern(self, prompt, at)
    }

    fn lens(&mut self, prompt: &Prompt, positions: Range<usize>, k: usize) -> Answer<Lens> {
        stream::lens(self, prompt, positions, k)
    }

    fn attribution(&mut self, prompt: &Prompt, whose: &Whose) -> Answer<Attribution> {
        stream::attribution(self, prompt, whose)
    }

    fn effect(&mut self, prompt: &Prompt, edits: &[Edit], position: usize) -> Answer<Effect> {
        change::effect(self, prompt, edits, position)
    }

    fn open(&mut self, checkpoint: &str) -> Answer<Card> {
        let model = load(&self.folder.join(checkpoint)).map_err(|e| fault(&e))?;
        self.model = model;
        self.checkpoint = Some(checkpoint.into());
        self.patterns = None;
        Ok(self.card())
    }
}
