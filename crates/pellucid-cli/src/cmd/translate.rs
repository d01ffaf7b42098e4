//! `pellucid translate`

use crate::args::SamplingArgs;
use crate::input::text_of;
use crate::model::Model;
use crate::out;
use crate::plan;
use crate::signal;
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid::evaluate::{Bleu, Chrf, Tokens, bleu};
use pellucid::generate::{BeamOptions, Choice, Translation};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct Translate {
    /// A folder of an encoder-decoder, or the folder of a run
    model: PathBuf,
    /// What to translate
    texts: Vec<String>,
    /// Translates each line of a file, or of stdin with -
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// Scores the translations against the lines of this file: BLEU and chrF, as sacrebleu gives them
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Continuations that run together; 1 takes the most probable token each time [default: the model's, or 5]
    #[arg(long, value_name = "N")]
    beam: Option<usize>,
    /// Above 0 favours long translations, below 0 short ones [default: the model's, or 1]
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    length_penalty: Option<f64>,
    /// Translations of each text, at most as many as beams
    #[arg(long, default_value_t = 1, value_name = "N")]
    best: usize,
    /// Draws tokens instead of searching
    #[arg(long)]
    sample: bool,
    /// The most new tokens
    #[arg(long, short = 'n', default_value_t = 256, value_name = "N")]
    max_new: usize,
    /// A JSON object per text
    #[arg(long)]
    json: bool,
    /// Texts that run at once
    #[arg(long, default_value_t = 32, value_name = "N")]
    batch: usize,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Translate {
    pub(crate) fn run(self) -> Result<()> {
        let pool = plan::pool(self.threads);
        let model = Model::load(&self.model)?;
        let texts = self.texts()?;
        let references = self.references(texts.len())?;
        let choice = self.choice(&model);
        let translator = model.translator(&pool)?;
        let start = Instant::now();
        let bar = out::bar(texts.len(), "texts");
        let all = translator.translate(&texts, &choice, self.batch, &mut |done, _| {
            bar.set_position(done as u64);
            match signal::stopped() {
                true => Err(Error::new(Kind::Interrupted, "translate", "stopped")),
                false => Ok(()),
            }
        })?;
        bar.finish_and_clear();
        let seconds = start.elapsed().as_secs_f64();
        for (text, found) in texts.iter().zip(&all) {
            self.print(text, found)?;
        }
        let tokens: usize = all.iter().flatten().map(|t| t.tokens.len()).sum();
        out::note(&format!(
            "{} texts, {tokens} tokens in {}, {:.0} tokens/s",
            texts.len(),
            out::duration(seconds),
            tokens as f64 / seconds.max(1e-9)
        ));
        match references {
            None => Ok(()),
            Some(references) => self.score(&all, &references, seconds),
        }
    }

    fn texts(&self) -> Result<Vec<String>> {
        let mut texts = self.texts.clone();
        if let Some(path) = &self.source {
            texts.extend(text_of(path)?.lines().map(str::to_owned));
        }
        if texts.is_empty() {
            return Err(Error::new(Kind::Input, "translate", "nothing to translate")
                .hint("give texts, or a file of lines: --source FILE, or --source - for stdin"));
        }
        Ok(texts)
    }

    fn references(&self, texts: usize) -> Result<Option<Vec<Vec<String>>>> {
        let Some(path) = &self.reference else { return Ok(None) };
        let lines: Vec<Vec<String>> =
            text_of(path)?.lines().map(|line| vec![line.to_owned()]).collect();
        if lines.len() == texts {
            return Ok(Some(lines));
        }
        let message = format!("{}: {} lines for {texts} texts", path.display(), lines.len());
        Err(Error::new(Kind::Input, "translate", message)
            .hint("line n must be the reference of text n"))
    }

    fn choice(&self, model: &Model) -> Choice {
        let (generation, stop_ids) = (&model.generation, model.ends());
        let (beams, max_new) = (self.beam.or(generation.beams).unwrap_or(5), self.max_new);
        if self.sample || beams == 1 {
            let mut sampling = self.sampling.over(model.sampling());
            if !self.sample {
                sampling.temperature = 0.0;
            }
            return Choice::Sampled { sampling, max_new, stop_ids };
        }
        Choice::Beam(BeamOptions {
            beams,
            length_penalty: self.length_penalty.unwrap_or(generation.length_penalty),
            max_new,
            returned: self.best,
            forced_first: generation.forced_first,
            forced_last: generation.forced_last,
            banned: generation.banned.clone(),
            stop_ids,
            ..BeamOptions::default()
        })
    }

    fn print(&self, text: &str, found: &[Translation]) -> Result<()> {
        if self.json {
            let one = |t: &Translation| json!({"text": t.text, "score": t.score, "ids": t.tokens});
            let all: Vec<_> = found.iter().map(one).collect();
            return out::json(&json!({"source": text, "translations": all}));
        }
        found.iter().try_for_each(|t| out::line(&t.text))
    }

    fn score(
        &self,
        all: &[Vec<Translation>],
        references: &[Vec<String>],
        seconds: f64,
    ) -> Result<()> {
        let best: Vec<&str> = all.iter().map(|t| t.first().map_or("", |t| &*t.text)).collect();
        let found: Bleu = bleu::corpus(&best, references, Tokens::V13a)?;
        let chrf = Chrf::default().corpus(&best, references)?;
        if self.json {
            return out::json(&json!({
                "bleu": found.score, "precisions": found.precisions,
                "brevity_penalty": found.brevity_penalty, "signature": found.signature(),
                "chrf": chrf, "texts": best.len(), "seconds": seconds,
            }));
        }
        let p = found.precisions;
        out::complain(&format!(
            "BLEU {:.2} ({:.1}/{:.1}/{:.1}/{:.1}, brevity {:.3}, {} words for {}; {})",
            found.score,
            p[0],
            p[1],
            p[2],
            p[3],
            found.brevity_penalty,
            found.length,
            found.reference_length,
            found.signature()
        ));
        out::complain(&format!("chrF {chrf:.2}"));
        Ok(())
    }
}
