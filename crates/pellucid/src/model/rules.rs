//! The rules that sizes and choices must keep; all faults are listed at once.

use super::adapter;
use super::config::{Architecture, Config, Core, NormKind, Output, Positions};
use crate::error::{Error, Kind, Result};

impl Config {
    /// Checks every rule and lists every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let mut rule = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        for (name, value) in [
            ("vocab", self.vocab),
            ("context", self.context),
            ("layers", self.layers),
            ("width", self.width),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_width", self.head_width),
            ("hidden", self.hidden),
        ] {
            // A model without feed-forwards is one of attention only.
            let zero = name == "hidden";
            rule(value > 0 || zero, format!("{name} = 0, but it must be at least 1"));
            rule(value < 1 << 31, format!("{name} = {value}, but ids and sizes fit in 31 bits"));
        }
        rule(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            format!("kv_heads = {} does not divide heads = {}", self.kv_heads, self.heads),
        );
        rule(
            self.positions != Positions::Rotary || self.head_width.is_multiple_of(2),
            format!("head_width = {} is odd, but rotary turns pairs", self.head_width),
        );
        rule(
            self.rotary_base.is_finite() && self.rotary_base > 1.0,
            format!("rotary_base = {}, but it must be a number above 1", self.rotary_base),
        );
        rule(
            self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0,
            format!("norm_epsilon = {}, but it must be above 0", self.norm_epsilon),
        );
        rule(
            (0.0..1.0).contains(&self.dropout),
            format!("dropout = {}, but it must be at least 0 and below 1", self.dropout),
        );
        rule(self.window != Some(0), "window = 0, but a query must see itself".into());
        self.bare(&mut faults);
        self.stacks(&mut faults);
        self.tops(&mut faults);
        adapter::faults(self, &mut faults);
        if faults.is_empty() {
            return Ok(());
        }
        let count = faults.len();
        let error = Error::new(
            Kind::Config,
            "config",
            format!("{count} fault{} in the model's sizes", if count == 1 { "" } else { "s" }),
        )
        .hint("correct these fields in the run's TOML, the flags or config.json");
        Err(faults.into_iter().fold(error, Error::fact))
    }
}

impl Config {
    /// What norms must keep, blocks without norms or feed-forwards, and how weights start.
    fn bare(&self, faults: &mut Vec<String>) {
        let mut rule = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.into());
            }
        };
        rule(
            !(self.norm == NormKind::RmsNorm && self.norm_bias),
            "norm_bias = true, but RMSNorm has none",
        );
        rule(
            self.norm != NormKind::None || !self.norm_bias && !self.embedding_norm,
            "norm = none, so norm_bias and embedding_norm must be false",
        );
        rule(
            self.has_feed_forward() || !self.gated,
            "gated = true, but hidden = 0: there is no feed-forward to be gated",
        );
        rule(
            self.initial_std.is_none_or(|s| s.is_finite() && s > 0.0),
            "initial_std is a standard deviation: above 0",
        );
        rule(
            self.initial_std.is_none() || self.core == Core::Transformer,
            "initial_std is of attention's matrices; core = lstm starts from its width",
        );
    }

    /// What the stacks must keep.
    fn stacks(&self, faults: &mut Vec<String>) {
        let mut rule = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        rule(
            self.has_source() == (self.decoder_layers > 0),
            format!(
                "decoder_layers = {}, but it is the number of a second stack's blocks: at least 1 with \
                 architecture = encoder_decoder, else 0",
                self.decoder_layers
            ),
        );
        rule(
            self.source_vocab == 0 || self.has_source(),
            format!("source_vocab = {}, but there is no second stack", self.source_vocab),
        );
        let relative = self.positions == Positions::Relative;
        rule(
            relative == (self.relative_buckets > 0) && relative == (self.relative_distance > 0),
            format!(
                "relative_buckets = {}, relative_distance = {}; both are above 0 with positions = relative, else 0",
                self.relative_buckets, self.relative_distance
            ),
        );
        rule(
            !relative
                || self.relative_buckets.is_multiple_of(4)
                    && self.relative_distance > self.relative_buckets / 2,
            format!(
                "relative_buckets = {}, relative_distance = {}; buckets are a multiple of 4, and the distance is more than half of them",
                self.relative_buckets, self.relative_distance
            ),
        );
        rule(
            self.attention_scale.is_none_or(|s| s.is_finite() && s > 0.0),
            format!("attention_scale = {:?}, but it must be above 0", self.attention_scale),
        );
        rule(
            self.core == Core::Transformer
                || self.positions == Positions::None && !self.embedding_norm && self.segments == 0,
            "core = lstm tells positions apart itself: positions = none, no segments, no embedding_norm".into(),
        );
        rule(
            self.core == Core::Transformer || !self.has_source() || self.layers == self.decoder_layers,
            "core = lstm: the decoder's layers start with the encoder's states, so they are as many".into(),
        );
        rule(
            self.core == Core::Transformer || self.architecture != Architecture::Encoder,
            "core = lstm reads from left to right; choose architecture = decoder or encoder_decoder".into(),
        );
    }

    /// What stands on the stacks.
    fn tops(&self, faults: &mut Vec<String>) {
        let mut rule = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        let labels = matches!(self.output, Output::Sequence | Output::Positions);
        rule(
            labels != self.labels.is_empty(),
            format!("{} labels with output = {:?}", self.labels.len(), self.output).to_lowercase(),
        );
        let mut names = self.labels.clone();
        names.sort();
        names.dedup();
        rule(names.len() == self.labels.len(), "two labels have the same name".into());
        rule(
            self.output == Output::Tokens || !self.has_source(),
            "an encoder-decoder scores tokens; choose output = tokens".into(),
        );
        rule(
            self.output == Output::Tokens
                || !(self.head_bias || self.head_transform || self.scaled_head),
            "head_bias, head_transform and scaled_head belong to output = tokens".into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_and_every_depth_are_valid() {
        for preset in super::super::presets::PRESETS {
            Config::preset(preset).unwrap().validate().unwrap();
            for depth in 1..20 {
                Config::preset(preset).unwrap().with_depth(depth).validate().unwrap();
            }
        }
    }

    #[test]
    fn blocks_without_feed_forwards_or_norms_keep_their_own_rules() {
        let bare = Config { hidden: 0, norm: NormKind::None, norm_bias: false, ..Config::nano() };
        bare.validate().unwrap();
        for (config, fault) in [
            (Config { gated: true, ..bare.clone() }, "gated = true, but hidden = 0"),
            (Config { norm_bias: true, ..bare.clone() }, "norm = none"),
            (Config { embedding_norm: true, ..bare }, "norm = none"),
        ] {
            let text = config.validate().unwrap_err().to_string();
            assert!(text.contains("1 fault ") && text.contains(fault), "{text}");
        }
    }

    #[test]
    fn all_faults_are_listed_at_once() {
        let config = Config { heads: 5, kv_heads: 2, vocab: 0, dropout: 1.5, ..Config::gpt2() };
        let text = config.validate().unwrap_err().to_string();
        for fault in ["3 faults", "vocab = 0", "kv_heads = 2 does not divide heads = 5", "dropout"]
        {
            assert!(text.contains(fault), "{text}");
        }
    }
}
