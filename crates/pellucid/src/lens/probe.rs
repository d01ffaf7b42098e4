//! Linear probes (Alain & Bengio 2016): is something written in recorded vectors so that a linear reader finds it?
//!
//! A probe may also just have learnt its task by heart. So each is fitted twice: to the labels, and to labels without
//! meaning, the control task of Hewitt & Liang ("Designing and Interpreting Probes with Control Tasks", 2019).
//! Selectivity is the difference: what the vectors, not the probe, contribute.
//!
//! Vectors are centred and divided by the training rows' deviations; labels are read by multinomial logistic
//! regression with λ/2 ‖W‖² (mean loss over rows; biases free), found by Nesterov's method over all rows from zero:
//! the same vectors give the same probe.

use super::solve::product;
use crate::backend::cpu::gemm::Mat;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::tensor::random::Random;

/// How a probe is fitted and judged.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeOptions {
    /// λ.
    pub l2: f32,
    /// Steps of the search.
    pub steps: usize,
    /// Share of rows that are kept for judging.
    pub test: f64,
    /// Of the split and of the control's labels.
    pub seed: u64,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { l2: 1e-3, steps: 300, test: 0.25, seed: 1 }
    }
}

/// Labels without meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// The labels, shuffled among the rows: nothing can be learnt of the test rows.
    Shuffled,
    /// A random label for each type, such as a token's id, drawn from the labels: rows of a type that was seen can be
    /// known by heart. This is the paper's.
    ByType(&'a [i32]),
}

/// A reader of vectors: scores (K) of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// (K, D), of standardised vectors.
    pub weights: Vec<f32>,
    /// (K).
    pub bias: Vec<f32>,
    /// (D): taken from a vector.
    pub mean: Vec<f32>,
    /// (D): what it is then divided by.
    pub deviation: Vec<f32>,
}

impl Linear {
    /// Scores (N, K) of vectors (N, D).
    ///
    /// # Errors
    /// Vectors of another width.
    pub fn scores(&self, pool: &Pool, x: &[f32]) -> Result<Vec<f32>> {
        let d = self.mean.len();
        if !x.len().is_multiple_of(d) {
            let message = format!("{} elements, but vectors have {d}", x.len());
            return Err(Error::new(Kind::Shape, "probe", message));
        }
        let x = standardised(x, &self.mean, &self.deviation);
        Ok(scores(pool, &x, (&self.weights, &self.bias)))
    }
}

/// What a probe of labels found.
#[derive(Clone, Debug, PartialEq)]
pub struct Classified {
    /// Share of test rows read rightly.
    pub accuracy: f64,
    /// Of training rows.
    pub train_accuracy: f64,
    /// Of test rows in the control task.
    pub control: f64,
    /// Of whoever always says the training rows' most frequent label, on test rows.
    pub majority: f64,
    /// Rows of training and test.
    pub rows: (usize, usize),
    /// The reader.
    pub probe: Linear,
}

impl Classified {
    /// Accuracy less the control's.
    #[must_use]
    pub fn selectivity(&self) -> f64 {
        self.accuracy - self.control
    }
}

/// Row numbers for training and test.
pub(super) fn split(n: usize, options: &ProbeOptions) -> Result<(Vec<usize>, Vec<usize>)> {
    let test = (n as f64 * options.test).round() as usize;
    if !(0.0..1.0).contains(&options.test) || test == 0 || test + 2 > n {
        let message = format!("{n} rows, of which a share of {} is for the test", options.test);
        return Err(Error::new(Kind::Input, "probe", message)
            .hint("at least 1 row for the test and 2 for training are needed"));
    }
    let mut order: Vec<usize> = (0..n).collect();
    shuffle(&mut order, options.seed, 0);
    let train = order.split_off(test);
    Ok((train, order))
}

fn shuffle<T>(all: &mut [T], seed: u64, stream: u64) {
    let mut random = Random::new(seed, stream);
    for i in (1..all.len()).rev() {
        all.swap(i, random.below(i + 1));
    }
}

