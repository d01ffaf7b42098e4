//! The assistant's answers in conversations: what others say is read, not learned.

use super::super::evaluate::Batches;
use super::super::run::RunConfig;
use super::examples::{ExampleBatches, Make};
use super::{
    Facts, Longest, Task, facts, given_tokenizer, longest, read_tokenizer, signed, slices,
    start_folder,
};
use crate::checkpoint::text_folder;
use crate::data::{Conversation, IGNORE, Ragged, read_conversations};
use crate::error::{Error, Kind, Result};
use crate::model::batch::Batch;
use crate::model::config::{Architecture, Config, Output};
use crate::text::{ChatOptions, ChatTemplate, Tokenizer};
use std::path::Path;
use std::sync::Arc;

/// What conversations look like where the model does not say: ChatML's turns.
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Conversations in ids.
#[derive(Debug)]
pub struct Instructions {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    train: Arc<[Ragged]>,
    validation: Arc<[Ragged]>,
}

#[derive(Clone, Copy, Debug)]
struct Answers;

impl Make for Answers {
    fn make(&self, examples: &[&Ragged], _: u64) -> Result<Batch> {
        let given = |e: &&Ragged| signed(&e.target[..e.target.len() - 1]);
        let wanted = |e: &&Ragged| -> Vec<i32> {
            let next = e.target[1..].iter().zip(&e.marks[1..]);
            next.map(|(&id, &mark)| if mark == 1 { id as i32 } else { IGNORE }).collect()
        };
        let ids: Vec<_> = examples.iter().map(given).collect();
        let targets: Vec<_> = examples.iter().map(wanted).collect();
        Batch::ragged(&slices(&ids), &slices(&targets))
    }
}

/// The template of the model in `folder`, else ChatML's.
///
/// # Errors
/// A template that cannot be read.
pub fn template(folder: Option<&Path>, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    if let Some(folder) = folder
        && let Some(own) = ChatTemplate::from_folder(folder, None)?
    {
        return Ok(own);
    }
    let ids = tokenizer.special_ids();
    let name = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_piece(id)).unwrap_or_default();
    let (bos, eos) = (name(ids.bos), name(ids.eos));
    ChatTemplate::new(TEMPLATE, [("bos_token", &*bos), ("eos_token", &*eos)])
}

impl Instructions {
    /// Reads the conversations that `run` names, for the tokenizer and the template of the model that it starts from.
    ///
    /// # Errors
    /// As [`read_conversations`]; a template that fails, with the line of the conversation.
    pub fn open(run: &RunConfig) -> Result<Self> {
        let tokenizer = match given_tokenizer(run) {
            Some(tokenizer) => tokenizer?,
            None => read_tokenizer(&run.data.tokenizer)?,
        };
        let start = start_folder(run)?.map(|folder| text_folder(&folder)).transpose()?;
        let template = template(start.as_deref(), &tokenizer)?;
        let read = |files: &[String]| -> Result<Arc<[Ragged]>> {
            let mut all = vec![];
            for file in files {
                for conversation in read_conversations(Path::new(file))? {
                    let example = encode(&template, &tokenizer, &conversation).map_err(|e| {
                        e.fact(format!("in the conversation of {file}, line {}", conversation.line))
                    })?;
                    all.push(example);
                }
            }
            Ok(all.into())
        };
        let (train, validation) = (read(&run.data.train)?, read(&run.data.validation)?);
        Ok(Self { tokenizer, template, train, validation })
    }
}

fn encode(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    conversation: &Conversation,
) -> Result<Ragged> {
    let found = template.encode(tokenizer, &conversation.messages, &ChatOptions::default())?;
    let marks = found.answers.iter().map(|&answer| u32::from(answer)).collect();
    Ok(Ragged { target: found.ids, marks, ..Ragged::default() })
}

impl Task for Instructions {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn facts(&self) -> Facts {
        facts(&self.train, &self.validation)
    }

    fn fit(&self, config: &mut Config) -> Result<()> {
        if config.architecture == Architecture::Decoder && config.output == Output::Tokens {
            return Ok(());
        }
        Err(Error::new(Kind::Config, "train", "data.task = instructions needs a decoder")
            .hint("start from a model like GPT-2 or Llama"))
    }

    fn longest(&self) -> Option<Longest> {
        Some(longest(&self.train))
    }

    fn batches(&self, run: &RunConfig, config: &Config) -> Result<Box<dyn Batches>> {
        let both = (self.train.clone(), self.validation.clone());
        Ok(Box::new(ExampleBatches::new(Answers, both, run, config)?))
    }

    fn template(&self) -> Option<&ChatTemplate> {
        Some(&self.template)
    }
}
