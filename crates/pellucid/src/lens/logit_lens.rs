//! The logit lens (nostalgebraist 2020): the residual stream, read through the head at each depth.

use crate::error::{Error, Kind, Result};
use std::fmt::Write;

/// What the stream would say at one depth.
#[derive(Clone, Debug, PartialEq)]
pub struct Depth {
    /// Such as `embedding` or `after block 3`.
    pub name: String,
    /// The most probable tokens with their probabilities, best first.
    pub top: Vec<(String, f32)>,
    /// Probability and rank (0 is best) of the token that is being followed.
    pub followed: Option<(f32, usize)>,
}

/// The `k` best of a row of logits (V), with probabilities: `(id, probability)`, best first.
///
/// # Errors
/// A logit is NaN or infinite.
pub fn top(logits: &[f32], k: usize) -> Result<Vec<(u32, f32)>> {
    if let Some(id) = logits.iter().position(|l| !l.is_finite()) {
        let message = format!("logit of token {id} is {}", logits[id]);
        return Err(Error::new(Kind::Numeric, "logit_lens", message)
            .hint("the stream overflowed at this depth"));
    }
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    order.truncate(k);
    let probability = |id: u32| (f64::from(logits[id as usize] - most).exp() / total) as f32;
    Ok(order.into_iter().map(|id| (id, probability(id))).collect())
}

/// A row of the table from the logits (V) at one depth; `label` names ids, `follow` is an id whose
/// way up is of interest.
///
/// # Errors
/// As [`top`].
pub fn depth(
    name: impl Into<String>,
    logits: &[f32],
    k: usize,
    follow: Option<u32>,
    label: &dyn Fn(u32) -> String,
) -> Result<Depth> {
    let all = top(logits, logits.len())?;
    let followed = follow.and_then(|id| {
        let rank = all.iter().position(|t| t.0 == id)?;
        Some((all[rank].1, rank))
    });
    let top = all.iter().take(k).map(|&(id, p)| (label(id), p)).collect();
    Ok(Depth { name: name.into(), top, followed })
}

/// A line per depth: its best guesses, and how the followed token fares.
#[must_use]
pub fn table(depths: &[Depth], followed: Option<&str>) -> String {
    let margin = depths.iter().map(|d| d.name.chars().count()).max().unwrap_or(0);
    let cells: Vec<Vec<String>> = depths
        .iter()
        .map(|d| d.top.iter().map(|(p, x)| format!("{} {:.0}%", visible(p), 100.0 * x)).collect())
        .collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|j| cells.iter().filter_map(|c| c.get(j)).map(|c| c.chars().count()).max())
        .map(|w| w.unwrap_or(0))
        .collect();
    let mut out = String::new();
    for (depth, cells) in depths.iter().zip(&cells) {
        let mut line = pad(&depth.name, margin);
        for (cell, &width) in cells.iter().zip(&widths) {
            line.push_str("  ");
            line.push_str(&pad(cell, width));
        }
        if let (Some(name), Some((p, rank))) = (followed, depth.followed) {
            let blank: usize = widths.iter().skip(cells.len()).map(|w| w + 2).sum();
            let _ = write!(line, "{}  │ {}: ", " ".repeat(blank), visible(name));
            let _ = write!(line, "rank {}, {:.1}%", rank + 1, 100.0 * p);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.chars().count())))
}

/// Spaces at the edges and line ends made visible: `·the`, `↵`.
pub(super) fn visible(token: &str) -> String {
    let text = token.replace('\n', "↵").replace('\t', "→").replace('\r', "←");
    let inner = text.trim_matches(' ');
    if inner.is_empty() {
        return "·".repeat(text.len());
    }
    let lead = text.len() - text.trim_start_matches(' ').len();
    let tail = text.len() - text.trim_end_matches(' ').len();
    format!("{}{inner}{}", "·".repeat(lead), "·".repeat(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_gives_softmax_probabilities() {
        let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
        let best = top(&logits, 2).unwrap();
        assert_eq!(best.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2]);
        assert!((best[0].1 - 0.6).abs() < 1e-6 && (best[1].1 - 0.3).abs() < 1e-6);
        assert!(top(&[f32::NAN], 1).is_err());
    }

    #[test]
    fn the_table_aligns_depths_and_follows_a_token() {
        let names = ["a", " blue", "\n"];
        let label = |id: u32| names[id as usize].to_owned();
        let rows = [("embedding", [2.0, 0.0, 1.0]), ("after block 1", [0.0, 5.0, 1.0])]
            .map(|(name, logits)| depth(name, &logits, 2, Some(1), &label).unwrap());
        insta::assert_snapshot!(table(&rows, Some(" blue")), @r"
        embedding      a 67%      ↵ 24%  │ ·blue: rank 3, 9.0%
        after block 1  ·blue 98%  ↵ 2%   │ ·blue: rank 1, 97.6%
        ");
    }
}
