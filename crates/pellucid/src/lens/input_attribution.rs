//! Which tokens an answer hangs on: gradient · input (Shrikumar et al. 2016) and integrated gradients (Sundararajan,
//! Taly & Yan 2017) at the token vectors (`hook_embed`); positions stay as they are.
//!
//! The first asks what an infinitely small step would do, the second follows the whole way from a baseline, so that
//! its shares sum to what the text changed. By how much they miss it is reported: more steps make it smaller.

use super::integrate::{At, Path, gradient_times_value, integrate};
use super::metric::Metric;
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::site::{Part, Site};

/// A metric shared out among the tokens of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct InputAttribution {
    /// Of each token, (T).
    pub tokens: Vec<f64>,
    /// The metric.
    pub value: f64,
    /// The metric with the baseline in place of all token vectors; none where no baseline was run.
    pub baseline: Option<f64>,
}

impl InputAttribution {
    /// How far the shares' sum is from the metric's change; none without a baseline.
    #[must_use]
    pub fn completeness_error(&self) -> Option<f64> {
        let sum: f64 = self.tokens.iter().sum();
        self.baseline.map(|b| (sum - (self.value - b)).abs())
    }
}

fn at<'a>(subject: Subject<'_>, ids: &'a [i32], metric: &'a Metric) -> Result<At<'a>> {
    if subject.config.has_source() {
        let message = "the model reads a source as well: this is asked of models with one stack";
        return Err(Error::new(Kind::Config, "input attribution", message));
    }
    let site = Site::once(Part::Embed);
    Ok(At { operation: "input attribution", ids, metric, site, position: None })
}

fn by_token(shares: &[f64], t: usize) -> Vec<f64> {
    shares.chunks_exact(shares.len() / t).map(|token| token.iter().sum()).collect()
}

/// Gradient · input of each token, for a metric of the scores after the last one.
///
/// # Errors
/// No ids, or such as the vocabulary lacks; a model with two stacks.
pub fn gradient_times_input(
    subject: Subject<'_>,
    ids: &[i32],
    metric: &Metric,
) -> Result<InputAttribution> {
    let (shares, value) = gradient_times_value(subject, at(subject, ids, metric)?)?;
    Ok(InputAttribution { tokens: by_token(&shares, ids.len()), value, baseline: None })
}

/// Integrated gradients of each token in `steps` steps. `baseline` is (T, C), or (C) for every position; none: zeros.
///
/// # Errors
/// As [`gradient_times_input`]; no steps; a baseline of another size.
pub fn integrated_gradients(
    subject: Subject<'_>,
    ids: &[i32],
    metric: &Metric,
    baseline: Option<&[f32]>,
    steps: usize,
) -> Result<InputAttribution> {
    let Path { shares, value, baseline } =
        integrate(subject, at(subject, ids, metric)?, baseline, steps)?;
    let tokens = by_token(&shares, ids.len());
    Ok(InputAttribution { tokens, value, baseline: Some(baseline) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::test_models;
    use crate::model::config::Config;
    use crate::model::edit::Region;
    use crate::model::observer::{End, Observer, Text};
    use crate::model::watch::Watch;
    use crate::ops::tap::Change;

    const IDS: [i32; 5] = [3, 17, 41, 8, 22];

    fn metrics() -> [Metric; 3] {
        [
            Metric::Difference { right: 7, wrong: 9 },
            Metric::Probability(7),
            Metric::LogProbability(7),
        ]
    }

    #[test]
    fn shares_sum_to_the_change_and_more_steps_miss_less() {
        let pool = Pool::new(1);
        for base in [Config::gpt2(), Config::llama()] {
            let (config, weights) = test_models::random(base, 6);
            let subject = Subject { config: &config, weights: &weights, pool: &pool };
            // From zero an RMSNorm jumps; a token's vector is a way without a cliff.
            let other = &weights.get("embedding.token").unwrap()[..config.width];
            let baseline = if config.gated { Some(other) } else { None };
            for metric in metrics() {
                let miss = |steps| {
                    let got =
                        integrated_gradients(subject, &IDS, &metric, baseline, steps).unwrap();
                    (got.completeness_error().unwrap(), (got.value - got.baseline.unwrap()).abs())
                };
                let (few, _) = miss(1);
                let (many, change) = miss(250);
                assert!(many < 0.1 * few, "{metric:?}: {few} {many}");
                assert!(many <= 0.01 * change, "{metric:?}: {many} of {change}");
            }
        }
    }

    #[test]
    fn encoders_and_recurrent_models_are_asked_as_well() {
        let pool = Pool::new(1);
        for base in [Config::bert(), Config::lstm()] {
            let (config, weights) = test_models::random(base, 6);
            let subject = Subject { config: &config, weights: &weights, pool: &pool };
            let metric = Metric::LogProbability(7);
            let got = integrated_gradients(subject, &IDS, &metric, None, 300).unwrap();
            let change = (got.value - got.baseline.unwrap()).abs();
            let miss = got.completeness_error().unwrap();
            assert!(miss <= 0.05 * change + 1e-4 && change > 1e-4, "{miss} of {change}");
        }
    }

    #[test]
    fn gradient_times_input_is_the_slope_of_scaling_all_tokens() {
        let pool = Pool::new(1);
        let (config, weights) = test_models::random(Config::gpt2(), 8);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        for metric in metrics() {
            let got = gradient_times_input(subject, &IDS, &metric).unwrap();
            let scaled = |factor: f32| {
                let site = Site::once(Part::Embed);
                let watch = Watch { edit: vec![site], ..Watch::default() };
                let sizes = subject.sizes(&Text::of(&IDS), 1);
                let mut o = Observer::new(&config, sizes, watch, End::Last, 1).unwrap();
                o.change(site, &Region::all(), &Change::Scale(factor)).unwrap();
                o.run(&pool, &weights, Text::of(&IDS)).unwrap();
                metric.of(o.last_scores().unwrap()).unwrap()
            };
            let slope = (scaled(1.005) - scaled(0.995)) / 0.01;
            let sum: f64 = got.tokens.iter().sum();
            assert!((sum - slope).abs() <= 0.02 * slope.abs() + 2e-3, "{metric:?}: {sum} {slope}");
            assert!((got.value - scaled(1.0)).abs() < 1e-5 && got.completeness_error().is_none());
        }
    }

    #[test]
    fn a_baseline_may_be_given_and_the_text_itself_gives_nothing() {
        let pool = Pool::new(1);
        let (config, weights) = test_models::random(Config::gpt2(), 8);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let table = weights.get("embedding.token").unwrap();
        let c = config.width;
        let row = |id: i32| &table[id as usize * c..][..c];
        let itself: Vec<f32> = IDS.iter().flat_map(|&id| row(id).to_vec()).collect();
        let metric = Metric::LogProbability(7);
        let ask =
            |baseline: &[f32]| integrated_gradients(subject, &IDS, &metric, Some(baseline), 8);
        let nothing = ask(&itself).unwrap();
        assert!(nothing.tokens.iter().all(|x| *x == 0.0), "{nothing:?}");
        // Another token everywhere: the token that is the same as the baseline has no share.
        let other = ask(row(41)).unwrap();
        assert_eq!(other.tokens[2], 0.0);
        assert!(other.tokens[4].abs() > 1e-4, "{other:?}");
        assert!(ask(&itself[..7]).is_err());
        assert!(integrated_gradients(subject, &IDS, &metric, None, 0).is_err());
        assert!(gradient_times_input(subject, &[], &metric).is_err());
    }
}
