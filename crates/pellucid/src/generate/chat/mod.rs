//! A conversation with a model: a template turns it into ids, and of these only the new ones are read.
//!
//! ```text
//! messages ─→ template ─→ ids  a b c d e f g h
//!                              a b c d e x          what the cache holds of the turn before
//!                              ╰───┬───╯ ╰─┬─╯
//!                                kept     read
//! ```
//!
//! Where a turn ends is asked of the template too, so that a model stops there whatever its `generation_config.json`
//! says.

mod kept;
#[cfg(test)]
mod tests;

use self::kept::Kept;
use super::decode::{Event, Flow, GenerateOptions, Generated, NextLogits, generate};
use super::speculate::VerifyLogits;
use crate::error::{Error, Kind, Result};
use crate::text::{ChatMessage, ChatOptions, ChatTemplate, Tokenizer, TurnEnd};

const CHAT: &str = "chat";

/// An answer, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The answer, and the whole conversation before it as the prompt.
    pub generated: Generated,
    /// Ids of the prompt that had been read before.
    pub reused: usize,
    /// Messages that were dropped to make room.
    pub forgotten: usize,
    /// Whether the turn is part of the conversation: an answer without text is not, nor is its question.
    pub kept: bool,
}

/// A conversation with a model that has one row.
pub struct Chat<'m> {
    model: Kept<'m>,
    tokenizer: &'m Tokenizer,
    template: &'m ChatTemplate,
    options: ChatOptions,
    end: TurnEnd,
    messages: Vec<ChatMessage>,
}

impl std::fmt::Debug for Chat<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl<'m> Chat<'m> {
    /// Begins one. `options` are for the template; whether an answer is to follow is not theirs to say.
    ///
    /// # Errors
    /// A model with another number of rows than one.
    pub fn new(
        model: &'m mut dyn VerifyLogits,
        tokenizer: &'m Tokenizer,
        template: &'m ChatTemplate,
        options: ChatOptions,
    ) -> Result<Self> {
        if model.batch() != 1 {
            let message = format!("a model with {} rows; a conversation needs one", model.batch());
            return Err(Error::new(Kind::Input, CHAT, message));
        }
        let end = template.turn_end(tokenizer, &options);
        let options = ChatOptions { add_generation_prompt: true, ..options };
        Ok(Self { model: Kept::new(model), tokenizer, template, options, end, messages: vec![] })
    }

    /// What was said, from the system's message on.
    #[must_use]
    pub fn messages(&self) -> &[ChatMessage] {
        &self.messages
    }

    /// Sets what the model is told before all else; without text, nothing. The conversation goes on.
    pub fn set_system(&mut self, text: &str) {
        self.messages.drain(..self.turns());
        if !text.trim().is_empty() {
            self.messages.insert(0, ChatMessage::new("system", text));
        }
    }

    /// Forgets everything but the system's message.
    pub fn reset(&mut self) {
        self.messages.truncate(self.turns());
    }

    /// Where the turns begin.
    fn turns(&self) -> usize {
        usize::from(self.messages.first().is_some_and(|m| m.role == "system"))
    }

    /// Asks `question`; `sink` hears of the answer as it comes. If the conversation does not fit the context, the oldest
    /// turns are dropped for good if `forget` says so, until there is room for the answer too. An error leaves the
    /// conversation as it was.
    ///
    /// # Errors
    /// A question that is empty or does not fit; those of the template, of [`generate`] and of the sink.
    pub fn ask(
        &mut self,
        question: &str,
        options: &GenerateOptions,
        forget: bool,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<Answer> {
        if question.trim().is_empty() {
            return Err(Error::new(Kind::Input, CHAT, "an empty message")
                .hint("say something for the model to answer"));
        }
        let mut messages = self.messages.clone();
        messages.push(ChatMessage::new("user", question));
        let all = messages.len();
        let prompt = self.fit(&mut messages, options.max_new, forget)?;
        let forgotten = all - messages.len();
        let mut options = GenerateOptions { prefill: 0, truncate_prompt: false, ..options.clone() };
        options.stop_ids.extend(self.end.id);
        options.stop_strings.extend(self.end.text.clone());
        let done = generate(&mut self.model, &[prompt], &options, Some(self.tokenizer), sink)?;
        let Some(generated) = done.into_iter().next() else {
            return Err(Error::new(Kind::Input, CHAT, "nothing was generated"));
        };
        let kept = !generated.text.trim().is_empty();
        if kept {
            messages.push(ChatMessage::new("assistant", &generated.text));
            self.messages = messages;
        }
        Ok(Answer { generated, reused: self.model.reused(), forgotten, kept })
    }

    /// Ids of the conversation, without the oldest turns if they do not fit and may be forgotten.
    fn fit(
        &self,
        messages: &mut Vec<ChatMessage>,
        max_new: usize,
        forget: bool,
    ) -> Result<Vec<u32>> {
        let (capacity, first) = (self.model.capacity(), self.turns());
        // Room for the answer, but at least half of the context for what was said.
        let room = if forget { max_new.clamp(1, (capacity / 2).max(1)) } else { 1 };
        loop {
            let text = self.template.render(messages, &self.options)?;
            let prompt = self.tokenizer.encode(&text)?;
            if prompt.len() + room <= capacity {
                return Ok(prompt);
            }
            let questions = messages.iter().enumerate().skip(first + 1);
            let next = questions.filter(|(_, m)| m.role == "user").map(|(i, _)| i).next();
            match next {
                Some(next) if forget => drop(messages.drain(first..next)),
                None if prompt.len() < capacity => return Ok(prompt),
                next => return Err(too_long(prompt.len(), capacity, next.is_some())),
            }
        }
    }
}

fn too_long(length: usize, capacity: usize, more: bool) -> Error {
    let what = if more { "the conversation with this message" } else { "this message alone" };
    let message =
        format!("{what} has {length} tokens; the context holds {capacity}, an answer's included");
    Error::new(Kind::Input, CHAT, message).hint(match more {
        true => "begin anew with /reset, or drop the oldest turns: --forget",
        false => "shorten it, or use a model with a longer context",
    })
}
