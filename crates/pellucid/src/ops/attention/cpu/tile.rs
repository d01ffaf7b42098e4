//! Which part of a tile anybody looks at.

use super::engine::Engine;
use super::{Call, KEYS, QUERIES};
use std::ops::Range;

/// Most strips of rows in a tile; a strip has at least 6 rows.
const STRIPS: usize = QUERIES.div_ceil(6);

/// One tile: query rows `first..first + len` (row `r` is position `r % T` of head `r / T` in its group)
/// against the keys from `s0` on. Columns count from `s0`.
pub(super) struct Tile {
    pub(super) first: usize,
    pub(super) len: usize,
    /// Head in its group and position of each row.
    pub(super) places: [(usize, usize); QUERIES],
    /// Columns that each row looks at.
    pub(super) ranges: [(usize, usize); QUERIES],
    /// Rows of a strip.
    strip: usize,
    /// Columns that each strip looks at, rounded out to whole grains.
    strips: [(usize, usize); STRIPS],
    /// Columns that any row looks at, rounded out to whole grains.
    pub(super) columns: (usize, usize),
    /// All rows are of one head, so ranges only move to the right from row to row.
    pub(super) one_head: bool,
}

impl Tile {
    #[inline(always)]
    pub(super) fn new<E: Engine>(call: &Call<'_>, b: usize, rows: Range<usize>, s0: usize) -> Self {
        let t = call.dims.t;
        let empty = (KEYS, 0);
        let mut tile = Self {
            first: rows.start,
            len: rows.len(),
            places: [(0, 0); QUERIES],
            ranges: [(0, 0); QUERIES],
            strip: E::STRIP,
            strips: [empty; STRIPS],
            columns: empty,
            one_head: rows.start / t == (rows.end - 1) / t,
        };
        for (i, place) in places(t, rows).enumerate() {
            tile.places[i] = place;
            let range = call.range(b, place.1);
            let lo = range.start.saturating_sub(s0).min(KEYS);
            let hi = range.end.saturating_sub(s0).min(KEYS);
            if lo >= hi {
                continue;
            }
            tile.ranges[i] = (lo, hi);
            let out = (lo / E::GRAIN * E::GRAIN, hi.next_multiple_of(E::GRAIN));
            for wide in [&mut tile.strips[i / E::STRIP], &mut tile.columns] {
                *wide = (wide.0.min(out.0), wide.1.max(out.1));
            }
        }
        tile
    }

    /// Whether nobody looks here.
    pub(super) fn is_empty(&self) -> bool {
        self.columns.0 >= self.columns.1
    }

    /// `(first row in the tile, rows, columns)` of the strips that look at something.
    #[inline(always)]
    pub(super) fn strips(&self) -> impl Iterator<Item = (usize, usize, (usize, usize))> {
        let strip = self.strip;
        self.strips[..self.len.div_ceil(strip)]
            .iter()
            .enumerate()
            .filter(|(_, c)| c.0 < c.1)
            .map(move |(i, c)| (i * strip, strip.min(self.len - i * strip), *c))
    }

    /// The end of what rows `rows` of the tile look at.
    #[inline(always)]
    pub(super) fn end(&self, rows: Range<usize>) -> usize {
        self.ranges[rows].iter().map(|r| r.1).max().unwrap_or(0)
    }
}

/// Head in its group and position of each of `rows`, without dividing for each.
#[inline(always)]
pub(super) fn places(t: usize, rows: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    let (mut head, mut position) = (rows.start / t, rows.start % t);
    rows.map(move |_| {
        let place = (head, position);
        position += 1;
        if position == t {
            (head, position) = (head + 1, 0);
        }
        place
    })
}

/// Which rows of a tile look at a block of columns, for blocks asked from left to right.
pub(super) struct Lookers {
    first: usize,
    end: usize,
}

impl Lookers {
    #[inline(always)]
    pub(super) fn new(tile: &Tile) -> Self {
        let first = (0..tile.len).find(|&j| tile.ranges[j].1 > 0).unwrap_or(0);
        Self { first, end: first }
    }

    #[inline(always)]
    pub(super) fn at(&mut self, tile: &Tile, c0: usize, c1: usize) -> (usize, usize) {
        if !tile.one_head {
            return (0, tile.len);
        }
        // Inside one head, the non-empty ranges are neighbours and move only to the right.
        let looks = |j: usize| tile.ranges[j].1 > 0;
        while self.first < tile.len && looks(self.first) && tile.ranges[self.first].1 <= c0 {
            self.first += 1;
        }
        while self.end < tile.len && looks(self.end) && tile.ranges[self.end].0 < c1 {
            self.end += 1;
        }
        (self.first.min(self.end), self.end)
    }
}
