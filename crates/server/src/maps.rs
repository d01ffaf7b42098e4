//! A head's pattern in pieces that a page can draw: a thumbnail, and tiles at halving detail.
//!
//! Pools keep the largest value, so that a single strong look is never lost in a reduced picture.

use crate::inside::{Answer, Fault, Pattern};
use serde::Deserialize;

/// Most rows and columns of a thumbnail.
pub(crate) const THUMB: usize = 64;
/// Rows and columns of a tile.
pub(crate) const TILE: usize = 256;

/// Which piece of a pattern.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Piece {
    /// Each value is the largest of 2^level × 2^level.
    pub(crate) level: u32,
    /// In tiles, from the top.
    pub(crate) row: usize,
    /// In tiles, from the left.
    pub(crate) column: usize,
}

/// Reduced sizes: as they are if small enough.
pub(crate) fn thumb_size(pattern: &Pattern) -> (usize, usize) {
    (pattern.queries.min(THUMB), pattern.keys.min(THUMB))
}

/// A byte for each value of the thumbnail: the square root of the weight, so that faint looks are seen.
pub(crate) fn thumb(pattern: &Pattern) -> Vec<u8> {
    let (rows, columns) = thumb_size(pattern);
    let (t, s) = (pattern.queries, pattern.keys);
    let mut best = vec![0f32; rows * columns];
    for (i, row) in pattern.weights.chunks_exact(s.max(1)).enumerate() {
        let to = &mut best[i * rows / t * columns..][..columns];
        for (j, &p) in row.iter().enumerate() {
            let cell = &mut to[j * columns / s];
            *cell = cell.max(p);
        }
    }
    best.into_iter().map(|p| (p.clamp(0.0, 1.0).sqrt() * 255.0).round() as u8).collect()
}

/// A tile: two sizes as u32, then f32 row by row, all little-endian. Tiles at the edge are smaller.
///
/// # Errors
/// A tile outside the pattern.
pub(crate) fn tile(pattern: &Pattern, piece: Piece) -> Answer<Vec<u8>> {
    let Piece { level, row, column } = piece;
    if level > 16 {
        return Err(Fault::input(format!("level {level}: levels are 0 to 16")));
    }
    let step = 1usize << level;
    let (t, s) = (pattern.queries.div_ceil(step), pattern.keys.div_ceil(step));
    let inside = |i: usize, n: usize| i.checked_mul(TILE).is_some_and(|from| from < n);
    if !inside(row, t) || !inside(column, s) {
        let (down, right) = (t.div_ceil(TILE), s.div_ceil(TILE));
        let message = format!("tile ({row}, {column}): level {level} has {down} × {right} tiles");
        return Err(Fault::input(message));
    }
    let rows = TILE.min(t - row * TILE);
    let columns = TILE.min(s - column * TILE);
    let mut best = vec![0f32; rows * columns];
    for y in row * TILE * step..((row * TILE + rows) * step).min(pattern.queries) {
        let from = &pattern.weights[y * pattern.keys..][..pattern.keys];
        let to = &mut best[(y / step - row * TILE) * columns..][..columns];
        for x in column * TILE * step..((column * TILE + columns) * step).min(pattern.keys) {
            let cell = &mut to[x / step - column * TILE];
            *cell = cell.max(from[x]);
        }
    }
    let mut out = Vec::with_capacity(8 + 4 * best.len());
    out.extend((rows as u32).to_le_bytes());
    out.extend((columns as u32).to_le_bytes());
    best.iter().for_each(|p| out.extend(p.to_le_bytes()));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bright cell in a large pattern.
    fn spot(t: usize, s: usize, at: (usize, usize)) -> Pattern {
        let mut weights = vec![0.0; t * s];
        weights[at.0 * s + at.1] = 0.25;
        Pattern { queries: t, keys: s, weights }
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    #[test]
    fn a_thumbnail_keeps_a_single_look() {
        let bytes = thumb(&spot(1000, 700, (999, 350)));
        assert_eq!(bytes.len(), THUMB * THUMB);
        let lit: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i] > 0).collect();
        assert_eq!(lit, [63 * THUMB + 32]);
        assert_eq!(bytes[lit[0]], 128);
        assert_eq!(thumb(&spot(3, 5, (2, 4))).iter().position(|&b| b > 0), Some(14));
    }

    #[test]
    fn tiles_cover_the_pattern_at_every_level() {
        let pattern = spot(600, 300, (599, 299));
        for level in 0..4 {
            let (t, s) = (600usize.div_ceil(1 << level), 300usize.div_ceil(1 << level));
            let piece = Piece { level, row: (t - 1) / TILE, column: (s - 1) / TILE };
            let bytes = tile(&pattern, piece).unwrap();
            let (rows, columns) = (t - piece.row * TILE, s - piece.column * TILE);
            assert_eq!(bytes[..4], (rows as u32).to_le_bytes());
            assert_eq!(bytes[4..8], (columns as u32).to_le_bytes());
            let values = floats(&bytes[8..]);
            assert_eq!(values.len(), rows * columns);
            assert_eq!(values.last(), Some(&0.25), "level {level}");
            assert_eq!(values.iter().sum::<f32>(), 0.25);
        }
        let refused = |level, row| tile(&pattern, Piece { level, row, column: 0 }).is_err();
        assert!(refused(0, 3) && refused(1, 2) && refused(17, 0) && refused(0, usize::MAX));
    }
}
