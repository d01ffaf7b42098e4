//! A clean and a corrupted text, and what is asked of both.

use super::looked::Opened;
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::metric::Metric;
use pellucid::lens::patching::Map;

#[derive(Clone, Debug, Args)]
pub(crate) struct TwoTexts {
    /// The text whose insides are put in
    clean: String,
    /// The text they are put into: as many tokens, but another answer
    corrupted: String,
    /// What should follow the clean text
    #[arg(long, value_name = "TEXT")]
    right: String,
    /// What follows the corrupted one; without it the right one's log-probability is measured, not a difference
    #[arg(long, value_name = "TEXT")]
    wrong: Option<String>,
}

impl TwoTexts {
    /// Ids of both, as many.
    pub(crate) fn ids(&self, opened: &Opened) -> Result<(Vec<i32>, Vec<i32>)> {
        let (clean, corrupted) = (opened.ids(&self.clean)?, opened.ids(&self.corrupted)?);
        if clean.len() == corrupted.len() {
            return Ok((clean, corrupted));
        }
        let tokens = |ids: &[i32]| opened.labels(ids).join("|");
        let message = format!("{} and {} tokens", clean.len(), corrupted.len());
        Err(Error::new(Kind::Input, "lens", message)
            .fact(tokens(&clean))
            .fact(tokens(&corrupted))
            .hint("both texts need as many tokens, so that positions mean the same"))
    }

    pub(crate) fn metric(&self, opened: &Opened) -> Result<Metric> {
        let right = opened.next(&self.clean, &self.right)?;
        Ok(match &self.wrong {
            Some(wrong) => Metric::Difference { right, wrong: opened.next(&self.clean, wrong)? },
            None => Metric::LogProbability(right),
        })
    }
}

/// The metric of both, for people.
pub(crate) fn said(metric: &Metric, map: &Map) -> String {
    let name = metric.name();
    format!("{name} of the clean text {:.4}, of the corrupted one {:.4}", map.clean, map.corrupted)
}

/// Shares of a way need one.
pub(crate) fn demand_different(metric: &Metric, map: &Map) -> Result<()> {
    if map.clean != map.corrupted {
        return Ok(());
    }
    let message = format!("both texts have the same {}: {}", metric.name(), map.clean);
    Err(Error::new(Kind::Input, "lens", message)
        .hint("choose a corrupted text with another answer"))
}
