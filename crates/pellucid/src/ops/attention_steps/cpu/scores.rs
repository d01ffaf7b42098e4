//! `q · kᵀ`, what is added to it, and where the mask forbids: -inf.

use super::{BLOCK, Heads, Target, Unit, add, memory, product, share};
use crate::backend::cpu::gemm::Mat;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::attention::{AttentionDims, Mask};
use crate::ops::simd::{fma, multiversion};
use std::ops::Range;

multiversion! {
    /// `x = scale·x + added`.
    fn biased<const FMA: bool>(x: &mut [f32], scale: f32, added: &[f32]) {
        x.iter_mut().zip(added).for_each(|(x, a)| *x = fma::<FMA>(*x, scale, *a));
    }
}
multiversion! {
    /// `x = scale·from`.
    fn scaled<const FMA: bool>(x: &mut [f32], scale: f32, from: &[f32]) {
        x.iter_mut().zip(from).for_each(|(x, f)| *x = scale * f);
    }
}
multiversion! {
    fn scale_in_place<const FMA: bool>(x: &mut [f32], scale: f32) {
        x.iter_mut().for_each(|x| *x *= scale);
    }
}
/// What scores are made with, beside q and k.
#[derive(Clone, Copy)]
pub(in crate::ops::attention_steps) struct Call<'a> {
    pub(in crate::ops::attention_steps) dims: AttentionDims,
    pub(in crate::ops::attention_steps) mask: Mask,
    pub(in crate::ops::attention_steps) scale: f32,
    /// Real keys of each batch row; empty: all.
    pub(in crate::ops::attention_steps) lengths: &'a [i32],
    /// Positions before the queries of each batch row, and queries that are real; none: 0, and all.
    pub(in crate::ops::attention_steps) standing: Option<(&'a [i32], &'a [i32])>,
    /// The furthest position of a query.
    pub(in crate::ops::attention_steps) furthest: usize,
    /// What is added for each head and offset `s - t`, `(H, furthest + S)`; offset `o` at `o + furthest`.
    pub(in crate::ops::attention_steps) added: Option<&'a [f32]>,
}

impl Call<'_> {
    /// Where the first query of batch row `b` stands, and how many are real.
    fn stand(&self, b: usize) -> (usize, usize) {
        let size = |all: &[i32]| usize::try_from(all[b]).unwrap_or(0);
        self.standing.map_or((0, self.dims.t), |(past, new)| (size(past), size(new)))
    }

    /// The keys that query `t` of batch row `b` may see.
    fn range(&self, b: usize, t: usize) -> Range<usize> {
        let (s, (past, new)) = (self.dims.s, self.stand(b));
        if t >= new {
            return 0..0;
        }
        let length = self.lengths.get(b).map_or(s, |&l| usize::try_from(l).unwrap_or(0));
        self.mask.range(t, past, length, s)
    }

    /// The smallest interval of keys with all that these queries may see.
    fn hull(&self, b: usize, queries: Range<usize>) -> Range<usize> {
        let ranges = queries.map(|t| self.range(b, t)).filter(|range| !range.is_empty());
        ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// `ds (queries, keys)` times the scale, 0 where the mask forbids.
    fn masked(&self, unit: (usize, usize), from: &[f32], at: [Range<usize>; 2], to: &mut [f32]) {
        let ((b, head), [queries, keys]) = (unit, at);
        let AttentionDims { t, s, h, .. } = self.dims;
        let from = &from[(b * h + head) * t * s..][..t * s];
        for (query, to) in queries.zip(to.chunks_exact_mut(keys.len())) {
            let range = self.range(b, query);
            let (start, end) = (range.start.max(keys.start), range.end.min(keys.end));
            if start >= end {
                to.fill(0.0);
                continue;
            }
            let (first, last) = (start - keys.start, end - keys.start);
            to[..first].fill(0.0);
            scaled(&mut to[first..last], self.scale, &from[query * s..][start..end]);
            to[last..].fill(0.0);
        }
    }
}