/// Mean and deviation of some rows' elements; a constant element's deviation is 1.
pub(super) fn moments(x: &[f32], d: usize, rows: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let (mut sum, mut squares) = (vec![0.0f64; d], vec![0.0f64; d]);
    for &row in rows {
        for (i, &v) in x[row * d..][..d].iter().enumerate() {
            sum[i] += f64::from(v);
        }
    }
    let n = rows.len() as f64;
    sum.iter_mut().for_each(|s| *s /= n);
    for &row in rows {
        for (i, &v) in x[row * d..][..d].iter().enumerate() {
            squares[i] += (f64::from(v) - sum[i]).powi(2) / n;
        }
    }
    let deviation = squares.iter().zip(&sum).map(|(s, m)| {
        // Below what rounding makes of a constant.
        if s.sqrt() > 1e-6 * m.abs() { s.sqrt() as f32 } else { 1.0 }
    });
    (sum.iter().map(|&s| s as f32).collect(), deviation.collect())
}

pub(super) fn standardised(x: &[f32], mean: &[f32], deviation: &[f32]) -> Vec<f32> {
    let mut out = x.to_vec();
    for row in out.chunks_exact_mut(mean.len()) {
        row.iter_mut().zip(mean.iter().zip(deviation)).for_each(|(x, (m, d))| *x = (*x - m) / d);
    }
    out
}

fn scores(pool: &Pool, x: &[f32], (w, b): (&[f32], &[f32])) -> Vec<f32> {
    let (k, d) = (b.len(), w.len() / b.len());
    let n = x.len() / d;
    let mut out = b.repeat(n);
    product(pool, (n, k, d), (Mat::rows(x, d), Mat::rows(w, d).t()), &mut out, true);
    out
}

/// Probabilities less the labels' ones, over N, in place of scores (N, K); the mean loss.
fn residuals(scores: &mut [f32], labels: &[usize], k: usize) -> f64 {
    let n = labels.len() as f32;
    let mut loss = 0.0f64;
    for (row, &label) in scores.chunks_exact_mut(k).zip(labels) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let right = row[label] - most;
        row.iter_mut().for_each(|x| *x = (*x - most).exp());
        let sum: f32 = row.iter().sum();
        loss += f64::from(sum.ln() - right) / f64::from(n);
        row.iter_mut().for_each(|x| *x /= sum * n);
        row[label] -= 1.0 / n;
    }
    loss
}

/// The largest eigenvalue of `XᵀX / N`, and 1 for the bias: how steep the loss can be.
fn steepness(pool: &Pool, x: &[f32], d: usize) -> f32 {
    let n = x.len() / d;
    let mut v = vec![1.0 / (d as f32).sqrt(); d];
    let mut largest = 0.0f32;
    for _ in 0..20 {
        let (mut xv, mut next) = (vec![0.0; n], vec![0.0; d]);
        let rows = Mat::rows(x, d);
        product(pool, (n, 1, d), (rows, Mat::rows(&v, 1)), &mut xv, false);
        product(pool, (d, 1, n), (rows.t(), Mat::rows(&xv, 1)), &mut next, false);
        largest = next.iter().map(|x| x * x).sum::<f32>().sqrt() / n as f32;
        let length = (largest * n as f32).max(f32::MIN_POSITIVE);
        v = next.iter().map(|x| x / length).collect();
    }
    largest.max(1.0)
}

/// Weights (K, D) and bias (K) for standardised vectors (N, D).
fn fit(
    pool: &Pool,
    x: &[f32],
    (labels, k): (&[usize], usize),
    options: &ProbeOptions,
) -> (Vec<f32>, Vec<f32>) {
    let n = labels.len();
    let d = x.len() / n;
    // Softmax bends by at most 1/2; the power method comes from below.
    let rate = 1.0 / (0.5 * 1.2 * (steepness(pool, x, d) + 1.0) + options.l2);
    let (mut w, mut b) = (vec![0.0f32; k * d], vec![0.0f32; k]);
    let (mut ahead, mut ahead_b) = (w.clone(), b.clone());
    let mut t = 1.0f32;
    for _ in 0..options.steps {
        let mut r = scores(pool, x, (&ahead, &ahead_b));
        residuals(&mut r, labels, k);
        let mut g: Vec<f32> = ahead.iter().map(|w| options.l2 * w).collect();
        let parts = (Mat::rows(&r, k).t(), Mat::rows(x, d));
        product(pool, (k, d, n), parts, &mut g, true);
        let mut g_b = vec![0.0f32; k];
        for row in r.chunks_exact(k) {
            g_b.iter_mut().zip(row).for_each(|(g, r)| *g += r);
        }
        let next = 0.5 * (1.0 + (1.0 + 4.0 * t * t).sqrt());
        let push = (t - 1.0) / next;
        t = next;
        let step = |at: &mut Vec<f32>, ahead: &mut Vec<f32>, g: &[f32]| {
            for (i, g) in g.iter().enumerate() {
                let new = ahead[i] - rate * g;
                ahead[i] = new + push * (new - at[i]);
                at[i] = new;
            }
        };
        step(&mut w, &mut ahead, &g);
        step(&mut b, &mut ahead_b, &g_b);
    }
    (w, b)
}

