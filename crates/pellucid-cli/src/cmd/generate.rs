//! `pellucid generate`

use crate::args::{SamplingArgs, SpeculateArgs};
use crate::changes::ChangeArgs;
use crate::input::{parse_ids, text_of};
use crate::model::{Held, Model};
use crate::out;
use crate::plan;
use crate::recorder::RecordArgs;
use crate::speculate;
use clap::Args;
use pellucid::error::Result;
use pellucid::generate::{Event, Flow, GenerateOptions, Speculated};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// A model folder or the folder of a run
    model: PathBuf,
    /// What to continue; several run as one batch
    prompts: Vec<String>,
    /// Reads a prompt from a file, or from stdin with -
    #[arg(long, value_name = "FILE")]
    prompt_file: Vec<PathBuf>,
    /// A prompt as token ids, such as "1 2 3"
    #[arg(long, value_name = "IDS")]
    ids: Vec<String>,
    /// The most new tokens
    #[arg(long, short = 'n', value_name = "N")]
    max_new: Option<usize>,
    /// Continuations of each prompt
    #[arg(long, default_value_t = 1, value_name = "N")]
    samples: usize,
    /// Ends a text before this string
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Goes on after the token that ends a text
    #[arg(long)]
    ignore_end: bool,
    /// Keeps the tail of a prompt that is longer than the context
    #[arg(long)]
    truncate_prompt: bool,
    /// Leaves the prompt out of what is printed
    #[arg(long)]
    no_echo: bool,
    /// A JSON object per continuation
    #[arg(long)]
    json: bool,
    /// Rows that run at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    batch: usize,
    /// How weights are held; without it, as the folder has them: plain ones in f32
    #[arg(long, value_enum, value_name = "KIND")]
    weights: Option<Held>,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    speculation: SpeculateArgs,
    #[command(flatten)]
    inside: ChangeArgs,
    #[command(flatten)]
    record: RecordArgs,
}

impl Generate {
    pub(crate) fn run(self) -> Result<()> {
        let pool = plan::pool(self.threads);
        let mut model = Model::load_as(&pool, &self.model, self.weights)?;
        model.standing = self.inside.standing(&model.config)?;
        let (texts, prompts) = self.prompts(&model)?;
        let options = GenerateOptions {
            max_new: self.max_new.or(model.generation.max_new_tokens).unwrap_or(128),
            sampling: self.sampling.over(model.sampling()),
            stop_ids: if self.ignore_end { vec![] } else { model.ends() },
            stop_strings: self.stop.clone(),
            truncate_prompt: self.truncate_prompt,
            ..GenerateOptions::default()
        };
        let start = Instant::now();
        let streams = prompts.len() == 1 && !self.json && model.tokenizer.is_some();
        let echo = !self.no_echo;
        let mut begun = false;
        let mut sink = |event: Event<'_>| {
            let (Event::Token { text, .. } | Event::End { text, .. }) = event;
            // The prompt is shown once it was accepted.
            if streams && echo && !std::mem::replace(&mut begun, true) {
                out::write(&texts[0])?;
            }
            if streams {
                out::write(text)?;
            }
            Ok(Flow::Continue)
        };
        let done = match &self.speculation.speculate {
            None => {
                let done = if self.record.any() {
                    self.record.generate(&model, &pool, &prompts, &options, &mut sink)?
                } else {
                    model.generate(&pool, &prompts, self.batch, &options, &mut sink)?
                };
                let row = |generated| Speculated { generated, proposed: 0, accepted: 0, calls: 0 };
                done.into_iter().map(row).collect()
            }
            Some(which) => {
                let most = self.speculation.speculate_tokens;
                speculate::run(&model, (which, most), &pool, &prompts, &options, &mut sink)?
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        if streams {
            out::line("")?;
        } else {
            let mut rows = done.iter().zip(&texts);
            rows.try_for_each(|(row, text)| self.print(&model, row, text, seconds))?;
        }
        let tokens: usize = done.iter().map(|g| g.generated.tokens.len()).sum();
        let end = done.last().map(|g| g.generated.stop.name());
        out::note(&format!(
            "{tokens} tokens in {}, {:.0} tokens/s; stopped by: {}",
            out::duration(seconds),
            tokens as f64 / seconds.max(1e-9),
            end.unwrap_or("nothing to do")
        ));
        Ok(())
    }

    /// Each prompt as text and as ids, `samples` times.
    fn prompts(&self, model: &Model) -> Result<(Vec<String>, Vec<Vec<u32>>)> {
        let mut texts = self.prompts.clone();
        for path in &self.prompt_file {
            texts.push(text_of(path)?);
        }
        if texts.is_empty() && self.ids.is_empty() {
            texts.push(String::new());
        }
        let mut ids = texts.iter().map(|t| model.encode(t)).collect::<Result<Vec<_>>>()?;
        for list in &self.ids {
            let list = parse_ids(list)?;
            texts.push(match &model.tokenizer {
                Some(tokenizer) => tokenizer.decode(&list)?,
                None => String::new(),
            });
            ids.push(list);
        }
        let n = self.samples;
        let texts = texts.iter().flat_map(|t| std::iter::repeat_n(t.clone(), n)).collect();
        let ids = ids.iter().flat_map(|t| std::iter::repeat_n(t.clone(), n)).collect();
        Ok((texts, ids))
    }

    fn print(&self, model: &Model, row: &Speculated, prompt: &str, seconds: f64) -> Result<()> {
        let made = &row.generated;
        if self.json {
            let mut object = json!({
                "prompt": prompt,
                "prompt_ids": made.prompt,
                "text": made.text,
                "ids": made.tokens,
                "stop": made.stop.name(),
                "seconds": seconds,
            });
            if self.speculation.speculate.is_some() {
                object["speculation"] = json!({
                    "proposed": row.proposed,
                    "accepted": row.accepted,
                    "target_calls": row.calls,
                });
            }
            return out::json(&object);
        }
        if model.tokenizer.is_none() {
            let ids: Vec<String> = made.tokens.iter().map(ToString::to_string).collect();
            return out::line(ids.join(" "));
        }
        let prompt = if self.no_echo { "" } else { prompt };
        out::line(format!("{prompt}{}\n---", made.text))
    }
}
