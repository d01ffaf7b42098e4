//! What passed chosen sites while texts grew, kept token by token.

use super::decoder::Decoder;
use super::edit::{Pick, Region};
use super::site::{Part, Side, Site};
use crate::error::{Error, Kind, Result};

/// What is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Recording {
    pub(super) sites: Vec<Site>,
    /// Of each site, of each row, of each position.
    values: Vec<Vec<Vec<Vec<f32>>>>,
}

/// One row's values at a site.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The site's axes without B; T, and S of a text's own keys, are the tokens that were read.
    pub shape: Vec<usize>,
    /// In row-major order; where a query may not look, -inf in scores and 0 in patterns.
    pub values: Vec<f32>,
}

/// Whether it shows a text's own keys, (B, H, T, S).
fn looks_back(part: Part) -> bool {
    matches!(part, Part::Scores | Part::Pattern)
}

impl Site {
    /// Whether it shows something of each token while a text grows: of the stack that writes, not all tokens' scores.
    #[must_use]
    pub fn fires_while_growing(self) -> bool {
        let of_source = self.side == Side::Encoder || self.part.axes().starts_with("BS");
        !of_source && self.part != Part::UnembedOut
    }
}

impl Recording {
    fn new(sites: &[Site], batch: usize) -> Self {
        Self { sites: sites.to_vec(), values: vec![vec![vec![]; batch]; sites.len()] }
    }

    /// Takes what the new positions of each row left at site number `at`, whose values have this shape.
    pub(super) fn take(
        &mut self,
        at: usize,
        (shape, values): (&[usize], &[f32]),
        new: &[usize],
    ) -> Result<()> {
        let part = self.sites[at].part;
        for (b, rows) in self.values[at].iter_mut().enumerate() {
            for t in 0..new[b] {
                let (b, here) = (Pick::one(b), Pick::one(t));
                let picks = if looks_back(part) {
                    vec![b, Pick::All, here, Pick::These((0..=rows.len()).collect())]
                } else if part.axes().starts_with("BH") {
                    vec![b, Pick::All, here]
                } else {
                    vec![b, here]
                };
                rows.push(Region(picks).take(shape, values)?);
            }
        }
        Ok(())
    }

    pub(super) fn forget(&mut self) {
        self.values.iter_mut().flatten().for_each(Vec::clear);
    }

    pub(super) fn truncate(&mut self, row: usize, len: usize) {
        self.values.iter_mut().for_each(|rows| rows[row].truncate(len));
    }

    pub(super) fn reorder(&mut self, parents: &[usize]) {
        for rows in &mut self.values {
            *rows = parents.iter().map(|&p| rows[p].clone()).collect();
        }
    }
}

impl Decoder {
    /// Forgets every sequence, and keeps from here on what each token leaves at these sites.
    ///
    /// Scores and patterns are computed beside what the text is made with, so that looking changes no bit.
    ///
    /// # Errors
    /// A site that the model lacks, or that does not fire while a text grows; what was kept then stays.
    pub fn record(&mut self, sites: &[Site]) -> Result<()> {
        let recording = Recording::new(sites, self.past().len());
        let before = std::mem::replace(&mut self.recording, recording);
        if let Err(error) = self.plan_anew() {
            self.recording = before;
            return Err(error);
        }
        self.reset();
        Ok(())
    }

    /// What a row's tokens left at a site.
    ///
    /// # Errors
    /// A site that is not recorded; no such row.
    pub fn recorded(&self, row: usize, site: Site) -> Result<Recorded> {
        let Recording { sites, values } = &self.recording;
        let at = sites.iter().position(|s| *s == site);
        let Some(rows) = at.and_then(|at| values[at].get(row)) else {
            let message = format!("{site} of row {row} is not recorded");
            return Err(
                Error::new(Kind::Input, "decode", message).hint("name it to Decoder::record")
            );
        };
        let t = rows.len();
        let each = self.shape_of_a_position(site);
        if !site.part.axes().starts_with("BH") {
            let shape = [&[t], &each[..]].concat();
            return Ok(Recorded { shape, values: rows.concat() });
        }
        let (heads, own) = (each[0], looks_back(site.part));
        let keys = if own { t } else { each[1] };
        let nowhere = if site.part == Part::Scores { f32::NEG_INFINITY } else { 0.0 };
        let mut all = vec![nowhere; heads * t * keys];
        for (i, row) in rows.iter().enumerate() {
            let n = row.len() / heads;
            for (h, row) in row.chunks_exact(n).enumerate() {
                all[(h * t + i) * keys..][..n].copy_from_slice(row);
            }
        }
        Ok(Recorded { shape: vec![heads, t, keys], values: all })
    }
}
