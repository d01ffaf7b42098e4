//! Linear probes of numbers: ridge regression, solved exactly, judged by R² on rows that were not fitted, with numbers
//! shuffled among the rows as the control.
//!
//! ```text
//! W = (XᵀX + λ N I)⁻¹ XᵀY      of standardised vectors X (N, D) and centred numbers Y (N, M)
//! R² = 1 - Σ (y - ŷ)² / Σ (y - mean of training)²
//! ```

use super::probe::{Linear, ProbeOptions, moments, split, standardised};
use super::solve::Positive;
use crate::error::{Error, Kind, Result};
use crate::tensor::random::Random;

/// What a probe of numbers found.
#[derive(Clone, Debug, PartialEq)]
pub struct Regressed {
    /// On test rows, over all M numbers together: 1 all, 0 nothing; below 0: worse than the mean.
    pub r2: f64,
    /// On training rows.
    pub train_r2: f64,
    /// On test rows, fitted to shuffled numbers.
    pub control: f64,
    /// Rows of training and test.
    pub rows: (usize, usize),
    /// The reader: its scores are the numbers.
    pub probe: Linear,
}

/// Fits a probe of `y` (N, M) to vectors (N, D) and judges it; `options.steps` is not used.
///
/// # Errors
/// Vectors and numbers of different numbers of rows, too few rows, or λ = 0 where vectors are not independent.
pub fn regress(
    (x, d): (&[f32], usize),
    (y, m): (&[f64], usize),
    options: &ProbeOptions,
) -> Result<Regressed> {
    let n = y.len() / m.max(1);
    let finite = x.iter().all(|x| x.is_finite()) && y.iter().all(|y| y.is_finite());
    if d == 0 || m == 0 || y.len() != n * m || x.len() != n * d || !finite {
        let message = format!("{} numbers for D = {d}, {} for M = {m}", x.len(), y.len());
        return Err(Error::new(Kind::Input, "probe", message)
            .hint("pass a vector and M finite numbers for each row"));
    }
    let (train, test) = split(n, options)?;
    let (mean, deviation) = moments(x, d, &train);
    let x = standardised(x, &mean, &deviation);
    let factor = factor(&x, d, &train, options.l2)?;
    let centre: Vec<f64> = (0..m)
        .map(|j| train.iter().map(|&r| y[r * m + j]).sum::<f64>() / train.len() as f64)
        .collect();
    let fit = |y: &[f64]| weights(&factor, (&x, d), (y, m), &train, &centre);
    let judge = |w: &[f64], y: &[f64], rows: &[usize]| {
        let (mut error, mut spread) = (0.0, 0.0);
        for &r in rows {
            let x = &x[r * d..][..d];
            for (j, w) in w.chunks_exact(d).enumerate() {
                let guess: f64 =
                    centre[j] + w.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
                error += (y[r * m + j] - guess).powi(2);
                spread += (y[r * m + j] - centre[j]).powi(2);
            }
        }
        1.0 - error / spread
    };
    let w = fit(y);
    // Whole rows change places, in training and test apart, so that means stay as they are.
    let mut shuffled = y.to_vec();
    for (stream, rows) in [(2, &train), (3, &test)] {
        let mut random = Random::new(options.seed, stream);
        for i in (1..rows.len()).rev() {
            let j = random.below(i + 1);
            (0..m).for_each(|c| shuffled.swap(rows[i] * m + c, rows[j] * m + c));
        }
    }
    Ok(Regressed {
        r2: judge(&w, y, &test),
        train_r2: judge(&w, y, &train),
        control: judge(&fit(&shuffled), &shuffled, &test),
        rows: (train.len(), test.len()),
        probe: Linear {
            weights: w.iter().map(|&w| w as f32).collect(),
            bias: centre.iter().map(|&c| c as f32).collect(),
            mean,
            deviation,
        },
    })
}