/// Scores `(B, H, T, S)`.
pub(in crate::ops::attention_steps) fn scores(
    pool: &Pool,
    call: &Call<'_>,
    q: Heads<'_>,
    k: Heads<'_>,
    out: &mut [f32],
) {
    let AttentionDims { b: batch, t, s, h, kv, d } = call.dims;
    assert_eq!(out.len(), batch * h * t * s);
    let out = Ptr(out.as_mut_ptr());
    pool.split(Unit::count(batch, h, t), 1, &|units| {
        for unit in units {
            let Unit { b, head, rows } = Unit::nth(unit, h, t);
            // SAFETY: these rows belong to this unit alone; out has B·H·T rows of S, checked above.
            let out = unsafe { out.slice(((b * h + head) * t + rows.start) * s, rows.len() * s) };
            let keys = call.hull(b, rows.clone());
            if !keys.is_empty() {
                let (q, k) = (q.from(b, rows.start, head), k.from(b, keys.start, head / (h / kv)));
                let sizes = (rows.len(), keys.len(), d);
                product(sizes, q, k.t(), (&mut out[keys.start..], s), false);
            }
            for (t_at, row) in rows.zip(out.chunks_exact_mut(s)) {
                let range = call.range(b, t_at);
                row[..range.start].fill(f32::NEG_INFINITY);
                row[range.end..].fill(f32::NEG_INFINITY);
                let seen = &mut row[range.clone()];
                match call.added {
                    Some(added) => {
                        let last = call.furthest;
                        let first = head * (last + s) + range.start + last - call.stand(b).0 - t_at;
                        biased(seen, call.scale, &added[first..][..range.len()]);
                    }
                    None => scale_in_place(seen, call.scale),
                }
            }
        }
    });
}

/// Gradient of q.
pub(in crate::ops::attention_steps) fn d_queries(
    pool: &Pool,
    call: &Call<'_>,
    ds: &[f32],
    k: Heads<'_>,
    to: Target,
    scratch: &mut [f32],
) {
    let AttentionDims { b: batch, t, s, h, kv, d } = call.dims;
    let memory = (scratch, memory(&call.dims));
    share(pool, Unit::count(batch, h, t), memory, &|unit, memory| {
        let Unit { b, head, rows } = Unit::nth(unit, h, t);
        let (own, dq) = memory.split_at_mut(BLOCK * t.max(s));
        let (n, keys) = (rows.len(), call.hull(b, rows.clone()));
        let dq = &mut dq[..n * d];
        dq.fill(0.0);
        if !keys.is_empty() {
            let own = &mut own[..n * keys.len()];
            call.masked((b, head), ds, [rows.clone(), keys.clone()], own);
            let k = k.from(b, keys.start, head / (h / kv));
            product((n, d, keys.len()), Mat::rows(own, keys.len()), k, (dq, d), false);
        }
        // SAFETY: rows of a head belong to one unit.
        unsafe { to.put(b, rows.start, head, dq) };
    });
}

/// Gradient of k: summed over the heads that share it, by the one worker that writes it.
pub(in crate::ops::attention_steps) fn d_keys(
    pool: &Pool,
    call: &Call<'_>,
    ds: &[f32],
    q: Heads<'_>,
    to: Target,
    scratch: &mut [f32],
) {
    let AttentionDims { b: batch, t, s, h, kv, d } = call.dims;
    let memory = (scratch, memory(&call.dims));
    share(pool, Unit::count(batch, kv, s), memory, &|unit, memory| {
        let Unit { b, head: shared, rows: keys } = Unit::nth(unit, kv, s);
        let (own, dk) = memory.split_at_mut(BLOCK * t.max(s));
        let (n, group) = (keys.len(), h / kv);
        let dk = &mut dk[..n * d];
        dk.fill(0.0);
        let sees = |t: &usize| {
            let range = call.range(b, *t);
            range.start < keys.end && keys.start < range.end
        };
        if let (Some(first), Some(last)) = ((0..t).find(sees), (0..t).rfind(sees)) {
            for head in shared * group..(shared + 1) * group {
                let queries = first..last + 1;
                let own = &mut own[..queries.len() * n];
                call.masked((b, head), ds, [queries.clone(), keys.clone()], own);
                let q = q.from(b, first, head);
                product((n, d, queries.len()), Mat::rows(own, n).t(), q, (dk, d), true);
            }
        }
        // SAFETY: rows of a key/value head belong to one unit.
        unsafe { to.put(b, keys.start, shared, dk) };
    });
}

/// Gradient of what is added to the scores, `(H, T + S - 1)`: summed over batch rows and queries.
pub(in crate::ops::attention_steps) fn d_added(
    pool: &Pool,
    call: &Call<'_>,
    ds: &[f32],
    sums: &mut [f32],
) {
    let AttentionDims { b: batch, t, s, h, .. } = call.dims;
    let span = t + s - 1;
    assert!(sums.len() == h * span && ds.len() == batch * h * t * s);
    let sums = Ptr(sums.as_mut_ptr());
    pool.split(h, 1, &|heads| {
        for head in heads {
            // SAFETY: each head belongs to one range; sums has `span` per head, checked above.
            let sums = unsafe { sums.slice(head * span, span) };
            sums.fill(0.0);
            for (b, query) in (0..batch).flat_map(|b| (0..t).map(move |query| (b, query))) {
                let range = call.range(b, query);
                let row = &ds[((b * h + head) * t + query) * s..][range.clone()];
                add(&mut sums[range.start + t - 1 - query..][..row.len()], row);
            }
        }
    });
}
