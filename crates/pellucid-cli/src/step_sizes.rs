//! Which model and which batch a training step is measured with.

use clap::{Args, ValueEnum};
use pellucid::error::{Error, Kind, Result};
use pellucid::model::config::{ActivationKind, Architecture, Config};
use pellucid::model::train_graph::{Batch, IGNORE};
use pellucid::tensor::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Recipe {
    /// A decoder: L=4, C=128, V=65, T=64, B=12
    Tiny,
    /// A decoder: L=6, C=384, V=65, T=256, B=64
    Nano,
    /// A decoder: L=12, C=768, V=50257, T=1024, B=1
    Gpt2,
    /// An encoder on hidden tokens: L=4, C=256, V=30522, T=128, B=32
    BertMini,
    /// An encoder-decoder: L=4+4, C=128, V=10000, S=T=64, B=32
    TransformerTiny,
    /// An encoder-decoder: L=6+6, C=512, F=1024, V=10000, S=T=64, B=32
    TransformerIwslt,
}

/// What is measured, and what of it is to be otherwise.
#[derive(Clone, Debug, Args)]
pub(crate) struct Choice {
    /// Sizes
    #[arg(long, value_enum, default_value_t = Recipe::Nano)]
    recipe: Recipe,
    /// A preset in its place, with T = 128 at most and B = 32
    #[arg(long, value_name = "NAME", conflicts_with = "recipe")]
    preset: Option<String>,
    /// B in place of the recipe's
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// T in place of the recipe's
    #[arg(long, value_name = "N")]
    time: Option<usize>,
    /// S in place of the recipe's, where there is an encoder beside the decoder
    #[arg(long, value_name = "N")]
    source_time: Option<usize>,
    /// V in place of the recipe's
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Dropout in place of the preset's
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,
    /// Share of positions that have a target [encoders 0.15, else 1]
    #[arg(long, value_name = "SHARE")]
    targets: Option<f64>,
    /// Rows that go through the layers together [as many as have about 1024 tokens]
    #[arg(long, value_name = "N")]
    pass_rows: Option<usize>,
}

/// A model's sizes and those of its batches.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) name: String,
    pub(crate) config: Config,
    /// B.
    pub(crate) batch: usize,
    /// T.
    pub(crate) time: usize,
    /// S; 0 where there is one stack.
    pub(crate) source_time: usize,
    /// Share of positions that have a target.
    pub(crate) targets: f64,
    /// Rows of a pass; none: as training chooses.
    pub(crate) pass_rows: Option<usize>,
}

fn tiny() -> Config {
    let (width, heads) = (128, 4);
    let sizes =
        Config { layers: 4, width, heads, kv_heads: heads, head_width: 32, ..Config::nano() };
    Config { hidden: 4 * width, context: 64, activation: ActivationKind::Gelu, ..sizes }
}

impl Recipe {
    /// Sizes, B and T.
    fn sizes(self) -> (Config, usize, usize) {
        let of_pairs = |config| Config { vocab: 10_000, ..config };
        let (config, batch) = match self {
            Self::Tiny => (tiny(), 12),
            Self::Nano => (Config::nano(), 64),
            Self::Gpt2 => (Config::gpt2(), 1),
            Self::BertMini => (Config { vocab: 30_522, ..Config::bert_mini() }, 32),
            Self::TransformerTiny => (of_pairs(Config::transformer_tiny()), 32),
            Self::TransformerIwslt => (of_pairs(Config::transformer_iwslt()), 32),
        };
        let time = if config.has_source() { 64 } else { config.context };
        (config, batch, time)
    }
}

impl Choice {
    /// What the flags say.
    ///
    /// # Errors
    /// No such preset; sizes that contradict each other; nothing to learn from.
    pub(crate) fn sizes(&self) -> Result<Sizes> {
        let (mut config, batch, time) = match &self.preset {
            None => self.recipe.sizes(),
            Some(name) => {
                let config = Config::preset(name)?;
                let time = config.context.min(128);
                (config, 32, time)
            }
        };
        let named = self.recipe.to_possible_value().map(|v| v.get_name().to_owned());
        let name = self.preset.clone().or(named).unwrap_or_default();
        config.vocab = self.vocab.unwrap_or(config.vocab);
        config.dropout = self.dropout.unwrap_or(config.dropout);
        let (batch, time) = (self.batch.unwrap_or(batch), self.time.unwrap_or(time));
        let source_time = match (config.has_source(), self.source_time) {
            (true, given) => given.unwrap_or(time),
            (false, None) => 0,
            (false, Some(_)) => {
                let message = format!("--source-time: {name} has no encoder beside a decoder");
                return Err(Error::new(Kind::Config, "bench", message).hint("leave it out"));
            }
        };
        config.context = config.context.max(time).max(source_time);
        config.validate()?;
        let hidden = config.architecture == Architecture::Encoder;
        let targets = self.targets.unwrap_or(if hidden { 0.15 } else { 1.0 });
        let counted = (targets * (batch * time) as f64).round();
        if !(targets <= 1.0 && counted >= 1.0) {
            let message = format!("--targets {targets}, B = {batch}, T = {time}: nothing to learn");
            return Err(Error::new(Kind::Config, "bench", message)
                .hint("give a share above 0 and at most 1, and a batch of at least one token"));
        }
        let pass_rows = self.pass_rows;
        Ok(Sizes { name, config, batch, time, source_time, targets, pass_rows })
    }
}

