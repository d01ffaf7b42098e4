//! Integrated gradients (Sundararajan, Taly & Yan, "Axiomatic Attribution for Deep Networks", 2017) at any site: the
//! gradient of a metric along the straight way from a baseline to what the run had there.
//!
//! ```text
//! a_i = (x_i - b_i) · mean over k of ∂f/∂x_i at b + (k - ½)/N · (x - b),  k = 1..N       (midpoint rule)
//! Σ a_i → f(x) - f(b)                                                                   (completeness)
//! ```

use super::metric::Metric;
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::config::Output;
use crate::model::edit::{Pick, Region};
use crate::model::observer::{End, Observer, Text};
use crate::model::site::{Site, Sizes};
use crate::model::watch::Watch;
use crate::ops::tap::Change;

/// Positions that go through the layers together.
const TOKENS: usize = 1024;

/// A metric shared out among a site's elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    /// Of the picked elements, row-major.
    pub(super) shares: Vec<f64>,
    /// The metric of the unchanged text.
    pub(super) value: f64,
    /// With the baseline in its place.
    pub(super) baseline: f64,
}

/// Where something is attributed, in a text of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) operation: &'static str,
    pub(super) ids: &'a [i32],
    pub(super) metric: &'a Metric,
    pub(super) site: Site,
    /// One position; none: all.
    pub(super) position: Option<usize>,
}

impl At<'_> {
    fn region(&self, row: usize) -> Region {
        let rows = Pick::one(row);
        Region::of(match self.position {
            Some(p) => vec![rows, Pick::one(p)],
            None => vec![rows],
        })
    }

    /// The picked elements of row `row` of `b`.
    fn pick<'v>(&self, all: &'v [f32], row: usize, b: usize) -> &'v [f32] {
        let each = all.len() / b;
        let all = &all[row * each..][..each];
        match self.position {
            Some(p) => &all[p * (each / self.ids.len())..][..each / self.ids.len()],
            None => all,
        }
    }

    fn check(&self) -> Result<()> {
        let t = self.ids.len();
        if t > 0 && self.position.is_none_or(|p| p < t) {
            return Ok(());
        }
        let message = format!("position {:?} of a text of {t} tokens", self.position);
        Err(Error::new(Kind::Input, self.operation, message))
    }

    /// An observer of `b` copies of the text.
    fn observer(&self, subject: Subject<'_>, b: usize) -> Result<Observer> {
        let site = vec![self.site];
        let watch = Watch { capture: site.clone(), edit: site.clone(), gradient: site };
        let (t, config) = (self.ids.len(), subject.config);
        let sizes = Sizes { b, t, s: 0 };
        let mut observer =
            Observer::new(config, sizes, watch, End::Objective, subject.pool.threads())?;
        let each = if config.output == Output::Sequence { 1 } else { t };
        observer.ask((0..b).flat_map(|r| self.metric.terms((r + 1) * each - 1)).collect());
        Ok(observer)
    }

    fn run(&self, subject: Subject<'_>, observer: &mut Observer) -> Result<Vec<f64>> {
        let ids = self.ids.repeat(observer.sizes().b);
        observer.run(subject.pool, subject.weights, Text::of(&ids))?;
        let answers = observer.answers();
        Ok(match self.metric {
            Metric::Difference { .. } => answers.chunks_exact(2).map(|a| a[0] - a[1]).collect(),
            Metric::Probability(_) => answers.iter().map(|a| a.exp()).collect(),
            Metric::LogProbability(_) => answers,
        })
    }

    /// What a row's gradient is multiplied by: of a probability the objective is the logarithm.
    fn slope(&self, value: f64) -> f64 {
        if matches!(self.metric, Metric::Probability(_)) { value } else { 1.0 }
    }
}

/// Gradient · value at the picked elements, and the metric.
///
/// # Errors
/// A position outside the text; ids or a site that do not exist.
pub(super) fn gradient_times_value(subject: Subject<'_>, at: At<'_>) -> Result<(Vec<f64>, f64)> {
    at.check()?;
    let mut observer = at.observer(subject, 1)?;
    let value = at.run(subject, &mut observer)?[0];
    let (x, g) = (observer.read(at.site)?, observer.gradient(at.site)?);
    let product = |(x, g): (&f32, &f32)| at.slope(value) * f64::from(*x) * f64::from(*g);
    Ok((at.pick(&x, 0, 1).iter().zip(at.pick(&g, 0, 1)).map(product).collect(), value))
}

/// Integrated gradients in `steps` steps from `baseline`: as many values as are picked, or as their last axis has;
/// none: zeros.
///
/// # Errors
/// As [`gradient_times_value`]; no steps; a baseline of another size.
pub(super) fn integrate(
    subject: Subject<'_>,
    at: At<'_>,
    baseline: Option<&[f32]>,
    steps: usize,
) -> Result<Path> {
    at.check()?;
    let mut observer = at.observer(subject, 1)?;
    let value = at.run(subject, &mut observer)?[0];
    let x = at.pick(&observer.read(at.site)?, 0, 1).to_vec();
    let width = x.len() / if at.position.is_some() { 1 } else { at.ids.len() };
    let zero = [0.0];
    let from = baseline.unwrap_or(&zero);
    let fits = baseline.is_none() || from.len() == x.len() || from.len() == width;
    if steps == 0 || !fits {
        let message = format!("{steps} steps, a baseline of {} values", from.len());
        return Err(Error::new(Kind::Input, at.operation, message)
            .hint(format!("at least 1 step, and {width} or {} values", x.len())));
    }
    let from: Vec<f32> = from.iter().copied().cycle().take(x.len()).collect();
    let put = |observer: &mut Observer, row: usize, way: f64| {
        let mix =
            |(b, x): (&f32, &f32)| (f64::from(*b) + way * (f64::from(*x) - f64::from(*b))) as f32;
        let values: Vec<f32> = from.iter().zip(&x).map(mix).collect();
        observer.change(at.site, &at.region(row), &Change::Set(values.into()))
    };
    put(&mut observer, 0, 0.0)?;
    let baseline = at.run(subject, &mut observer)?[0];
    let b = (TOKENS / at.ids.len()).clamp(1, steps);
    let mut observer = at.observer(subject, b)?;
    let mut shares = vec![0.0; x.len()];
    for first in (0..steps).step_by(b) {
        observer.clear();
        for row in 0..b {
            // Rows beyond the last step repeat it and are not counted.
            let step = (first + row).min(steps - 1);
            put(&mut observer, row, (step as f64 + 0.5) / steps as f64)?;
        }
        let values = at.run(subject, &mut observer)?;
        let gradient = observer.gradient(at.site)?;
        for row in 0..b.min(steps - first) {
            let scale = at.slope(values[row]) / steps as f64;
            let gradient = at.pick(&gradient, row, b);
            shares.iter_mut().zip(gradient).for_each(|(s, &g)| *s += scale * f64::from(g));
        }
    }
    for (share, (x, b)) in shares.iter_mut().zip(x.iter().zip(&from)) {
        *share *= f64::from(*x) - f64::from(*b);
    }
    Ok(Path { shares, value, baseline })
}
