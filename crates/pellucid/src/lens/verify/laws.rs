//! The laws, one function each.

use super::{Case, Outcome};
use crate::error::{Kind, Result};
use crate::lens::attribution::{Grain, attribute};
use crate::lens::patching::{Grid, patch};
use crate::lens::path_patching::{Sender, path_patch, receivers};
use crate::lens::rollout::rollout;
use crate::lens::subject::Subject;
use crate::lens::sweep::{Cell, Patch, Sweep};
use crate::model::config::{Architecture, Core, NormPlacement};
use crate::model::decoder::Decoder;
use crate::model::edit::{Pick, Region};
use crate::model::observer::{End, Observer};
use crate::model::readout::Readout;
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;
use crate::ops::tap::Change;

pub(super) fn measured(error: f64, limit: f64) -> Result<Outcome> {
    Ok(Outcome::Measured { error, limit })
}

pub(super) fn does_not_apply(why: impl Into<String>) -> Result<Outcome> {
    Ok(Outcome::DoesNotApply(why.into()))
}

/// The larger of two errors; a NaN wins.
pub(super) fn worse(a: f64, b: f64) -> f64 {
    if b <= a { a } else { b }
}

/// Largest difference over the largest magnitude of `want` (at least `floor`); NaN if anything is. Equal infinities
/// differ by nothing.
fn error(got: impl IntoIterator<Item = f64>, want: &[f32], floor: f64) -> f64 {
    let large = want.iter().filter(|w| w.is_finite()).fold(floor, |m, w| m.max(f64::from(w.abs())));
    let (mut worst, mut n) = (0.0f64, 0);
    for (g, &w) in got.into_iter().zip(want) {
        n += 1;
        let w = f64::from(w);
        let e = if g == w { 0.0 } else { (g - w).abs() / large };
        worst = worse(worst, e);
        if worst.is_nan() {
            return worst;
        }
    }
    if n == want.len() { worst } else { f64::NAN }
}

fn wide(x: &[f32]) -> impl Iterator<Item = f64> + '_ {
    x.iter().map(|&x| f64::from(x))
}

/// 0 where all bits are equal.
fn bits(a: &[f32], b: &[f32]) -> f64 {
    let differ = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    if a.len() == b.len() { differ as f64 } else { f64::NAN }
}

pub(super) fn looking(case: &Case<'_>) -> Result<Outcome> {
    let (plain, seen) = (case.observe(&[case.end])?, case.observe(&case.sites())?);
    measured(bits(&plain.read(case.end)?, &seen.read(case.end)?), 0.0)
}

pub(super) fn firing(case: &Case<'_>) -> Result<Outcome> {
    let receipts = case.observe(&case.sites())?.receipts()?;
    let wrong = receipts.iter().filter(|r| r.fired != 1 || !r.norm.is_some_and(f64::is_finite));
    measured(wrong.count() as f64 + case.sites().len().abs_diff(receipts.len()) as f64, 0.0)
}

pub(super) fn sums(case: &Case<'_>) -> Result<Outcome> {
    if case.subject.config.core == Core::Lstm {
        return does_not_apply("an LSTM has no stream that is added to");
    }
    let seen = case.observe(&case.sites())?;
    let post = case.subject.config.norm_placement == NormPlacement::Post;
    let mut worst = 0.0f64;
    for layer in 0..case.layers() {
        let read = |part| seen.read(case.block(layer, part));
        let mut before = read(Part::ResidPre)?;
        for (out, after) in [
            (Part::AttnOut, Part::ResidMid),
            (Part::CrossOut, Part::ResidMidCross),
            (Part::MlpOut, Part::ResidPost),
        ] {
            if case.block(layer, out).missing(case.subject.config).is_some() {
                continue;
            }
            let (written, stream) = (read(out)?, read(after)?);
            if !post || out == Part::AttnOut {
                let sum = wide(&before).zip(wide(&written)).map(|(a, b)| a + b);
                worst = worst.max(error(sum, &stream, 1e-6));
            }
            before = stream;
        }
        if case.block(layer, Part::Result).missing(case.subject.config).is_none() {
            worst = worst.max(heads(case, &seen, layer)?);
        }
    }
    measured(worst, 1e-5)
}

/// Error of what the heads wrote, added up, against what attention wrote.
fn heads(case: &Case<'_>, seen: &Observer, layer: usize) -> Result<f64> {
    let (h, c) = (case.subject.config.heads, case.subject.config.width);
    let result = seen.read(case.block(layer, Part::Result))?;
    let want = seen.read(case.block(layer, Part::AttnOut))?;
    let stack = if case.subject.config.has_source() { "decoder." } else { "" };
    let bias = case.subject.weights.get(&format!("{stack}blocks.{layer}.attn.out.bias")).ok();
    let sum = result.chunks_exact(h * c).flat_map(|heads| {
        (0..c).map(move |i| {
            let sum: f64 = (0..h).map(|head| f64::from(heads[head * c + i])).sum();
            sum + bias.map_or(0.0, |b| f64::from(b[i]))
        })
    });
    Ok(error(sum, &want, 1e-6))
}

