//! What the next token becomes when something inside is changed.

use super::{Glass, Read, fault};
use pellucid::error::Result;
use pellucid::lens::{logit_lens, names};
use pellucid::model::edit::{Pick, Region};
use pellucid::model::observer::{End, Observer};
use pellucid::model::site::Site;
use pellucid::model::watch::Watch;
use pellucid::ops::tap::Change as Becomes;
use pellucid_server::inside::{Answer, Change, Edit, Effect, Fault, How, Prompt};

/// Tokens that are shown.
const SHOWN: usize = 12;

pub(super) fn effect(
    glass: &Glass,
    prompt: &Prompt,
    edits: &[Edit],
    position: usize,
) -> Answer<Effect> {
    let read = glass.read(prompt)?;
    let (t, v) = (read.ids.len(), glass.model.config.vocab);
    let end = Site::logits(&glass.model.config);
    if position >= t {
        return Err(Fault::input(format!("position {position}, but the text has {t} tokens")));
    }
    let plain = glass.subject().observe(read.text(), 1, &[end]).and_then(|o| o.read(end));
    let plain = plain.map_err(|e| fault(&e))?;
    let changed = changed(glass, prompt, &read, edits)?;
    let row = |all: &[f32]| -> Answer<Vec<(u32, f32)>> {
        let row = all.get(position * v..(position + 1) * v);
        let row = row.ok_or_else(|| Fault::missing("the model scores no tokens"))?;
        logit_lens::top(row, v).map_err(|e| fault(&e))
    };
    let (before, after) = (row(&plain)?, row(&changed)?);
    let probability = |all: &[(u32, f32)]| {
        let mut by_id = vec![0.0f32; v];
        all.iter().for_each(|&(id, p)| by_id[id as usize] = p);
        by_id
    };
    let (p, q) = (probability(&before), probability(&after));
    let mut ids: Vec<u32> = vec![];
    for (a, b) in before.iter().zip(&after).take(SHOWN) {
        for id in [a.0, b.0] {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    ids.sort_by(|a, b| p[*b as usize].total_cmp(&p[*a as usize]).then(a.cmp(b)));
    let mut rows = vec![];
    for id in ids {
        let text = glass.token(id)?.text;
        rows.push(Change { id, text, before: p[id as usize], after: q[id as usize] });
    }
    let term = |(p, q): (&f32, &f32)| match *p > 0.0 {
        true => f64::from(*p) * (f64::from(*p).ln() - f64::from(q.max(f32::MIN_POSITIVE)).ln()),
        false => 0.0,
    };
    let divergence = p.iter().zip(&q).map(term).sum::<f64>().max(0.0) as f32;
    Ok(Effect { position, rows, divergence })
}

/// Scores (T, V) of the changed run.
fn changed(glass: &Glass, prompt: &Prompt, read: &Read, edits: &[Edit]) -> Answer<Vec<f32>> {
    let (config, subject) = (&glass.model.config, glass.subject());
    let end = Site::logits(config);
    let mut sites = vec![];
    for edit in edits {
        sites.push(names::find_one(config, &edit.site).map_err(|e| fault(&e))?);
    }
    let watch = Watch { capture: vec![end], edit: sites.clone(), ..Watch::default() };
    let sizes = subject.sizes(&read.text(), 1);
    let made = Observer::new(config, sizes, watch, End::Sites, glass.pool.threads());
    let mut observer = made.map_err(|e| fault(&e))?;
    for (edit, &site) in edits.iter().zip(&sites) {
        let (region, change) = becomes(glass, prompt, read, edit, site)?;
        observer.change(site, &region, &change).map_err(|e| fault(&e))?;
    }
    let ran = observer.run(&glass.pool, &glass.model.weights, read.text());
    ran.and_then(|()| observer.read(end)).map_err(|e| fault(&e))
}

/// The picked part of a site, and what becomes of it.
fn becomes(
    glass: &Glass,
    prompt: &Prompt,
    read: &Read,
    edit: &Edit,
    site: Site,
) -> Answer<(Region, Becomes)> {
    let shape = site.shape(&glass.model.config, glass.subject().sizes(&read.text(), 1));
    let heads = site.part.axes().chars().position(|c| c == 'H' || c == 'K');
    let mut picks = vec![Pick::All; shape.len()];
    if let Some(position) = edit.position {
        let axis = site.part.axes().chars().position(|c| c == 'T').unwrap_or(1);
        picks[axis] = Pick::one(position);
    }
    match (edit.head, heads) {
        (Some(head), Some(axis)) => picks[axis] = Pick::one(head),
        (Some(head), None) => {
            return Err(Fault::input(format!("{site} has no heads, so not head {head}")));
        }
        (None, _) => {}
    }
    let capture = |read: &Read| -> Result<Vec<f32>> {
        glass.subject().observe(read.text(), 1, &[site])?.read(site)
    };
    let values = match edit.how {
        How::Zero => return Ok((Region(picks), Becomes::Fill(0.0))),
        How::Scale => {
            let factor = edit.factor.filter(|f| f.is_finite());
            let factor = factor.ok_or_else(|| Fault::input("by which number to scale?"))?;
            return Ok((Region(picks), Becomes::Scale(factor)));
        }
        How::Mean => {
            let values = capture(read).map_err(|e| fault(&e))?;
            let width: usize = shape[2..].iter().product();
            let n = values.len() / width;
            let mean: Vec<f32> = (0..width)
                .map(|i| values.iter().skip(i).step_by(width).sum::<f32>() / n as f32)
                .collect();
            mean.repeat(n)
        }
        How::Patch => {
            let other = other(glass, prompt, read, edit)?;
            capture(&other).map_err(|e| fault(&e))?
        }
    };
    let region = Region(picks);
    let picked = region.take(&shape, &values).map_err(|e| fault(&e))?;
    Ok((region, Becomes::Set(picked.into())))
}

/// What is patched from: as many tokens, so that positions are the same.
fn other(glass: &Glass, prompt: &Prompt, read: &Read, edit: &Edit) -> Answer<Read> {
    if edit.text.is_none() && edit.source.is_none() {
        return Err(Fault::input("which text to patch from?"));
    }
    let own = |other: &Option<String>, own: &str| other.clone().unwrap_or(own.into());
    let text = own(&edit.text, &prompt.text);
    let other = glass.read(&Prompt { text, source: own(&edit.source, &prompt.source) })?;
    let pairs = [("text", &read.ids, &other.ids), ("source", &read.source, &other.source)];
    for (name, here, there) in pairs {
        let (a, b) = (here.len(), there.len());
        if a != b {
            let message = format!(
                "the {name} has {a} tokens, the one to patch from {b}; they must be as many"
            );
            return Err(Fault::input(message));
        }
    }
    Ok(other)
}
