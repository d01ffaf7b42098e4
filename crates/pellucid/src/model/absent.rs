//! Sites that a model of certain choices does not have.

use super::config::{Config, Core, NormKind, NormPlacement, Output, Positions};
use super::site::{Part, Side, Site};

/// What a model of these choices does not compute, and why.
pub(super) fn absent(config: &Config, site: Site) -> Option<&'static str> {
    let part = site.part;
    let waves =
        [Positions::Sinusoidal, Positions::SinusoidalHalved, Positions::SinusoidalTensor2tensor];
    if config.core == Core::Lstm {
        let has =
            matches!(part, Part::Embed | Part::ResidPost | Part::UnembedIn | Part::UnembedOut);
        return (!has || part == Part::UnembedOut && site.side == Side::Encoder)
            .then_some("an LSTM has no such part: it has hook_embed, hook_resid_post and unembed");
    }
    let name = part.name();
    let norm = name.ends_with("hook_scale") || name.ends_with("hook_normalized");
    let mlp = name.starts_with("mlp.")
        || matches!(part, Part::MlpOut | Part::Ln2Scale | Part::Ln2Normalized);
    match part {
        Part::PosEmbed
            if config.positions != Positions::Learned && !waves.contains(&config.positions) =>
        {
            Some("positions are told apart inside attention, or not at all")
        }
        Part::RotQ | Part::RotK if config.positions != Positions::Rotary => {
            Some("the model does not rotate queries and keys")
        }
        _ if part.crosses() && site.side != Side::Decoder => Some("this stack looks at no other"),
        Part::MlpPreLinear if !config.gated => Some("the feed-forward is not gated"),
        Part::NormalizedResidPost | Part::LnFinalScale | Part::LnFinalNormalized
            if (config.norm_placement == NormPlacement::Post)
                != (part == Part::NormalizedResidPost) =>
        {
            Some(
                "the norm stands elsewhere: pre-norm models end in ln_final, post-norm blocks in their own",
            )
        }
        _ if norm && config.norm == NormKind::None => Some("the model normalises nothing"),
        _ if mlp && !config.has_feed_forward() => Some("the model has attention alone"),
        Part::NormalizedResidPost if !config.has_feed_forward() => {
            Some("the model has attention alone")
        }
        Part::UnembedOut if site.side == Side::Encoder => {
            Some("an encoder beside a decoder scores nothing")
        }
        Part::UnembedOut if config.output == Output::Vectors => Some("the model has no head"),
        _ => None,
    }
}
