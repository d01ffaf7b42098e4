//! Laws about gradients.

use super::laws::{does_not_apply, measured};
use super::{Case, Outcome};
use crate::error::Result;
use crate::lens::input_attribution::integrated_gradients;
use crate::lens::subject::Subject;
use crate::lens::sweep::{Cell, Patch, Sweep};
use crate::model::config::{Config, Output};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Part, Site};
use crate::model::train_graph::{Batch, IGNORE, RunInfo, TrainGraph, TrainOptions};
use crate::model::watch::Watch;
use crate::ops::tap::Change;

/// Nats beyond which a loss is a wall, not a slope.
const FELT: f32 = 1e4;

pub(super) fn gradients(case: &Case<'_>) -> Result<Outcome> {
    let (pair, metric) = match case.sweepable() {
        Ok(found) => found,
        Err(why) => return does_not_apply(why),
    };
    if !case.has(Part::MlpOut) {
        return does_not_apply("there is no feed-forward to patch");
    }
    let (config, t) = (case.subject.config, pair.clean.len());
    let sites: Vec<Site> = (0..config.layers).map(|l| Site::block(l, Part::MlpOut)).collect();
    let watch = Watch { capture: sites.clone(), gradient: sites.clone(), edit: vec![] };
    let sizes = case.subject.sizes(&Text::of(pair.corrupted), 1);
    let threads = case.subject.pool.threads();
    let mut run = Observer::new(config, sizes, watch, End::Objective, threads)?;
    run.ask(metric.terms(t - 1));
    run.run(case.subject.pool, case.subject.weights, Text::of(pair.corrupted))?;
    let sweep = Sweep::new(case.subject, pair.corrupted, 1, vec![])?;
    let (mut cells, mut slopes) = (vec![], vec![]);
    for site in sites {
        let (gradient, value) = (run.gradient(site)?, run.read(site)?);
        let size = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
        let step = 3e-3 * size(&value).max(1e-3) / size(&gradient).max(1e-12);
        for sign in [1.0, -1.0] {
            let along: Vec<f32> = gradient.iter().map(|g| sign * step * g).collect();
            let change = Change::Add(along.into());
            cells.push(Cell { base: 0, patches: vec![Patch { site, region: vec![], change }] });
        }
        slopes.push(f64::from(step) * f64::from(size(&gradient)).powi(2));
    }
    let mut values = vec![f64::NAN; cells.len()];
    sweep.run(&cells, &mut |cell, scores| {
        values[cell] = metric.of(scores)?;
        Ok(())
    })?;
    let error = |(pair, slope): (&[f64], &f64)| ((pair[0] - pair[1]) / (2.0 * slope) - 1.0).abs();
    let worst = values.chunks_exact(2).zip(&slopes).map(error).fold(0.0f64, f64::max);
    measured(if values.iter().any(|v| v.is_nan()) { f64::NAN } else { worst }, 0.03)
}

pub(super) fn completeness(case: &Case<'_>) -> Result<Outcome> {
    let metric = match case.sweepable() {
        Ok((_, metric)) => metric,
        Err(why) => return does_not_apply(why),
    };
    let ids = case.texts.text.ids;
    // From the other text: a norm jumps where the stream is zero.
    let embed = Site::once(Part::Embed);
    let other = case.subject.observe(case.texts.other, 1, &[embed])?.read(embed)?;
    let missed = |steps: usize| -> Result<(f64, f64)> {
        let found = integrated_gradients(case.subject, ids, &metric, Some(&other), steps)?;
        let change = (found.value - found.baseline.unwrap_or(f64::NAN)).abs();
        Ok((found.completeness_error().unwrap_or(f64::NAN), change))
    };
    // A path of a few steps may miss a curve; with four times as many it must miss far less, or hardly anything.
    let ((few, change), (many, _)) = (missed(16)?, missed(64)?);
    let relative = many / change.max(1.0);
    measured(if many <= 0.5 * few { relative.min(0.05) } else { relative }, 0.05)
}

pub(super) fn training(case: &Case<'_>) -> Result<Outcome> {
    let Subject { config, weights, pool } = case.subject;
    if config.output != Output::Tokens {
        return does_not_apply("only models that score tokens have a loss of the text as it is");
    }
    if config.adapter.is_some() {
        return does_not_apply("factors are trained beside frozen matrices");
    }
    let config = Config { dropout: 0.0, ..config.clone() };
    let text = case.texts.text;
    let (t, s) = (text.ids.len(), text.source.len());
    let mut batch = Batch::of(1, text.ids, case.texts.other.ids);
    if s > 0 {
        batch = batch.with_source(&[text.source])?;
    }
    let options = TrainOptions { source_time: s, ..TrainOptions::new(1, t) };
    let mut graph = TrainGraph::new(&config, options, pool.threads())?;
    let run = RunInfo { training: true, grad_scale: 1.0, ..RunInfo::default() };
    let mut all = vec![0.0f32; weights.data().len()];
    // Words that a model forbids by a score of -1e9 have losses in which no step is felt.
    let (_, losses) = graph.evaluate(pool, weights, &batch)?;
    for (target, loss) in batch.targets.iter_mut().zip(losses) {
        *target = if loss > FELT { IGNORE } else { *target };
    }
    if batch.targets.iter().all(|t| *t == IGNORE) {
        return does_not_apply("the model forbids every token of the text");
    }
    graph.step(pool, weights, &mut all, true, &batch, run)?;
    // What lies between parameters is working memory.
    let mut gradient = vec![0.0f32; all.len()];
    for spec in weights.specs() {
        let (to, from) = (&mut gradient[spec.range()], &all[spec.range()]);
        to.copy_from_slice(from);
        if from.iter().all(|g| *g == 0.0) || from.iter().any(|g| g.is_nan()) {
            return measured(f64::NAN, 0.03);
        }
    }
    #[cfg(test)]
    let gradient = crate::model::lies::told(Site::once(Part::Embed), 0, true, gradient);
    let mut slope = |change: f64| slope(case, &mut graph, &batch, &gradient, change);
    // Losses are rounded to f32: a step must be felt, and not leave the tangent. One of these changes the loss so that
    // it does neither; half of it shows what the curve adds (Richardson 1911).
    let mut best = f64::INFINITY;
    for change in [0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3] {
        let straight = (4.0 * slope(change / 2.0)? - slope(change)?) / 3.0;
        best = best.min((straight - 1.0).abs());
    }
    measured(best, 0.03)
}

/// What the loss does along the gradient, of what the gradient says, when it says that the loss will change so much.
fn slope(
    case: &Case<'_>,
    graph: &mut TrainGraph,
    batch: &Batch,
    gradient: &[f32],
    change: f64,
) -> Result<f64> {
    let Subject { weights, pool, .. } = case.subject;
    let square = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let targets = batch.targets.iter().filter(|t| **t != IGNORE).count() as f64;
    let mut moved = |sign: f64| -> Result<(f64, f64)> {
        let (mut other, mut told) = (weights.clone(), 0.0);
        for (w, g) in other.data_mut().iter_mut().zip(gradient) {
            let (before, g) = (*w, f64::from(*g));
            *w += (sign * change / square * g) as f32;
            // A step is rounded to what a weight can hold: the gradient answers for that one.
            told += g * (f64::from(*w) - f64::from(before));
        }
        let (_, losses) = graph.evaluate(pool, &other, batch)?;
        Ok((losses.iter().map(|l| f64::from(*l)).sum::<f64>() / targets, told))
    };
    let ((up, more), (down, less)) = (moved(1.0)?, moved(-1.0)?);
    Ok((up - down) / (more - less))
}
