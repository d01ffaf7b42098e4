//! The closed list of everything observable: names, shapes, and where each lies.
//!
//! Names and the order of axes are TransformerLens's, which papers, courses and sparse autoencoders use; values are
//! those of the model as it is, nothing folded into anything. `s` of a self-attention is T.

use super::absent::absent;
use super::config::{Architecture, Config, Output};
use crate::error::{Error, Kind, Result};
use std::fmt;

/// Which stack a site is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The only stack: names begin with `blocks.`.
    Only,
    /// Of two stacks: `encoder.`.
    Encoder,
    /// Of two stacks: `decoder.`.
    Decoder,
}

macro_rules! parts {
    ($($(#[doc = $doc:literal])+ $part:ident, $name:literal, $axes:literal;)+) => {
        /// What a site shows; shapes in the house's alphabet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Part {
            $($(#[doc = $doc])+ $part,)+
        }

        impl Part {
            /// All, in the order of the data flow.
            pub const ALL: &[Self] = &[$(Self::$part,)+];

            /// TransformerLens's name; inside a block what follows its number.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$part => $name,)+ }
            }

            /// Axes, a letter each; `1` is an axis of one.
            #[must_use]
            pub fn axes(self) -> &'static str {
                match self { $(Self::$part => $axes,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub fn doc(self) -> &'static str {
                match self { $(Self::$part => concat!($($doc),+),)+ }
            }
        }
    };
}

parts! {
    /// Token vectors, scaled where the model does so, without positions.
    Embed, "hook_embed", "BTC";
    /// What positions add to them: learned or sinusoidal.
    PosEmbed, "hook_pos_embed", "BTC";
    /// The stream before a block.
    ResidPre, "hook_resid_pre", "BTC";
    /// What the norm before attention divides by; post-norm: the one after it.
    Ln1Scale, "ln1.hook_scale", "BT1";
    /// The stream divided by it, before the norm's weights.
    Ln1Normalized, "ln1.hook_normalized", "BTC";
    /// Queries, before heads are normalised and rotated.
    Q, "attn.hook_q", "BTHD";
    /// Keys, likewise.
    K, "attn.hook_k", "BTKD";
    /// Values.
    V, "attn.hook_v", "BTKD";
    /// Queries as they meet the keys: normalised and rotated.
    RotQ, "attn.hook_rot_q", "BTHD";
    /// Keys, likewise.
    RotK, "attn.hook_rot_k", "BTKD";
    /// How much each query wants each key, -inf where it may not look.
    Scores, "attn.hook_attn_scores", "BHTS";
    /// The same as probabilities.
    Pattern, "attn.hook_pattern", "BHTS";
    /// What each head read.
    Z, "attn.hook_z", "BTHD";
    /// What each head writes to the stream.
    Result, "attn.hook_result", "BTHC";
    /// What attention writes to the stream, with its bias.
    AttnOut, "hook_attn_out", "BTC";
    /// The stream after attention.
    ResidMid, "hook_resid_mid", "BTC";
    /// As `ln1`, of the decoder's look at the encoder.
    CrossLnScale, "ln2.hook_scale", "BT1";
    /// Likewise.
    CrossLnNormalized, "ln2.hook_normalized", "BTC";
    /// Queries to the encoder's positions.
    CrossQ, "cross_attn.hook_q", "BTHD";
    /// Keys of the encoder's positions.
    CrossK, "cross_attn.hook_k", "BSKD";
    /// Values of the encoder's positions.
    CrossV, "cross_attn.hook_v", "BSKD";
    /// How much each query wants each of the encoder's positions.
    CrossScores, "cross_attn.hook_attn_scores", "BHTS";
    /// The same as probabilities.
    CrossPattern, "cross_attn.hook_pattern", "BHTS";
    /// What each head read of the encoder.
    CrossZ, "cross_attn.hook_z", "BTHD";
    /// What each head writes of it.
    CrossResult, "cross_attn.hook_result", "BTHC";
    /// What cross-attention writes to the stream.
    CrossOut, "hook_cross_attn_out", "BTC";
    /// The stream after it.
    ResidMidCross, "hook_resid_mid_cross", "BTC";
    /// As `ln1`, of the feed-forward; called `ln3` where there is cross-attention.
    Ln2Scale, "ln2.hook_scale", "BT1";
    /// Likewise.
    Ln2Normalized, "ln2.hook_normalized", "BTC";
    /// Before the nonlinearity; of a gated one, the gate.
    MlpPre, "mlp.hook_pre", "BTF";
    /// Of a gated feed-forward: what the gate is multiplied with.
    MlpPreLinear, "mlp.hook_pre_linear", "BTF";
    /// Neurons: what the feed-forward's second matrix reads.
    MlpPost, "mlp.hook_post", "BTF";
    /// What the feed-forward writes to the stream.
    MlpOut, "hook_mlp_out", "BTC";
    /// The stream after a block, of post-norm before its last norm; of an LSTM a layer's output.
    ResidPost, "hook_resid_post", "BTC";
    /// Post-norm: the stream after the block's last norm.
    NormalizedResidPost, "hook_normalized_resid_post", "BTC";
    /// What the last norm divides by.
    LnFinalScale, "ln_final.hook_scale", "BT1";
    /// The stream divided by it, before the norm's weights.
    LnFinalNormalized, "ln_final.hook_normalized", "BTC";
    /// What comes out of a stack: what the head, or a decoder, reads.
    UnembedIn, "unembed.hook_in", "BTC";
    /// Scores of every next token, or of every label.
    UnembedOut, "unembed.hook_out", "BTV";
}

impl Part {
    /// Whether each block has it.
    #[must_use]
    pub fn in_block(self) -> bool {
        !matches!(
            self,
            Self::Embed
                | Self::PosEmbed
                | Self::LnFinalScale
                | Self::LnFinalNormalized
                | Self::UnembedIn
                | Self::UnembedOut
        )
    }

    /// Whether it is about the encoder that a decoder looks at.
    pub(super) fn crosses(self) -> bool {
        (Self::CrossLnScale..=Self::ResidMidCross).contains(&self)
    }

    /// The part whose memory holds this one: queries, keys and values lie in one row, gate and up in another.
    pub(super) fn base(self) -> Self {
        match self {
            Self::K | Self::V => Self::Q,
            Self::RotK => Self::RotQ,
            Self::CrossV => Self::CrossK,
            Self::MlpPreLinear => Self::MlpPre,
            other => other,
        }
    }
}

/// A place in the computation whose value can be read and changed. Printed as `blocks.3.attn.hook_pattern`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// Which stack.
    pub side: Side,
    /// Which block; 0 where the part is not in a block.
    pub layer: usize,
    /// What.
    pub part: Part,
}

impl Site {
    /// In block `layer` of the only stack.
    #[must_use]
    pub fn block(layer: usize, part: Part) -> Self {
        Self { side: Side::Only, layer, part }
    }

    /// Outside the blocks of the only stack.
    #[must_use]
    pub fn once(part: Part) -> Self {
        Self::block(0, part)
    }

    /// Scores of the model's last stack.
    #[must_use]
    pub fn logits(config: &Config) -> Self {
        Self { side: main_side(config), layer: 0, part: Part::UnembedOut }
    }

    /// The stream before a block of the model's last stack.
    #[must_use]
    pub fn resid_pre(config: &Config, layer: usize) -> Self {
        Self { side: main_side(config), layer, part: Part::ResidPre }
    }

    /// The same place of another part.
    #[must_use]
    pub fn with(self, part: Part) -> Self {
        Self { part, ..self }
    }

    pub(super) fn base(self) -> Self {
        Self { part: self.part.base(), ..self }
    }

    /// Every site of a model, in the order of the data flow.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Self> {
        let mut all = vec![];
        for (side, layers) in sides(config) {
            let blocks = Part::ALL.iter().filter(|p| p.in_block());
            let (first, last) =
                (Part::ALL[..2].iter(), Part::ALL.iter().filter(|p| !p.in_block()).skip(2));
            let site = |layer, part: &Part| Self { side, layer, part: *part };
            all.extend(first.map(|p| site(0, p)));
            for layer in 0..layers {
                all.extend(blocks.clone().map(|p| site(layer, p)));
            }
            all.extend(last.map(|p| site(0, p)));
        }
        all.retain(|site| site.missing(config).is_none());
        all
    }

    /// Why a model lacks this site, if it does.
    #[must_use]
    pub fn missing(self, config: &Config) -> Option<String> {
        let sides = sides(config);
        let Some((_, layers)) = sides.iter().find(|(side, _)| *side == self.side) else {
            return Some(match self.side {
                Side::Only => {
                    "the model has two stacks: names begin with encoder. or decoder.".into()
                }
                _ => "the model has one stack: names begin with blocks.".into(),
            });
        };
        if self.part.in_block() && self.layer >= *layers {
            return Some(format!("blocks are numbered 0..{layers}"));
        }
        absent(config, self).map(Into::into)
    }

    /// The model has this site.
    ///
    /// # Errors
    /// Its name, and why it would not fire.
    pub fn demand(self, config: &Config, operation: &'static str) -> Result<()> {
        match self.missing(config) {
            None => Ok(()),
            Some(why) => self.silent(operation, &why),
        }
    }

    /// Refuses it.
    pub(super) fn silent(self, operation: &'static str, why: &str) -> Result<()> {
        Err(Error::new(Kind::Input, operation, format!("{self} would not fire: {why}")))
    }

    /// Sizes of its axes, in the order of [`Part::axes`].
    #[must_use]
    pub fn shape(self, config: &Config, size: Sizes) -> Vec<usize> {
        let (t, keys) = match self.side {
            Side::Encoder => (size.s, size.s),
            _ if self.part.crosses() => (size.t, size.s),
            _ => (size.t, size.t),
        };
        let labels = self.part == Part::UnembedOut;
        let pooled = labels && config.output == Output::Sequence;
        let axis = |letter: char| match letter {
            'B' => size.b,
            'T' if pooled => 1,
            'T' => t,
            'S' => keys,
            'C' => config.width,
            'H' => config.heads,
            'K' => config.kv_heads,
            'D' => config.head_width,
            'F' => config.hidden,
            'V' => config.outputs(),
            _ => 1,
        };
        self.part.axes().chars().map(axis).collect()
    }

    /// How it lies in the memory of [`Site::base`].
    pub(super) fn view(self, config: &Config, size: Sizes) -> View {
        let shape = self.shape(config, size);
        let (h, kv, d, f) = (config.heads, config.kv_heads, config.head_width, config.hidden);
        let (row, offset) = match self.part {
            Part::Q | Part::RotQ => (config.qkv_width(), 0),
            Part::K | Part::RotK => (config.qkv_width(), h * d),
            Part::V => (config.qkv_width(), (h + kv) * d),
            Part::CrossK => (2 * kv * d, 0),
            Part::CrossV => (2 * kv * d, kv * d),
            Part::MlpPre if config.gated => (2 * f, 0),
            Part::MlpPreLinear => (2 * f, f),
            _ => (shape[2..].iter().product(), 0),
        };
        let mut strides = vec![1; shape.len()];
        for axis in (2..shape.len().saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1] * shape[axis + 1];
        }
        strides[1] = row;
        strides[0] = row * shape[1];
        View { offset, shape, strides }
    }

    /// As [`Self::view`] where a text grows: it looks at its own keys in a cache of `capacity` positions.
    pub(super) fn grown(self, config: &Config, size: Sizes, capacity: usize) -> View {
        let mut view = self.view(config, size);
        if matches!(self.part, Part::Scores | Part::Pattern) {
            view.shape[3] = capacity;
            view.strides = vec![config.heads * size.t * capacity, size.t * capacity, capacity, 1];
        }
        view
    }
}

