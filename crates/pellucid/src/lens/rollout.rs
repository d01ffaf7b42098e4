//! Attention rollout (Abnar & Zuidema, "Quantifying Attention Flow in Transformers", 2020): how much of each input
//! token a position holds after each block, if attention is all that mixes positions.
//!
//! ```text
//! A_l = (1 - r) · mean over heads of the pattern + r · I      r: what the residual stream keeps; the paper's 1/2
//!       rows renormalised
//! R_l = A_l · R_(l-1),  R_0 = I
//! ```
//!
//! Values, projections and feed-forwards are not looked at: it is a picture of patterns, not a cause.

use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::observer::Text;
use crate::model::site::{Part, Site};

/// Rollouts after each block, (L) of (T, T), of a text of one row.
///
/// # Errors
/// A model with two stacks or without attention; a residual weight outside 0..=1.
pub fn rollout(subject: Subject<'_>, text: Text<'_>, residual: f64) -> Result<Vec<Vec<f64>>> {
    let config = subject.config;
    let sites: Vec<Site> = (0..config.layers).map(|l| Site::block(l, Part::Pattern)).collect();
    let seen = subject.observe(text, 1, &sites)?;
    let patterns = sites.iter().map(|&s| seen.read(s)).collect::<Result<Vec<Vec<f32>>>>()?;
    let patterns: Vec<&[f32]> = patterns.iter().map(Vec::as_slice).collect();
    of_patterns(&patterns, config.heads, residual)
}

/// The same of given patterns, each (H, T, T).
///
/// # Errors
/// Patterns that are no squares of one size; a residual weight outside 0..=1; a position that looks nowhere.
pub fn of_patterns(patterns: &[&[f32]], heads: usize, residual: f64) -> Result<Vec<Vec<f64>>> {
    if !(0.0..=1.0).contains(&residual) {
        let message = format!("residual weight {residual}, but it must be in 0..=1");
        return Err(Error::new(Kind::Input, "rollout", message));
    }
    let size = patterns.first().map_or(0, |p| p.len()) / heads.max(1);
    let t = size.isqrt();
    if size == 0 || t * t != size || patterns.iter().any(|p| p.len() != heads * size) {
        let message = format!("patterns of {size} elements for each of {heads} heads");
        return Err(
            Error::new(Kind::Shape, "rollout", message).hint("pass (H, T, T) of each block")
        );
    }
    let mut all: Vec<Vec<f64>> = vec![];
    for pattern in patterns {
        let a = mixed(pattern, (heads, t), residual)?;
        all.push(match all.last() {
            None => a,
            Some(before) => product(&a, before, t),
        });
    }
    Ok(all)
}

/// Mean over heads with what the residual stream keeps, rows renormalised.
fn mixed(pattern: &[f32], (heads, t): (usize, usize), residual: f64) -> Result<Vec<f64>> {
    let mut a = vec![0.0; t * t];
    for head in pattern.chunks_exact(t * t) {
        a.iter_mut().zip(head).for_each(|(a, &p)| *a += f64::from(p));
    }
    for (i, row) in a.chunks_exact_mut(t).enumerate() {
        row.iter_mut().for_each(|x| *x *= (1.0 - residual) / heads as f64);
        row[i] += residual;
        let sum: f64 = row.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            let message = format!("attention of position {i} sums to {sum}");
            return Err(Error::new(Kind::Numeric, "rollout", message));
        }
        row.iter_mut().for_each(|x| *x /= sum);
    }
    Ok(a)
}

/// `a · b`, both (T, T).
fn product(a: &[f64], b: &[f64], t: usize) -> Vec<f64> {
    let mut out = vec![0.0; t * t];
    for (row, a) in out.chunks_exact_mut(t).zip(a.chunks_exact(t)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(t)).filter(|(a, _)| **a != 0.0) {
            row.iter_mut().zip(b).for_each(|(x, b)| *x += a * b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::test_models;
    use crate::model::config::Config;

    const EYE: [f64; 4] = [1.0, 0.0, 0.0, 1.0];

    fn close(got: &[f64], want: &[f64]) {
        assert!(
            got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6),
            "{got:?} {want:?}"
        );
    }

    #[test]
    fn who_looks_at_itself_or_keeps_all_stays_itself() {
        let eye = [1.0f32, 0.0, 0.0, 1.0];
        for rollout in of_patterns(&[&eye, &eye], 1, 0.3).unwrap() {
            close(&rollout, &EYE);
        }
        let other = [1.0f32, 0.0, 0.5, 0.5];
        close(&of_patterns(&[&other, &other], 1, 1.0).unwrap()[1], &EYE);
    }

    #[test]
    fn two_blocks_are_the_product_by_hand() {
        // Two heads, whose mean is (3/4, 1/4; 3/4, 1/4); with half kept: (7/8, 1/8; 3/8, 5/8).
        let first = [0.5f32, 0.5, 1.0, 0.0, 1.0, 0.0, 0.5, 0.5];
        // Mean (1, 0; 1/4, 3/4): (1, 0; 1/8, 7/8).
        let second = [1.0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 0.5, 0.5];
        let got = of_patterns(&[&first, &second], 2, 0.5).unwrap();
        close(&got[0], &[0.875, 0.125, 0.375, 0.625]);
        // The other order would be (57/64, 7/64; ...).
        close(&got[1], &[0.875, 0.125, 0.4375, 0.5625]);
    }

    #[test]
    fn rows_of_a_models_rollout_sum_to_one_and_see_no_future() {
        let (config, weights) = test_models::random(Config::llama(), 2);
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let ids: Vec<i32> = (0..9).map(|i| i * 5).collect();
        let all = rollout(subject, Text::of(&ids), 0.5).unwrap();
        assert_eq!(all.len(), 2);
        for after in &all {
            for (i, row) in after.chunks_exact(9).enumerate() {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                assert!(row[i + 1..].iter().all(|x| *x == 0.0));
            }
        }
        assert!(all[1][8 * 9 + 8] < all[0][8 * 9 + 8]);
    }

    #[test]
    fn what_cannot_be_rolled_out_is_refused() {
        let eye = [1.0f32, 0.0, 0.0, 1.0];
        assert!(of_patterns(&[&eye], 1, 1.5).is_err());
        assert!(of_patterns(&[&eye, &eye[..2]], 1, 0.5).is_err());
        assert!(of_patterns(&[], 1, 0.5).is_err());
        assert!(of_patterns(&[&[f32::NAN; 4]], 1, 0.5).is_err());
        assert!(of_patterns(&[&[0.0; 4]], 1, 0.0).is_err());
    }
}
