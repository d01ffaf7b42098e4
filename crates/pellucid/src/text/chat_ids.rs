//! Ids of a conversation, and which of them are the assistant's answers.

use super::chat::{CHAT, ChatMessage, ChatOptions, ChatTemplate};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// A conversation as ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatIds {
    /// Of the whole text.
    pub ids: Vec<u32>,
    /// Of each id, whether it is part of an answer: what is to be learned. The token that ends an
    /// answer is part of it; what the template writes before and after is not.
    pub answers: Vec<bool>,
}

/// What a template writes after an answer, by which a model says that it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnEnd {
    /// A special token.
    pub id: Option<u32>,
    /// Without one, the text that comes there: a mark of its own, else what begins the next turn.
    pub text: Option<String>,
}

impl ChatTemplate {
    /// How an answer ends, from what the template writes after one; nothing if it does not take a question and an
    /// answer.
    #[must_use]
    pub fn turn_end(&self, tokenizer: &Tokenizer, options: &ChatOptions) -> TurnEnd {
        // A template may change letters and blanks, but no digits.
        const WORDS: [&str; 3] = ["7193055", "8204166", "9315277"];
        let options = ChatOptions { add_generation_prompt: false, ..options.clone() };
        let roles = ["user", "assistant", "user"].into_iter().zip(WORDS);
        let messages: Vec<_> = roles.map(|(role, text)| ChatMessage::new(role, text)).collect();
        let after = |count: usize| -> Option<String> {
            let text = self.render(&messages[..count], &options).ok()?;
            let (_, rest) = text.split_once(WORDS[1])?;
            let rest = rest.split_once(WORDS[2]).map_or(rest, |(between, _)| between).trim();
            (!rest.is_empty()).then(|| rest.to_owned())
        };
        let Some(rest) = after(2).or_else(|| after(3)) else { return TurnEnd::default() };
        let first = tokenizer.encode(&rest).ok().and_then(|ids| ids.first().copied());
        match first.filter(|&id| tokenizer.is_special(id)) {
            Some(id) => TurnEnd { id: Some(id), text: None },
            None => TurnEnd { id: None, text: Some(rest) },
        }
    }

    /// Ids of a conversation with the assistant's answers marked. The answers are found by rendering
    /// the conversation up to each of them and beyond it, so the template needs no marks.
    ///
    /// # Errors
    /// As [`Self::render`]; no answer in the conversation; a template that writes the beginning of a
    /// conversation in another way once more follows, so that answers cannot be found.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        options: &ChatOptions,
    ) -> Result<ChatIds> {
        let (text, spans) = self.answers(tokenizer, messages, options)?;
        let (ids, places) = tokenizer.encode_spans(&text)?;
        let mut answers = vec![false; ids.len()];
        let mut before = 0;
        for (answer, (start, end)) in answers.iter_mut().zip(places) {
            // Some tokenizers leave blanks out of the places: they are of the token after them.
            let start = start.min(before);
            *answer = spans.iter().any(|span| start < span.end && end > span.start);
            before = before.max(end);
        }
        Ok(ChatIds { ids, answers })
    }

    /// The whole text, and the bytes of each answer.
    fn answers(
        &self,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        options: &ChatOptions,
    ) -> Result<(String, Vec<Range<usize>>)> {
        let show = |count: usize, prompt: bool| {
            let options = ChatOptions { add_generation_prompt: prompt, ..options.clone() };
            self.render(&messages[..count], &options)
        };
        let whole = show(messages.len(), false)?;
        let mut spans = vec![];
        for (index, message) in messages.iter().enumerate() {
            if message.role != "assistant" {
                continue;
            }
            let (before, after) = (show(index, true)?, show(index + 1, false)?);
            for part in [&before, &after] {
                if !whole.starts_with(part.as_str()) {
                    return Err(unstable(&whole, part, index));
                }
            }
            let end = turn_end(tokenizer, &whole, before.len()..after.len());
            if end <= before.len() {
                let message = format!("the template leaves out the answer in message {index}");
                return Err(Error::new(Kind::Input, CHAT, message)
                    .hint("leave the answer out of the conversation, or use another template"));
            }
            spans.push(before.len()..end);
        }
        match spans.is_empty() {
            false => Ok((whole, spans)),
            true => Err(Error::new(Kind::Input, CHAT, "no message of the assistant")
                .hint("there is nothing to learn without one")),
        }
    }
}

/// Where an answer ends: after the last special token, if only blanks follow it, since the model
/// stops there and never writes them.
fn turn_end(tokenizer: &Tokenizer, whole: &str, span: Range<usize>) -> usize {
    if span.is_empty() {
        return span.start;
    }
    let trimmed = whole[span.clone()].trim_end();
    let special = tokenizer.inner.marked.iter().any(|(name, _)| trimmed.ends_with(name.as_str()));
    if special { span.start + trimmed.len() } else { span.end }
}

fn unstable(whole: &str, part: &str, index: usize) -> Error {
    let same = whole.char_indices().zip(part.chars()).find(|((_, a), b)| a != b);
    let at = same.map_or(whole.len().min(part.len()), |((at, _), _)| at);
    let around = |text: &str| {
        let start = text[..at].char_indices().rev().nth(15).map_or(0, |(start, _)| start);
        text[start..].chars().take(48).collect::<String>()
    };
    Error::new(
        Kind::Input,
        CHAT,
        format!(
            "the template writes the text up to message {index} in another way once more follows"
        ),
    )
    .fact(format!("up to it:  {:?}", around(part)))
    .fact(format!("with more: {:?}", around(whole)))
    .hint("make each answer the last of a conversation of its own, or use another template")
}
