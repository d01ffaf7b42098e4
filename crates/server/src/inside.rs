//! What a page may ask of a model. Numbers and words only: no type of the engine passes here.
//!
//! Positions count from 0 in the text that the model reads (an encoder-decoder's decoder reads `text`, its encoder
//! `source`). Sites are named as TransformerLens names them: `blocks.3.attn.hook_z`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The question itself is at fault: a head that is not there, a text that is too long.
    Input,
    /// This model, or this version, cannot answer such a question.
    Missing,
    /// Too many questions wait; ask again in a moment.
    Busy,
    /// The model failed.
    Broken,
}

/// A question without an answer: why, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What sort of fault.
    pub reason: Reason,
    /// What came, the rule, and what to do.
    pub message: String,
}

impl Fault {
    /// A fault with its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The question is at fault.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Reason::Input, message)
    }

    /// Nobody can answer this here.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(Reason::Missing, message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// What a question gives.
pub type Answer<T> = Result<T, Fault>;

/// Heads that look from one text at another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// How questions name it: `decoder`, `encoder`, `cross`.
    pub name: String,
    /// For people.
    pub title: String,
    /// L.
    pub layers: usize,
    /// H.
    pub heads: usize,
    /// No query looks at a later key.
    pub causal: bool,
    /// Queries are the source's tokens, not the text's.
    pub from_source: bool,
    /// Keys are the source's tokens, not the text's.
    pub to_source: bool,
    /// What its sites begin with, such as `blocks`: layer 3 writes at `blocks.3.hook_attn_out`.
    pub prefix: String,
    /// What its attention is called in sites: `attn` or `cross_attn`.
    pub attention: String,
}

/// A model at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its name.
    pub title: String,
    /// One line of sizes for people.
    pub facts: String,
    /// The command that shows this page.
    pub command: String,
    /// All its attention.
    pub stacks: Vec<Stack>,
    /// There is a second text, which an encoder reads.
    pub has_source: bool,
    /// Most tokens of a text.
    pub context: usize,
    /// Which checkpoint of a run this is.
    pub checkpoint: Option<String>,
    /// A text to begin with.
    pub text: String,
    /// A source to begin with, where there are two texts.
    pub source: String,
}

/// The texts of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// What the model reads.
    pub text: String,
    /// What its encoder reads, where there are two stacks.
    #[serde(default)]
    pub source: String,
}

/// A token of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// In the vocabulary.
    pub id: u32,
    /// What it adds to the text.
    pub text: String,
}

/// Both texts in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Of `Prompt::text`.
    pub text: Vec<Token>,
    /// Of `Prompt::source`.
    pub source: Vec<Token>,
}

/// One head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadAt {
    /// [`Stack::name`].
    pub stack: String,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
}

/// Who looks at whom: row `t` says how query `t` shares its attention among the keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// T.
    pub queries: usize,
    /// S.
    pub keys: usize,
    /// (T, S).
    pub weights: Vec<f32>,
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guess {
    /// In the vocabulary.
    pub id: u32,
    /// What it adds to the text.
    pub text: String,
    /// Before the softmax.
    pub logit: f32,
    /// After it.
    pub probability: f32,
}

/// What the residual stream would say at each depth and position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lens {
    /// First position in `cells`.
    pub from: usize,
    /// From the embedding to the last block.
    pub depths: Vec<String>,
    /// By depth, then by position: the best guesses, best first.
    pub cells: Vec<Vec<Vec<Guess>>>,
}

/// Which logit is taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whose {
    /// Where the token is predicted.
    pub position: usize,
    /// The token; the best one if not given.
    #[serde(default)]
    pub token: Option<u32>,
    /// Its logit less that of this token.
    #[serde(default)]
    pub against: Option<u32>,
    /// Also the heads of this layer.
    #[serde(default)]
    pub layer: Option<usize>,
}

/// What one component added to a logit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// For people: `attention 3`.
    pub label: String,
    /// Where it writes into the stream: `blocks.3.hook_attn_out`.
    pub site: String,
    /// Of which block.
    pub layer: Option<usize>,
    /// Which head.
    pub head: Option<usize>,
    /// In logits.
    pub value: f32,
}

/// A logit as a sum of what each component wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// Where.
    pub position: usize,
    /// Which token.
    pub token: Guess,
    /// Less which token.
    pub against: Option<Guess>,
    /// The sum; `parts` add up to it.
    pub total: f32,
    /// Embedding, then each block's attention and MLP, then constants.
    pub parts: Vec<Part>,
    /// Whose heads are in `heads`.
    pub layer: Option<usize>,
    /// The heads of that layer.
    pub heads: Vec<Part>,
    /// What was held fixed, in a sentence.
    pub note: String,
}

/// What to write at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Nothing.
    Zero,
    /// The mean over positions.
    Mean,
    /// What another text has there.
    Patch,
    /// Itself, multiplied by `factor`.
    Scale,
}

/// A change of the computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// Where: `blocks.3.attn.hook_z`, `blocks.3.hook_mlp_out`.
    pub site: String,
    /// Only this head.
    #[serde(default)]
    pub head: Option<usize>,
    /// Only this position; all if not given.
    #[serde(default)]
    pub position: Option<usize>,
    /// What is written.
    pub how: How,
    /// The other text of [`How::Patch`]; the prompt's own if not given.
    #[serde(default)]
    pub text: Option<String>,
    /// The other source of [`How::Patch`]; the prompt's own if not given.
    #[serde(default)]
    pub source: Option<String>,
    /// Of [`How::Scale`].
    #[serde(default)]
    pub factor: Option<f32>,
}

/// A token before and after edits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// In the vocabulary.
    pub id: u32,
    /// What it adds to the text.
    pub text: String,
    /// Its probability without the edits.
    pub before: f32,
    /// And with them.
    pub after: f32,
}

/// What edits do to the next token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Where the next token is read.
    pub position: usize,
    /// The best tokens of both, by their probability before.
    pub rows: Vec<Change>,
    /// Kullback–Leibler divergence of after from before, in nats.
    pub divergence: f32,
}

/// A model that can be looked into. Called from one thread, one question at a time.
pub trait Inside: Send {
    /// The model at a glance.
    fn card(&self) -> Card;

    /// The texts in tokens.
    ///
    /// # Errors
    /// A text that is empty or longer than the model reads.
    fn tokens(&mut self, prompt: &Prompt) -> Answer<Tokens>;

    /// The pattern of one head.
    ///
    /// # Errors
    /// A head that the model lacks, or as [`Self::tokens`].
    fn pattern(&mut self, prompt: &Prompt, at: &HeadAt) -> Answer<Pattern>;

    /// The `k` best guesses at each depth for some positions.
    ///
    /// # Errors
    /// Positions outside the text, or a model without a head over the vocabulary.
    fn lens(&mut self, prompt: &Prompt, positions: Range<usize>, k: usize) -> Answer<Lens>;

    /// Who wrote a logit.
    ///
    /// # Errors
    /// A position or token that is not there.
    fn attribution(&mut self, prompt: &Prompt, whose: &Whose) -> Answer<Attribution>;

    /// The next token at `position`, without and with `edits`.
    ///
    /// # Errors
    /// A site, head or position that is not there; a second text of another length.
    fn effect(&mut self, prompt: &Prompt, edits: &[Edit], position: usize) -> Answer<Effect>;

    /// Goes on with another checkpoint of the run.
    ///
    /// # Errors
    /// The checkpoint cannot be read; the old one then stays.
    fn open(&mut self, checkpoint: &str) -> Answer<Card>;
}
