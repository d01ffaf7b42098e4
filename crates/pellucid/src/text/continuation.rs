//! A text and one that follows it, as ids: cut where EleutherAI's lm-evaluation-harness cuts.
//!
//! Both are encoded as one text, because pieces may reach over the border, and the continuation is what follows as
//! many ids as the context has alone. Spaces at the end of the context belong to the continuation first: most
//! vocabularies begin a word with its space.

use super::tokenizer::Tokenizer;
use crate::error::{Error, Kind, Result};

const ENCODE: &str = "encode continuation";

/// Ids of a context and of what follows it; neither is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continued {
    /// What the template puts before a text, then the context.
    pub context: Vec<u32>,
    /// What follows.
    pub continuation: Vec<u32>,
}

impl Tokenizer {
    /// Ids of `context` and of `continuation` after it. What the tokenizer's template puts before a text is before
    /// the context, what it puts after one is left out. A context without ids is `begin`, else the token that begins
    /// a text, else the one that ends one.
    ///
    /// # Errors
    /// As [`Self::encode`]; a continuation that has no id of its own; a context without ids where no token begins or
    /// ends a text.
    pub fn encode_continuation(
        &self,
        context: &str,
        continuation: &str,
        begin: Option<u32>,
    ) -> Result<Continued> {
        let whole = format!("{context}{continuation}");
        let before = &whole[..context.trim_end().len()];
        let ids = self.encode(&whole)?;
        let mut lead = self.lead(&whole, &ids)?;
        let before = self.encode(before)?;
        let continuation = ids.get(before.len()..).unwrap_or_default().to_vec();
        if continuation.is_empty() {
            let message =
                format!("after {context:?}, the text {:?} has no ids", &whole[context.len()..]);
            return Err(Error::new(Kind::Input, ENCODE, message)
                .hint("a continuation is a text of at least one token that is not part of the context's last"));
        }
        if lead.is_empty() && before.is_empty() {
            let special = self.special_ids();
            let Some(begin) = begin.or(special.bos).or(special.eos) else {
                let message = "the context is empty, and no token begins or ends a text";
                return Err(Error::new(Kind::Input, ENCODE, message)
                    .hint("put a text before it, or name a bos_token in tokenizer_config.json"));
            };
            lead.push(begin);
        }
        lead.extend(before);
        Ok(Continued { context: lead, continuation })
    }

    /// What the template puts before `text`, whose ids are `ids`.
    fn lead(&self, text: &str, ids: &[u32]) -> Result<Vec<u32>> {
        let mut all = self.encode_with_template(text)?;
        let at = (0..all.len()).find(|&at| all[at..].starts_with(ids)).unwrap_or(0);
        all.truncate(at);
        Ok(all)
    }
}
