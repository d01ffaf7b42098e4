//! What query rows look at, and where their numbers are.
#![allow(unsafe_code)] // raw rows

use super::kernel::PANEL;
use super::pack::Source;
use crate::ops::attention::cpu::{Call, LANES, tile::places};
use crate::ops::attention::slope;
use std::arch::x86_64::*;
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// Some rows of a (batch row, kv head): row `r` is position `r % T` of head `r / T` in the group. Padded to whole
/// panels of 32 with rows that look at nothing.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) first: usize,
    pub(super) len: usize,
    /// Head and position.
    pub(super) places: Vec<(usize, usize)>,
    /// Keys that each row looks at.
    lo: Vec<i32>,
    hi: Vec<i32>,
    /// Position among the keys and ALiBi's factor.
    position: Vec<f32>,
    slope: Vec<f32>,
    pub(super) panels: Vec<Panel>,
}

/// What 32 rows look at.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// Some row looks at some of these keys.
    any: (usize, usize),
    /// All rows look at all of these keys.
    all: (usize, usize),
}

impl Panel {
    /// Blocks of 32 keys, of `count` from key `s0` on, that any row looks at.
    #[inline]
    pub(super) fn blocks(&self, s0: usize, count: usize) -> Range<usize> {
        let first = self.any.0.saturating_sub(s0) / PANEL;
        let end = self.any.1.saturating_sub(s0).div_ceil(PANEL).min(count);
        first..end.max(first)
    }

    /// Whether all rows look at all of the 32 keys from `s` on.
    #[inline]
    pub(super) fn whole(&self, s: usize) -> bool {
        self.all.0 <= s && s + PANEL <= self.all.1
    }
}

/// What 16 rows look at.
#[derive(Clone, Copy)]
pub(super) struct Looks {
    lo: __m512i,
    hi: __m512i,
}

impl Looks {
    /// The rows that look at key `s`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn at(&self, s: usize) -> __mmask16 {
        let s = _mm512_set1_epi32(s as i32);
        _mm512_mask_cmpgt_epi32_mask(_mm512_cmple_epi32_mask(self.lo, s), self.hi, s)
    }
}

impl Rows {
    /// Looks up rows `rows` of kv head `kv` of batch row `b`.
    pub(super) fn set(&mut self, call: &Call<'_>, (b, kv): (usize, usize), rows: Range<usize>) {
        (self.first, self.len) = (rows.start, rows.len());
        let padded = rows.len().next_multiple_of(PANEL);
        self.places.clear();
        let head = |(head, position)| (kv * call.group() + head, position);
        self.places.extend(places(call.dims.t, rows).map(head));
        for x in [&mut self.lo, &mut self.hi] {
            x.clear();
            x.resize(padded, 0);
        }
        for (i, &(_, position)) in self.places.iter().enumerate() {
            let range = call.range(b, position);
            (self.lo[i], self.hi[i]) = (range.start as i32, range.end as i32);
        }
        self.position.clear();
        self.slope.clear();
        if call.alibi {
            let past = call.past(b);
            let slope = |head| -slope(head, call.dims.h) * LOG2_E;
            self.position.extend(self.places.iter().map(|p| (past + p.1) as f32));
            self.slope.extend(self.places.iter().map(|p| slope(p.0)));
            self.position.resize(padded, 0.0);
            self.slope.resize(padded, 0.0);
        }
        self.panels.clear();
        self.panels.extend(self.lo.chunks(PANEL).zip(self.hi.chunks(PANEL)).map(|(lo, hi)| {
            let seen = || lo.iter().zip(hi).filter(|(lo, hi)| lo < hi);
            let first = seen().map(|(lo, _)| *lo as usize).min().unwrap_or(0);
            let end = seen().map(|(_, hi)| *hi as usize).max().unwrap_or(0);
            let last = lo.iter().copied().max().unwrap_or(0) as usize;
            Panel { any: (first, end), all: (last, hi.iter().copied().min().unwrap_or(0) as usize) }
        }));
    }

    /// Whether a row looks at nothing.
    pub(super) fn blind(&self, row: usize) -> bool {
        self.lo[row] >= self.hi[row]
    }

    /// Half `half` of panel `panel`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn looks(&self, panel: usize, half: usize) -> Looks {
        let at = panel * PANEL + half * LANES;
        let load = |x: &[i32]| {
            let x = &x[at..at + LANES];
            // SAFETY: sixteen elements.
            unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
        };
        Looks { lo: load(&self.lo), hi: load(&self.hi) }
    }

    /// ALiBi: adds `slope * |s - position|` to a block of scores `(32 keys from s0 on, 32 rows)`.
    ///
    /// # Safety
    /// `scores` holds a block.
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) unsafe fn lean(&self, panel: usize, s0: usize, scores: *mut f32) {
        for half in 0..2 {
            let at = panel * PANEL + half * LANES;
            // SAFETY: padded to whole panels; the caller's promise.
            unsafe {
                let position = _mm512_loadu_ps(self.position[at..at + LANES].as_ptr());
                let slope = _mm512_loadu_ps(self.slope[at..at + LANES].as_ptr());
                for s in 0..PANEL {
                    let away = _mm512_sub_ps(_mm512_set1_ps((s0 + s) as f32), position);
                    let score = scores.add(s * PANEL + half * LANES);
                    let sum = _mm512_fmadd_ps(slope, _mm512_abs_ps(away), _mm512_loadu_ps(score));
                    _mm512_storeu_ps(score, sum);
                }
            }
        }
    }

    /// Dropout factors of keys `s0..s0 + 32` for the rows of a panel, `(32 keys, 32 rows)`.
    pub(super) fn kept(&self, call: &Call<'_>, b: usize, panel: usize, s0: usize, to: &mut [f32]) {
        let Some(dropout) = call.dropout else { return };
        to.fill(0.0);
        let mut row = [0.0; PANEL];
        for i in 0..PANEL.min(self.len - panel * PANEL) {
            let (head, position) = self.places[panel * PANEL + i];
            dropout.factors((b * call.dims.h + head) * call.dims.t + position, s0, &mut row);
            row.iter().enumerate().for_each(|(s, kept)| to[s * PANEL + i] = *kept);
        }
    }

    /// The rows of a panel as a source, from wherever `at(head, position)` says, `pitch` floats apart inside a
    /// head. `gather` has room for 32 rows of `d` floats, for panels of two heads.
    ///
    /// # Safety
    /// `at` points at `d` floats.
    pub(super) unsafe fn source(
        &self,
        panel: usize,
        (d, pitch, scale): (usize, usize, f32),
        gather: *mut f32,
        at: impl Fn(usize, usize) -> *const f32,
    ) -> Source {
        let places = &self.places[panel * PANEL..self.len.min((panel + 1) * PANEL)];
        let (first, last) = (places[0], places[places.len() - 1]);
        let source =
            Source { data: at(first.0, first.1), pitch, rows: places.len(), cols: d, scale };
        if first.0 == last.0 {
            return source;
        }
        for (i, place) in places.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { gather.add(i * d).copy_from_nonoverlapping(at(place.0, place.1), d) };
        }
        Source { data: gather, pitch: d, ..source }
    }
}