/// `XᵀX / N + λ I`, taken apart, over the training rows.
fn factor(x: &[f32], d: usize, train: &[usize], l2: f32) -> Result<Positive> {
    let mut a = vec![0.0f64; d * d];
    for &r in train {
        let x = &x[r * d..][..d];
        for (i, &xi) in x.iter().enumerate() {
            let row = &mut a[i * d..][..=i];
            row.iter_mut().zip(x).for_each(|(a, &xj)| *a += f64::from(xi) * f64::from(xj));
        }
    }
    let n = train.len() as f64;
    for i in 0..d {
        (0..=i).for_each(|j| a[i * d + j] /= n);
        a[i * d + i] += f64::from(l2);
    }
    Positive::of(&a, d).ok_or_else(|| {
        Error::new(Kind::Numeric, "probe", "vectors are not independent").hint("raise λ (l2)")
    })
}

/// Weights (M, D).
fn weights(
    factor: &Positive,
    (x, d): (&[f32], usize),
    (y, m): (&[f64], usize),
    train: &[usize],
    centre: &[f64],
) -> Vec<f64> {
    let mut w = vec![0.0f64; m * d];
    for (j, w) in w.chunks_exact_mut(d).enumerate() {
        for &r in train {
            let y = (y[r * m + j] - centre[j]) / train.len() as f64;
            w.iter_mut().zip(&x[r * d..][..d]).for_each(|(w, &x)| *w += y * f64::from(x));
        }
        factor.solve(w);
    }
    w
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;

    /// Vectors (200, 4), and two numbers that are linear in them up to noise.
    fn data(noise: f64) -> (Vec<f32>, Vec<f64>) {
        let mut random = Random::new(5, 0);
        let x: Vec<f32> = (0..800).map(|_| 2.0 * random.normal() + 1.0).collect();
        let mut y = vec![];
        for row in x.chunks_exact(4) {
            let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            y.push(3.0 + row[0] - 2.0 * row[2] + noise * f64::from(random.normal()));
            y.push(0.5 * row[3] + noise * f64::from(random.normal()));
        }
        (x, y)
    }

    #[test]
    fn what_is_linear_is_read_and_shuffled_numbers_are_not() {
        let (x, y) = data(0.0);
        let options = ProbeOptions { l2: 0.0, ..ProbeOptions::default() };
        let got = regress((&x, 4), (&y, 2), &options).unwrap();
        assert!(got.r2 > 1.0 - 1e-9 && got.train_r2 > 1.0 - 1e-9, "{got:?}");
        assert!(got.control < 0.2 && got.rows == (150, 50), "{got:?}");
        let read = got.probe.scores(&Pool::new(1), &x[..8]).unwrap();
        assert!(read.iter().zip(&y).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4), "{read:?}");
        // Half of the variance is noise: 5 · 4 of 5 · 4 + 20, and so on.
        let (x, y) = data(3.0);
        let noisy = regress((&x, 4), (&y, 2), &options).unwrap();
        assert!(noisy.r2 < 0.8 && noisy.r2 > 0.2, "{noisy:?}");
        // All weight on λ: the mean alone is left.
        let held = ProbeOptions { l2: 1e9, ..options };
        let held = regress((&x, 4), (&y, 2), &held).unwrap();
        assert!(held.train_r2.abs() < 1e-6, "{held:?}");
    }

    #[test]
    fn what_cannot_be_solved_is_refused() {
        let options = ProbeOptions { l2: 0.0, ..ProbeOptions::default() };
        let twice: Vec<f32> = (0..20).flat_map(|i| [i as f32, i as f32]).collect();
        let y: Vec<f64> = (0..20).map(f64::from).collect();
        let error = regress((&twice, 2), (&y, 1), &options).unwrap_err().to_string();
        assert!(error.contains("raise"), "{error}");
        let held = ProbeOptions { l2: 1e-3, ..options.clone() };
        assert!(regress((&twice, 2), (&y, 1), &held).unwrap().r2 > 0.99);
        assert!(regress((&twice, 3), (&y, 1), &options).is_err());
        assert!(regress((&twice, 2), (&[f64::NAN; 20], 1), &options).is_err());
    }
}