/// Sizes of a batch: B rows, T positions, S of the encoder where there are two stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// B.
    pub b: usize,
    /// T.
    pub t: usize,
    /// S of the encoder; 0 where there is one stack.
    pub s: usize,
}

/// How a site's elements lie in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The stack whose output is the model's.
pub(super) fn main_side(config: &Config) -> Side {
    if config.has_source() { Side::Decoder } else { Side::Only }
}

fn sides(config: &Config) -> Vec<(Side, usize)> {
    match config.architecture {
        Architecture::EncoderDecoder => {
            vec![(Side::Encoder, config.layers), (Side::Decoder, config.decoder_layers)]
        }
        _ => vec![(Side::Only, config.layers)],
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (self.part, self.side) {
            (Part::Ln2Scale, Side::Decoder) => "ln3.hook_scale",
            (Part::Ln2Normalized, Side::Decoder) => "ln3.hook_normalized",
            (part, _) => part.name(),
        };
        let prefix = match self.side {
            Side::Only => "",
            Side::Encoder => "encoder.",
            Side::Decoder => "decoder.",
        };
        match (self.part.in_block(), self.side) {
            (true, Side::Only) => write!(f, "blocks.{}.{name}", self.layer),
            (true, _) => write!(f, "{prefix}{}.{name}", self.layer),
            (false, Side::Only) => write!(f, "{name}"),
            (false, _) => match self.part {
                // T5's in TransformerLens.
                Part::LnFinalScale => {
                    write!(f, "{}_final_ln.hook_scale", prefix.trim_end_matches('.'))
                }
                Part::LnFinalNormalized => {
                    write!(f, "{}_final_ln.hook_normalized", prefix.trim_end_matches('.'))
                }
                _ => write!(f, "{prefix}{name}"),
            },
        }
    }
}