pub(super) fn patterns(case: &Case<'_>) -> Result<Outcome> {
    let config = case.subject.config;
    if !case.has(Part::Pattern) {
        return does_not_apply("there is no attention");
    }
    let parts = [Part::Pattern, Part::V, Part::Z];
    let sites: Vec<Site> =
        (0..case.layers()).flat_map(|l| parts.map(|part| case.block(l, part))).collect();
    let seen = case.observe(&sites)?;
    let (t, h, kv, d) =
        (case.texts.text.ids.len(), config.heads, config.kv_heads, config.head_width);
    let causal = config.architecture != Architecture::Encoder;
    let mut worst = 0.0f64;
    for layer in 0..case.layers() {
        let [pattern, v, z] = parts.map(|part| seen.read(case.block(layer, part)));
        let (pattern, v, z) = (pattern?, v?, z?);
        let mut read = vec![0.0f64; t * h * d];
        for (i, row) in pattern.chunks_exact(t).enumerate() {
            let (head, q) = (i / t, i % t);
            let ahead =
                if causal { row[q + 1..].iter().map(|p| p.abs()).sum::<f32>() } else { 0.0 };
            worst = worst.max(f64::from(ahead)).max((wide(row).sum::<f64>() - 1.0).abs());
            for (s, p) in wide(row).enumerate() {
                let v = &v[(s * kv + head / (h / kv)) * d..][..d];
                let to = &mut read[(q * h + head) * d..][..d];
                to.iter_mut().zip(wide(v)).for_each(|(to, v)| *to += p * v);
            }
        }
        worst = worst.max(error(read, &z, 1e-6));
    }
    measured(worst, 1e-5)
}

pub(super) fn shares(case: &Case<'_>) -> Result<Outcome> {
    let t = case.texts.text.ids.len();
    let direction = [(0, 1.0), (1, -0.5)];
    match attribute(case.subject, case.texts.text, t - 1, &direction, Grain::Heads) {
        Err(e) if e.kind() == Kind::Config => does_not_apply(e.message()),
        Err(e) => Err(e),
        Ok(found) => {
            let large = found.shares.iter().fold(1.0f64, |m, s| m.max(s.value.abs()));
            measured((found.sum() - found.score).abs() / large, 1e-4)
        }
    }
}

pub(super) fn restores(case: &Case<'_>) -> Result<Outcome> {
    let (pair, metric) = match case.sweepable() {
        Ok(found) => found,
        Err(why) => return does_not_apply(why),
    };
    let (t, config) = (pair.clean.len(), case.subject.config);
    let map = patch(case.subject, pair, &metric, Grid::Positions(Part::ResidPre), &mut ())?;
    let first = pair.clean.iter().zip(pair.corrupted).position(|(a, b)| a != b).unwrap_or(t);
    let large = map.clean.abs().max(map.corrupted.abs()).max(1.0);
    let mut worst = 0.0f64;
    for row in map.values.chunks_exact(t) {
        for value in &row[..first] {
            worst = worst.max((value - map.corrupted).abs() / large);
        }
    }
    let sites: Vec<Site> = (0..config.layers).map(|l| Site::block(l, Part::ResidPre)).collect();
    let clean = case.observe(&sites)?;
    let sweep = Sweep::new(case.subject, pair.corrupted, 1, vec![])?;
    let mut cells = vec![];
    for site in sites {
        let change = Change::Set(clean.read(site)?.into());
        cells.push(Cell { base: 0, patches: vec![Patch { site, region: vec![], change }] });
    }
    sweep.run(&cells, &mut |_, scores| {
        worst = worst.max((metric.of(scores)? - map.clean).abs() / large);
        Ok(())
    })?;
    measured(worst, 1e-4)
}

pub(super) fn own_values(case: &Case<'_>) -> Result<Outcome> {
    let seen = case.observe(&case.sites())?;
    let want = seen.read(case.end)?;
    let mut worst = 0.0f64;
    for site in case.sites() {
        let change = Change::Set(seen.read(site)?.into());
        let got = case.changed(site, &Region::all(), &change)?;
        worst = worst.max(error(wide(&got), &want, 1.0));
    }
    measured(worst, 2e-4)
}