impl Sizes {
    /// Tokens of a step, of both sides.
    pub(crate) fn tokens(&self) -> usize {
        self.batch * (self.time + self.source_time)
    }

    /// Random whole rows; of the positions, [`Sizes::targets`] have a target.
    pub(crate) fn draw(&self, random: &mut Random) -> Batch {
        let (b, t, s) = (self.batch, self.time, self.source_time);
        let draw = |random: &mut Random, n: usize, vocab: usize| -> Vec<i32> {
            (0..n).map(|_| random.below(vocab) as i32).collect()
        };
        let ids = draw(random, b * t, self.config.vocab);
        let mut targets = draw(random, b * t, self.config.vocab);
        if self.targets < 1.0 {
            let counted = ((self.targets * targets.len() as f64).round() as usize).max(1);
            // The first of a random order keep theirs.
            let mut order: Vec<usize> = (0..targets.len()).collect();
            for i in 0..counted {
                let other = i + random.below(order.len() - i);
                order.swap(i, other);
            }
            order[counted..].iter().for_each(|&i| targets[i] = IGNORE);
        }
        let source = draw(random, b * s, self.config.source_vocab());
        Batch { source, source_time: s, ..Batch::of(b, &ids, &targets) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(recipe: Recipe) -> Choice {
        let (preset, batch, time, source_time) = (None, None, None, None);
        let (vocab, dropout, targets, pass_rows) = (None, None, None, None);
        Choice { recipe, preset, batch, time, source_time, vocab, dropout, targets, pass_rows }
    }

    #[test]
    fn every_recipe_has_the_sizes_it_says() {
        for (recipe, sizes) in [
            (Recipe::Tiny, (12, 64, 0)),
            (Recipe::Nano, (64, 256, 0)),
            (Recipe::Gpt2, (1, 1024, 0)),
            (Recipe::BertMini, (32, 128, 0)),
            (Recipe::TransformerTiny, (32, 64, 64)),
            (Recipe::TransformerIwslt, (32, 64, 64)),
        ] {
            let found = choice(recipe).sizes().unwrap();
            assert_eq!((found.batch, found.time, found.source_time), sizes, "{}", found.name);
        }
        let iwslt = choice(Recipe::TransformerIwslt).sizes().unwrap();
        assert_eq!((iwslt.name.as_str(), iwslt.tokens()), ("transformer-iwslt", 32 * 128));
        assert_eq!((iwslt.config.vocab, iwslt.config.hidden), (10_000, 1024));
    }

    #[test]
    fn the_share_of_targets_is_kept_and_sources_are_drawn() {
        let sizes = choice(Recipe::BertMini).sizes().unwrap();
        let batch = sizes.draw(&mut Random::new(1, 0));
        let counted = batch.targets.iter().filter(|&&t| t != IGNORE).count();
        assert_eq!((counted, batch.ids.len(), batch.source.len()), (614, 4096, 0));
        let both =
            Choice { batch: Some(2), source_time: Some(5), ..choice(Recipe::TransformerTiny) };
        let batch = both.sizes().unwrap().draw(&mut Random::new(1, 0));
        assert_eq!((batch.source.len(), batch.source_time, batch.time), (10, 5, 64));
        assert!(!batch.targets.contains(&IGNORE));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let text = |c: Choice| c.sizes().unwrap_err().to_string();
        assert!(
            text(Choice { source_time: Some(4), ..choice(Recipe::Nano) }).contains("no encoder")
        );
        for targets in [Some(0.0), Some(1.5), Some(f64::NAN)] {
            let wrong = Choice { targets, ..choice(Recipe::BertMini) };
            assert!(text(wrong).contains("nothing to learn"));
        }
        let wrong = Choice { preset: Some("bort".into()), ..choice(Recipe::Nano) };
        assert!(text(wrong).contains("bort"));
    }
}