fn accuracy(scores: &[f32], labels: &[usize], k: usize) -> f64 {
    let right = scores.chunks_exact(k).zip(labels).filter(|(row, label)| {
        let best = (0..k).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        best == **label
    });
    right.count() as f64 / labels.len() as f64
}

/// Meaningless labels for all rows.
fn control_labels(labels: &[usize], control: Control<'_>, seed: u64) -> Vec<usize> {
    match control {
        Control::Shuffled => {
            let mut all = labels.to_vec();
            shuffle(&mut all, seed, 1);
            all
        }
        Control::ByType(types) => types
            .iter()
            .map(|&id| labels[Random::new(seed ^ 0x5eed, id as u32 as u64).below(labels.len())])
            .collect(),
    }
}

/// Fits a probe of labels `0..classes` to vectors (N, D) and judges it.
///
/// # Errors
/// Vectors, labels or types of different numbers, labels out of range, fewer than 2 classes, too few rows.
pub fn classify(
    pool: &Pool,
    (x, d): (&[f32], usize),
    (labels, classes): (&[usize], usize),
    control: Control<'_>,
    options: &ProbeOptions,
) -> Result<Classified> {
    let n = labels.len();
    let types = if let Control::ByType(types) = control { types.len() } else { n };
    let fits = d > 0 && x.len() == n * d && types == n && classes > 1;
    if !fits || labels.iter().any(|&l| l >= classes) || x.iter().any(|x| !x.is_finite()) {
        let message = format!("{} numbers, {n} labels of {classes}, {types} types", x.len());
        return Err(Error::new(Kind::Input, "probe", message)
            .fact(format!("vectors have D = {d} finite elements, labels are below the classes"))
            .hint("pass a vector, a label and a type for each row, and at least 2 classes"));
    }
    let (train, test) = split(n, options)?;
    let (mean, deviation) = moments(x, d, &train);
    let x = standardised(x, &mean, &deviation);
    let rows = |which: &[usize]| -> Vec<f32> {
        which.iter().flat_map(|&r| x[r * d..][..d].iter().copied()).collect()
    };
    let (train_x, test_x) = (rows(&train), rows(&test));
    let judge = |labels: &[usize]| {
        let pick = |which: &[usize]| which.iter().map(|&r| labels[r]).collect::<Vec<usize>>();
        let (of_train, of_test) = (pick(&train), pick(&test));
        let (w, b) = fit(pool, &train_x, (&of_train, classes), options);
        let seen = accuracy(&scores(pool, &train_x, (&w, &b)), &of_train, classes);
        let unseen = accuracy(&scores(pool, &test_x, (&w, &b)), &of_test, classes);
        (unseen, seen, w, b)
    };
    let (accuracy, train_accuracy, weights, bias) = judge(labels);
    let (control, ..) = judge(&control_labels(labels, control, options.seed));
    let mut counts = vec![0usize; classes];
    train.iter().for_each(|&r| counts[labels[r]] += 1);
    let most = (0..classes).fold(0, |m, i| if counts[i] > counts[m] { i } else { m });
    let majority = test.iter().filter(|&&r| labels[r] == most).count() as f64 / test.len() as f64;
    let probe = Linear { weights, bias, mean, deviation };
    let rows = (train.len(), test.len());
    Ok(Classified { accuracy, train_accuracy, control, majority, rows, probe })
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