pub(super) fn paths(case: &Case<'_>) -> Result<Outcome> {
    let (pair, metric) = match case.sweepable() {
        Ok(found) => found,
        Err(why) => return does_not_apply(why),
    };
    if case.subject.config.norm_placement == NormPlacement::Post || !case.has(Part::AttnOut) {
        return does_not_apply("post-norm streams and LSTMs are no sum of paths");
    }
    let map = |part| patch(case.subject, pair, &metric, Grid::Heads(part), &mut ());
    let (z, mut worst) = (map(Part::Z)?, 0.0f64);
    let large = z.clean.abs().max(z.corrupted.abs()).max(1.0);
    for layer in 0..case.layers() {
        let sender = Sender::Head(layer, 0);
        let all = receivers(case.subject, sender);
        let got = path_patch(case.subject, pair, &metric, sender, &all)?;
        worst = worst.max((got - z.values[layer * z.columns]).abs() / large);
    }
    measured(worst, 1e-4)
}

pub(super) fn held_patterns(case: &Case<'_>) -> Result<Outcome> {
    if !case.has(Part::Result) {
        return does_not_apply("there are no heads");
    }
    // In the last block nothing but its own feed-forward comes after; the stream after attention shows the head alone.
    let layer = case.layers() - 1;
    let (result, mid) = (case.block(layer, Part::Result), case.block(layer, Part::ResidMid));
    let seen = case.observe(&[result, mid])?;
    let (written, mut want) = (seen.read(result)?, seen.read(mid)?);
    let (h, c) = (case.subject.config.heads, case.subject.config.width);
    for (to, heads) in want.chunks_exact_mut(c).zip(written.chunks_exact(h * c)) {
        to.iter_mut().zip(&heads[(h - 1) * c..]).for_each(|(to, x)| *to -= x);
    }
    let z = case.block(layer, Part::Z);
    let watch = Watch { capture: vec![mid], edit: vec![z], ..Watch::default() };
    let Subject { config, pool, weights } = case.subject;
    let sizes = case.subject.sizes(&case.texts.text, 1);
    let mut observer = Observer::new(config, sizes, watch, End::Sites, pool.threads())?;
    let region = Region::of([Pick::All, Pick::All, Pick::one(h - 1)]);
    observer.change(z, &region, &Change::Fill(0.0))?;
    observer.run(pool, weights, case.texts.text)?;
    measured(error(wide(&observer.read(mid)?), &want, 1e-6), 1e-5)
}

pub(super) fn lens(case: &Case<'_>) -> Result<Outcome> {
    let config = case.subject.config;
    if config.outputs() != config.vocab || case.end.part != Part::UnembedOut {
        return does_not_apply("the model scores no tokens");
    }
    let (site, normalised) = match config.norm_placement {
        NormPlacement::Pre if config.core == Core::Transformer => {
            (case.block(case.layers() - 1, Part::ResidPost), false)
        }
        _ => (case.end.with(Part::UnembedIn), true),
    };
    let seen = case.observe(&[site, case.end])?;
    let mut readout = Readout::new(config, normalised, case.subject.pool.threads())?;
    let got = readout.read(case.subject.pool, case.subject.weights, &seen.read(site)?)?;
    measured(error(wide(&got), &seen.read(case.end)?, 1.0), 1e-4)
}

pub(super) fn cache(case: &Case<'_>) -> Result<Outcome> {
    let config = case.subject.config;
    if case.sweepable().is_err() {
        return does_not_apply("only decoders read with a cache of their own");
    }
    let (ids, v) = (case.texts.text.ids, config.vocab);
    let whole = case.observe(&[case.end])?.read(case.end)?;
    let mut decoder = Decoder::new(config, 1, ids.len(), case.subject.pool.threads())?;
    let mut worst = 0.0f64;
    for (id, want) in ids.iter().zip(whole.chunks_exact(v)) {
        let got = decoder.extend(case.subject.pool, case.subject.weights, &[*id], 1, &[1])?;
        worst = worst.max(error(wide(got), want, 1.0));
    }
    measured(worst, 1e-4)
}

pub(super) fn rolled_out(case: &Case<'_>) -> Result<Outcome> {
    if !case.has(Part::Pattern) || case.subject.config.has_source() {
        return does_not_apply("rollout is of one stack of attention");
    }
    let t = case.texts.text.ids.len();
    let mut worst = 0.0f64;
    for (residual, identity) in [(0.5, false), (1.0, true)] {
        let blocks = match rollout(case.subject, case.texts.text, residual) {
            Err(e) if e.kind() == Kind::Numeric => return measured(f64::NAN, 1e-5),
            other => other?,
        };
        for block in blocks {
            for (i, row) in block.chunks_exact(t).enumerate() {
                let wrong = if identity {
                    row.iter().enumerate().map(|(j, x)| (x - f64::from(i == j)).abs()).sum()
                } else {
                    (row.iter().sum::<f64>() - 1.0).abs()
                };
                worst = worse(worst, wrong);
            }
        }
    }
    measured(worst, 1e-5)
}
