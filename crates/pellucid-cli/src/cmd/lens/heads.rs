//! `pellucid lens heads`: what every head does, and whether the model uses its context.

use super::looked::{Looked, Told};
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::context_scores::repeated;
use pellucid::lens::head_scores::{HeadScore, RandomTexts, head_scores};
use pellucid::lens::heat_map::HeatMap;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Heads {
    #[command(flatten)]
    looked: Looked,
    /// Different random tokens of a text
    #[arg(long, default_value_t = 25, value_name = "N")]
    tokens: usize,
    /// How often they come
    #[arg(long, default_value_t = 4, value_name = "N")]
    repeats: usize,
    /// Texts
    #[arg(long, default_value_t = 10, value_name = "N")]
    samples: usize,
    /// Of the tokens
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    output: FindingArgs,
}

impl Heads {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let (config, subject) = (&opened.model.config, opened.subject());
        let start = opened.model.generation.bos;
        // A small vocabulary or a short context takes fewer.
        let repeats = self.repeats.max(2);
        let room = (config.context - usize::from(start.is_some())) / repeats;
        let tokens = self.tokens.min(config.vocab - usize::from(start.is_some())).min(room);
        let (samples, seed) = (self.samples, self.seed);
        let texts = RandomTexts { tokens, repeats, samples, start, seed, candidates: vec![] };
        let told = Told::of(samples);
        let found = head_scores(subject, &texts, &mut told.each())?;
        drop(told);
        let twice = repeated(subject, &RandomTexts { repeats: 2, ..texts.clone() })?;
        let of = |name: &str, pick: &dyn Fn(&HeadScore) -> f64| {
            let columns = (0..found.heads).map(|h| format!("head {h}")).collect();
            let values = found.scores.iter().map(pick).collect();
            HeatMap::by_block(format!("{name}, by block and head"), columns, values)
        };
        let mut pictures = vec![
            of("looks at the token before", &|s| s.previous.value),
            of("looks at earlier copies of the token", &|s| s.duplicate.value),
            of("looks at what followed them (induction)", &|s| s.induction.value),
        ];
        if found.scores.iter().all(|s| s.copying.is_some()) {
            pictures.push(of("raises what it looks at (copying)", &|s| {
                s.copying.map_or(0.0, |m| m.value)
            }));
        }
        let text = vec![format!(
            "{samples} texts of {tokens} random tokens, {repeats} times. Loss on them the first time {:.3} nats, the \
             second {:.3}; who knows only which tokens are drawn has {:.3}",
            twice.first.value, twice.second.value, twice.uniform
        )];
        let heads: Vec<_> = found
            .scores
            .iter()
            .enumerate()
            .map(|(i, s)| {
                json!({ "block": i / found.heads, "head": i % found.heads, "previous": s.previous.value,
                    "duplicate": s.duplicate.value, "induction": s.induction.value, "copying": s.copying.map(|c| c.value) })
            })
            .collect();
        let chance: Vec<_> = found
            .chance
            .iter()
            .map(|c| json!({ "previous": c.previous, "duplicate": c.duplicate, "induction": c.induction }))
            .collect();
        let json = json!({ "heads": heads, "chance": chance, "copying_chance": found.copying_chance,
            "repeated": { "first": twice.first.value, "second": twice.second.value, "uniform": twice.uniform, "curve": twice.curve } });
        let title = "What every head does".into();
        self.output.show(&Finding { title, text, pictures, json, ..Finding::default() })
    }
}
