//! A rank-one edit of a stored fact (ROME, Meng et al. 2022): the feed-forward's second matrix is an associative memory
//! from keys (neurons at the subject's last token) to values; one key gets another value.
//!
//! ```text
//! k   the neurons at the subject's last token
//! v   what the feed-forward should write there, found by gradient: v = W k + δ, δ = argmax log P(answer)
//! W' = W + (v - W k) (C⁻¹ k)ᵀ / (kᵀ C⁻¹ k)       C = mean of k kᵀ over ordinary text: what must not move
//! ```

use super::solve::Positive;
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::edit::{Pick, Region};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;
use crate::model::weights::Weights;
use crate::ops::objective::{Of, Term};
use crate::ops::tap::Change;

/// How a fact is rewritten.
#[derive(Clone, Debug, PartialEq)]
pub struct FactEdit {
    /// The block whose feed-forward is edited.
    pub layer: usize,
    /// Prompts, each with the subject's last position; the first is the fact, others say it otherwise.
    pub prompts: Vec<(Vec<i32>, usize)>,
    /// What should follow them.
    pub answer: Vec<i32>,
    /// Steps of the search for the value.
    pub steps: usize,
    /// Of each step.
    pub rate: f32,
    /// How much the value's length is held down, relative to that of what was written.
    pub decay: f32,
}

/// What was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Edited {
    /// Mean log-probability of the answer before, with the value put in, and with the edited matrix.
    pub log_probability: [f64; 3],
    /// Length of the change of the matrix, and of the matrix (Frobenius).
    pub change: (f64, f64),
}

/// Second moments of a block's neurons, (F, F), over rows of text: at all positions, or at each row's last alone.
///
/// # Errors
/// A model without feed-forwards; ids outside the vocabulary.
pub fn moments(
    subject: Subject<'_>,
    layer: usize,
    rows: &[Vec<i32>],
    last: bool,
) -> Result<Vec<f64>> {
    let f = subject.config.hidden;
    let site = Site::block(layer, Part::MlpPost);
    let (mut sum, mut n) = (vec![0.0f64; f * f], 0usize);
    for ids in rows {
        let seen = subject.observe(Text::of(ids), 1, &[site])?;
        let from = if last { ids.len() - 1 } else { 0 };
        for key in seen.read(site)?.chunks_exact(f).skip(from) {
            n += 1;
            for (i, &a) in key.iter().enumerate().filter(|(_, a)| **a != 0.0) {
                let row = &mut sum[i * f..][..f];
                row.iter_mut().zip(key).for_each(|(s, &b)| *s += f64::from(a) * f64::from(b));
            }
        }
    }
    sum.iter_mut().for_each(|s| *s /= n.max(1) as f64);
    Ok(sum)
}

/// Edits `weights` in place; `moments` are of the same block.
///
/// # Errors
/// Prompts or an answer without tokens; a block that the model lacks; moments of another size or not invertible. The
/// weights are then as before.
pub fn edit(subject: Subject<'_>, edit: &FactEdit, moments: &[f64]) -> Result<(Weights, Edited)> {
    let f = subject.config.hidden;
    let site = Site::block(edit.layer, Part::MlpPost);
    site.demand(subject.config, "edit fact")?;
    let empty = edit.answer.is_empty() || edit.prompts.is_empty();
    if empty || edit.prompts.iter().any(|(ids, at)| *at >= ids.len()) || moments.len() != f * f {
        let message =
            "prompts, an answer, a subject inside each prompt and moments (F, F) are needed";
        return Err(Error::new(Kind::Input, "edit fact", message));
    }
    let mut key = vec![0.0f64; f];
    for (ids, at) in &edit.prompts {
        let seen = subject.observe(Text::of(ids), 1, &[site])?;
        let row = seen.read(site)?;
        let share = 1.0 / edit.prompts.len() as f64;
        key.iter_mut().zip(&row[at * f..]).for_each(|(k, &x)| *k += share * f64::from(x));
    }
    let (delta, before, with_value) = find_value(subject, edit)?;
    let solved = solved_for(moments, &key)?;
    let scale: f64 = key.iter().zip(&solved).map(|(k, s)| k * s).sum();
    if !(scale > 0.0) {
        let message = format!("kᵀ C⁻¹ k = {scale}, but it must be above 0");
        return Err(Error::new(Kind::Numeric, "edit fact", message)
            .hint("the neurons are silent at the subject: choose another block"));
    }
    let name = format!("blocks.{}.mlp.out.weight", edit.layer);
    let mut weights = subject.weights.clone();
    let mut change = (0.0f64, 0.0f64);
    for (row, d) in weights.get_mut(&name)?.chunks_exact_mut(f).zip(&delta) {
        for (w, s) in row.iter_mut().zip(&solved) {
            let step = f64::from(*d) * s / scale;
            change = (change.0 + step * step, change.1 + f64::from(*w).powi(2));
            *w = (f64::from(*w) + step) as f32;
        }
    }
    let after = answer_log_probability(Subject { weights: &weights, ..subject }, edit)?;
    let change = (change.0.sqrt(), change.1.sqrt());
    Ok((weights, Edited { log_probability: [before, with_value, after], change }))
}

