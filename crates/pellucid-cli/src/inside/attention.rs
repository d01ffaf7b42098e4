//! Patterns of the text that was asked about last.

use super::{Glass, fault};
use pellucid::error::Result;
use pellucid::model::site::{Part, Side, Site};
use pellucid_server::inside::{Answer, Fault, HeadAt, Pattern, Prompt};

/// Elements of patterns that are kept at once: all blocks where they fit, else one block.
const KEPT: usize = 64 << 20;

/// Patterns (H, T, S) of some blocks of a stack.
pub(super) struct Kept {
    prompt: Prompt,
    stack: String,
    first: usize,
    blocks: Vec<Vec<f32>>,
    queries: usize,
    keys: usize,
}

pub(super) fn pattern(glass: &mut Glass, prompt: &Prompt, at: &HeadAt) -> Answer<Pattern> {
    let config = &glass.model.config;
    let two = config.has_source();
    let found = match (at.stack.as_str(), two) {
        ("text", true) => Some((Side::Decoder, Part::Pattern, config.decoder_layers)),
        ("text", false) => Some((Side::Only, Part::Pattern, config.layers)),
        ("cross", true) => Some((Side::Decoder, Part::CrossPattern, config.decoder_layers)),
        ("source", true) => Some((Side::Encoder, Part::Pattern, config.layers)),
        _ => None,
    };
    let heads = config.heads;
    let Some((side, part, layers)) = found.filter(|f| at.layer < f.2 && at.head < heads) else {
        let HeadAt { stack, layer, head } = at;
        return Err(Fault::input(format!("no head {head} in layer {layer} of {stack:?}")));
    };
    let known = |kept: &Kept| {
        let blocks = kept.first..kept.first + kept.blocks.len();
        kept.prompt == *prompt && kept.stack == at.stack && blocks.contains(&at.layer)
    };
    if !glass.patterns.as_ref().is_some_and(known) {
        glass.patterns = None;
        let kept = keep(glass, prompt, at, (side, part, layers))?;
        glass.patterns = Some(kept);
    }
    let Some(kept) = &glass.patterns else {
        return Err(Fault::input("nothing was computed"));
    };
    let (queries, keys, n) = (kept.queries, kept.keys, kept.queries * kept.keys);
    let weights = kept.blocks[at.layer - kept.first][at.head * n..][..n].to_vec();
    Ok(Pattern { queries, keys, weights })
}

fn keep(
    glass: &Glass,
    prompt: &Prompt,
    at: &HeadAt,
    (side, part, layers): (Side, Part, usize),
) -> Answer<Kept> {
    let read = glass.read(prompt)?;
    let (t, s) = (read.ids.len(), read.source.len());
    let (queries, keys) = match (side, part) {
        (Side::Encoder, _) => (s, s),
        (_, Part::CrossPattern) => (t, s),
        _ => (t, t),
    };
    let fits = layers * glass.model.config.heads * queries * keys <= KEPT;
    let blocks = if fits { 0..layers } else { at.layer..at.layer + 1 };
    let sites: Vec<Site> = blocks.clone().map(|layer| Site { side, layer, part }).collect();
    let blocks = glass
        .subject()
        .observe(read.text(), 1, &sites)
        .and_then(|seen| sites.iter().map(|&site| seen.read(site)).collect::<Result<Vec<_>>>());
    let blocks = blocks.map_err(|e| fault(&e))?;
    let first = sites[0].layer;
    Ok(Kept { prompt: prompt.clone(), stack: at.stack.clone(), first, blocks, queries, keys })
}
