//! Numbers against numbers: correlation of values and of ranks, with the numbers of scipy.

use crate::error::{Error, Kind, Result};

/// Pearson's correlation; none where either side is constant.
///
/// # Errors
/// Fewer than two pairs, other numbers of both, or a value that is not finite.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    check(x, y)?;
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (mx, my) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        xx += (x - mx).powi(2);
        yy += (y - my).powi(2);
        xy += (x - mx) * (y - my);
    }
    Ok((xx > 0.0 && yy > 0.0).then(|| xy / (xx.sqrt() * yy.sqrt())))
}

/// Spearman's: Pearson's of ranks, equal values sharing the mean of theirs.
///
/// # Errors
/// As [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    check(x, y)?;
    pearson(&ranks(x), &ranks(y))
}

fn check(x: &[f64], y: &[f64]) -> Result<()> {
    let error = |message: String| Err(Error::new(Kind::Input, "correlate", message));
    if x.len() != y.len() || x.len() < 2 {
        return error(format!("{} and {} values; at least two pairs are needed", x.len(), y.len()));
    }
    match x.iter().chain(y).position(|v| !v.is_finite()) {
        Some(i) => error(format!("value {} of {} is not a finite number", i % x.len(), x.len())),
        None => Ok(()),
    }
}

fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut ranks = vec![0.0; x.len()];
    let mut start = 0;
    while start < order.len() {
        let same = order[start..].iter().take_while(|&&i| x[i] == x[order[start]]).count();
        let mean = start as f64 + (same as f64 + 1.0) / 2.0;
        order[start..start + same].iter().for_each(|&i| ranks[i] = mean);
        start += same;
    }
    ranks
}