/// One prompt with its answer, ready to be run.
struct Asked {
    observer: Observer,
    ids: Vec<i32>,
    at: usize,
}

fn asked(subject: Subject<'_>, edit: &FactEdit) -> Result<Vec<Asked>> {
    let site = Site::block(edit.layer, Part::MlpOut);
    let watch = || Watch { edit: vec![site], gradient: vec![site], capture: vec![site] };
    let mut all = vec![];
    for (prompt, at) in &edit.prompts {
        let mut ids = prompt.clone();
        ids.extend(&edit.answer[..edit.answer.len() - 1]);
        let sizes = subject.sizes(&Text::of(&ids), 1);
        let threads = subject.pool.threads();
        let mut observer = Observer::new(subject.config, sizes, watch(), End::Objective, threads)?;
        let first = prompt.len() - 1;
        let term = |(i, &id): (usize, &i32)| Term {
            row: first + i,
            id: id as usize,
            of: Of::LogProbability,
            weight: 1.0,
        };
        observer.ask(edit.answer.iter().enumerate().map(term).collect());
        all.push(Asked { observer, ids, at: *at });
    }
    Ok(all)
}

/// Mean log-probability of the whole answer.
fn answer_log_probability(subject: Subject<'_>, edit: &FactEdit) -> Result<f64> {
    let mut all = asked(subject, edit)?;
    let n = all.len() as f64;
    let mut sum = 0.0;
    for a in &mut all {
        a.observer.run(subject.pool, subject.weights, Text::of(&a.ids))?;
        sum += a.observer.answers().iter().sum::<f64>() / n;
    }
    Ok(sum)
}

/// The value's difference (C) by Adam, and the answer's mean log-probability without and with it.
fn find_value(subject: Subject<'_>, edit: &FactEdit) -> Result<(Vec<f32>, f64, f64)> {
    let c = subject.config.width;
    let site = Site::block(edit.layer, Part::MlpOut);
    let mut all = asked(subject, edit)?;
    let (mut delta, mut m, mut v) = (vec![0.0f32; c], vec![0.0f32; c], vec![0.0f32; c]);
    let (mut first, mut best, mut written) = (0.0, (f64::NEG_INFINITY, delta.clone()), 0.0f32);
    for step in 0..=edit.steps {
        let (mut gradient, mut value) = (vec![0.0f32; c], 0.0);
        let share = 1.0 / all.len() as f32;
        for a in &mut all {
            a.observer.clear();
            let region = Region::of([Pick::one(0), Pick::one(a.at)]);
            a.observer.change(site, &region, &Change::Add(delta.clone().into()))?;
            a.observer.run(subject.pool, subject.weights, Text::of(&a.ids))?;
            value += f64::from(share) * a.observer.answers().iter().sum::<f64>();
            let all = a.observer.gradient(site)?;
            gradient.iter_mut().zip(&all[a.at * c..]).for_each(|(g, x)| *g += share * x);
            if step == 0 {
                let row = &a.observer.read(site)?[a.at * c..][..c];
                written = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            }
        }
        if step == 0 {
            first = value;
        }
        if value > best.0 {
            best = (value, delta.clone());
        }
        // Held down relative to what the feed-forward writes there.
        let hold = edit.decay / written.powi(2).max(1e-12);
        let (b1, b2) = (0.9f32, 0.999f32);
        let (c1, c2) = (1.0 - b1.powi(step as i32 + 1), 1.0 - b2.powi(step as i32 + 1));
        for i in 0..c {
            let g = -gradient[i] + hold * delta[i];
            m[i] = b1 * m[i] + (1.0 - b1) * g;
            v[i] = b2 * v[i] + (1.0 - b2) * g * g;
            delta[i] -= edit.rate * (m[i] / c1) / ((v[i] / c2).sqrt() + 1e-8);
        }
    }
    Ok((best.1, first, best.0))
}

/// `x` with `C x = k`, C (F, F), to whose diagonal a thousandth of its mean is added.
fn solved_for(moments: &[f64], key: &[f64]) -> Result<Vec<f64>> {
    let f = key.len();
    let mean = (0..f).map(|i| moments[i * f + i]).sum::<f64>() / f as f64;
    let mut c = moments.to_vec();
    (0..f).for_each(|i| c[i * f + i] += 1e-3 * mean + 1e-12);
    let c = Positive::of(&c, f).ok_or_else(|| {
        Error::new(Kind::Numeric, "edit fact", "second moments are not positive")
            .hint("take them over more text")
    })?;
    let mut x = key.to_vec();
    c.solve(&mut x);
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved() {
        let c = [4.0, 1.0, 1.0, 3.0];
        let x = solved_for(&c, &[1.0, 2.0]).unwrap();
        let back = [4.0 * x[0] + x[1], x[0] + 3.0 * x[1]];
        assert!((back[0] - 1.0).abs() < 2e-3 && (back[1] - 2.0).abs() < 4e-3, "{back:?}");
        assert!(solved_for(&[-1.0, 0.0, 0.0, 1.0], &[1.0, 1.0]).is_err());
    }
}
