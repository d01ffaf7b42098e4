//! The stream at each depth, and a score as what components wrote.

use super::{Glass, fault};
use pellucid::error::Result;
use pellucid::lens::attribution::{Grain, attribute};
use pellucid::lens::logit_lens;
use pellucid::model::config::{NormPlacement, Output};
use pellucid::model::readout::Readout;
use pellucid::model::site::{Part, Site};
use pellucid_server::inside::{
    Answer, Attribution, Fault, Guess, Lens, Part as Share, Prompt, Whose,
};
use std::ops::Range;

pub(super) fn lens(
    glass: &Glass,
    prompt: &Prompt,
    positions: Range<usize>,
    k: usize,
) -> Answer<Lens> {
    let config = &glass.model.config;
    if config.output != Output::Tokens {
        return Err(Fault::missing("the model scores no tokens, so its stream says none"));
    }
    let read = glass.read(prompt)?;
    let t = read.ids.len();
    if positions.is_empty() || positions.end > t {
        return Err(Fault::input(format!("positions {positions:?}, but the text has {t} tokens")));
    }
    let end = Site::logits(config);
    let after = match config.norm_placement {
        NormPlacement::Pre => Part::ResidPost,
        NormPlacement::Post => Part::NormalizedResidPost,
    };
    let mut sites = vec![Site::resid_pre(config, 0)];
    sites.extend((0..config.blocks_that_generate()).map(|layer| Site {
        layer,
        part: after,
        ..end
    }));
    let seen = glass.subject().observe(read.text(), 1, &sites).map_err(|e| fault(&e))?;
    let mut readout = Readout::new(config, false, glass.pool.threads()).map_err(|e| fault(&e))?;
    let (mut depths, mut cells) = (vec![], vec![]);
    for (depth, &site) in sites.iter().enumerate() {
        depths.push(match depth {
            0 => "embedding".into(),
            _ => format!("layer {}", depth - 1),
        });
        let width = config.width;
        let rows = (|| -> Result<Vec<f32>> {
            let stream = seen.read(site)?;
            let some = &stream[positions.start * width..positions.end * width];
            readout.read(&glass.pool, &glass.model.weights, some)
        })();
        let rows = rows.map_err(|e| fault(&e))?;
        let of = |row: &[f32]| guesses(glass, row, k);
        cells.push(rows.chunks_exact(config.vocab).map(of).collect::<Answer<_>>()?);
    }
    Ok(Lens { from: positions.start, depths, cells })
}

/// The `k` best of a row of scores.
fn guesses(glass: &Glass, row: &[f32], k: usize) -> Answer<Vec<Guess>> {
    let best = logit_lens::top(row, k).map_err(|e| fault(&e))?;
    best.into_iter().map(|(id, probability)| guess(glass, row, id, probability)).collect()
}

fn guess(glass: &Glass, row: &[f32], id: u32, probability: f32) -> Answer<Guess> {
    let text = glass.token(id)?.text;
    Ok(Guess { id, text, logit: row[id as usize], probability })
}

pub(super) fn attribution(glass: &Glass, prompt: &Prompt, whose: &Whose) -> Answer<Attribution> {
    let config = &glass.model.config;
    let read = glass.read(prompt)?;
    let (t, v, position) = (read.ids.len(), config.vocab, whose.position);
    if position >= t {
        return Err(Fault::input(format!("position {position}, but the text has {t} tokens")));
    }
    let end = Site::logits(config);
    let seen = glass.subject().observe(read.text(), 1, &[end]).map_err(|e| fault(&e))?;
    let scores = seen.read(end).map_err(|e| fault(&e))?;
    let row = scores.get(position * v..(position + 1) * v).ok_or_else(|| {
        Fault::missing("the model scores no tokens, so there is no score to take apart")
    })?;
    let all = logit_lens::top(row, v).map_err(|e| fault(&e))?;
    let named = |id: u32| match all.iter().find(|(other, _)| *other == id) {
        Some(&(id, p)) => guess(glass, row, id, p),
        None => Err(Fault::input(format!("token {id}, but ids are 0..{v}"))),
    };
    let token = named(whose.token.unwrap_or(all[0].0))?;
    let against = whose.against.map(named).transpose()?;
    let mut direction = vec![(token.id, 1.0)];
    direction.extend(against.iter().map(|g| (g.id, -1.0)));
    let of = |grain| {
        attribute(glass.subject(), read.text(), position, &direction, grain).map_err(|e| fault(&e))
    };
    let two = config.has_source();
    let sum = of(Grain::Sublayers)?;
    let parts: Vec<Share> = sum.shares.iter().map(|s| share(two, &s.component, s.value)).collect();
    let heads = match whose.layer {
        None => vec![],
        Some(layer) => {
            let all = of(Grain::Heads)?.shares;
            let inner = all.iter().filter(|s| s.component.contains(' '));
            let heads = inner.map(|s| share(two, &s.component, s.value));
            heads.filter(|s| s.layer == Some(layer)).collect()
        }
    };
    let note = "The last norm's divisor is held as it was; what a component does through later ones is not counted.";
    let (total, layer, note) = (sum.sum() as f32, whose.layer, note.into());
    Ok(Attribution { position, token, against, total, parts, layer, heads, note })
}

/// `decoder.blocks.3.attn head 2` as the page has it.
fn share(two: bool, component: &str, value: f64) -> Share {
    let words: Vec<&str> = component.split(' ').collect();
    let places: Vec<&str> = words[0].trim_start_matches("decoder.").split('.').collect();
    let layer = places.get(1).and_then(|l| l.parse::<usize>().ok());
    let head: Option<usize> = match words[..] {
        [_, "head", head] => head.parse().ok(),
        _ => None,
    };
    let inner = words.get(1).is_some();
    let side = if two { "decoder" } else { "blocks" };
    let kind = places.get(2).copied().unwrap_or_default();
    let label = match (layer, kind) {
        (Some(_), "attn") if inner => words[1..].join(" "),
        (Some(_), "cross") if inner => format!("cross {}", words[1..].join(" ")),
        (Some(l), "attn") => format!("attention {l}"),
        (Some(l), "cross") => format!("cross {l}"),
        (Some(l), "mlp") => format!("MLP {l}"),
        _ => component.to_owned(),
    };
    let site = match (layer, kind) {
        (Some(l), "attn") => format!("{side}.{l}.hook_attn_out"),
        (Some(l), "cross") => format!("{side}.{l}.hook_cross_attn_out"),
        (Some(l), "mlp") => format!("{side}.{l}.hook_mlp_out"),
        _ if component == "biases" => String::new(),
        _ => format!("{}hook_embed", if side == "decoder" { "decoder." } else { "" }),
    };
    Share { label, site, layer, head, value: value as f32 }
}
