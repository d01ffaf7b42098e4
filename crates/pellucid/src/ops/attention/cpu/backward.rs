//! Backward: probabilities again from the saved log-sum-exp, then five products per tile.
//!
//! With `P` the probabilities, `W` the dropout factors (1 without), `O = (P W) V`:
//! `dV = (P W)ᵀ dO`, `dP = W (dO Vᵀ)`, `delta = rowsum(dO O)`, `dS = P (dP - delta)`, `dQ = scale dS K`,
//! `dK = scale dSᵀ Q` (Dao et al. 2022, appendix B).
#![allow(unsafe_code)] // raw tiles, disjoint writes from several workers

use super::forward::{blot, lean};
use super::product::{Left, ROWS, product};
use super::simd::{Isa, LANES, exp2};
use super::tile::Tile;
use super::{Call, Carve, KEYS, QUERIES, Target, dispatch, pack};
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::attention::{AttentionDims, slope};
use std::f32::consts::{LN_2, LOG2_E};

/// Floats of scratch for one worker.
pub(crate) fn backward_scratch(dims: &AttentionDims) -> usize {
    let (rows, width) = (dims.h / dims.kv * dims.t, dims.d.next_multiple_of(LANES));
    rows * (3 * width + 2) + 5 * KEYS * width + 2 * QUERIES * KEYS + KEYS + 14 * LANES
}

/// What the forward pass left behind, and the gradient of its output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved<'a> {
    /// `(B, T, H * D)`
    pub(crate) out: &'a [f32],
    /// `(B, T, H * D)`
    pub(crate) d_out: &'a [f32],
    /// `(B, H, T)`
    pub(crate) lse: &'a [f32],
}

/// Where the gradients of q, k and v go; `None` where nobody wants one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gradients {
    pub(crate) q: Option<Target>,
    pub(crate) k: Option<Target>,
    pub(crate) v: Option<Target>,
}

/// One worker's tiles. Row `r` is position `r % T` of head `r / T` in the group.
struct Work {
    /// Queries times scale and log2(e), `(rows, width)`.
    q: *mut f32,
    /// Gradient of the output, `(rows, width)`.
    d_out: *mut f32,
    /// Gradient of the queries so far, `(rows, width)`.
    dq: *mut f32,
    /// `rowsum(dO O)`, `(rows)`.
    delta: *mut f32,
    /// Log-sum-exp in base 2, `(rows)`.
    lse: *mut f32,
    /// Keys and values, turned: `(D, 128)`.
    kt: *mut f32,
    vt: *mut f32,
    /// Keys times scale, `(128, width)`.
    k: *mut f32,
    /// Gradients of this tile's keys and values so far, `(128, width)`.
    dk: *mut f32,
    dv: *mut f32,
    /// Probabilities, and gradients of the scores, `(64, 128)`.
    p: *mut f32,
    ds: *mut f32,
    /// Dropout factors of a row.
    kept: *mut f32,
}

/// Writes the gradients. `scratch` holds `backward_scratch` floats for each worker.
pub(crate) fn backward(
    pool: &Pool,
    call: &Call<'_>,
    saved: Saved<'_>,
    gradients: Gradients,
    scratch: &mut [f32],
) {
    let AttentionDims { b, t, h, kv, d, .. } = call.dims;
    call.check();
    let per_worker = backward_scratch(&call.dims);
    assert!(saved.out.len() == b * t * h * d && saved.d_out.len() == b * t * h * d);
    assert!(saved.lse.len() == b * h * t && scratch.len() >= pool.threads() * per_worker);
    let scratch = Ptr(scratch.as_mut_ptr());
    pool.run(&|worker| {
        for i in (worker..b * kv).step_by(pool.threads()) {
            let pair = (i / kv, i % kv);
            // SAFETY: each worker has its own share of the scratch.
            let carve = unsafe { Carve::new(scratch, worker, per_worker) };
            dispatch!(
                call.level,
                retreat(
                    call: &Call<'_>,
                    pair: (usize, usize),
                    saved: Saved<'_>,
                    gradients: Gradients,
                    carve: Carve,
                )
            );
        }
    });
}

/// One (batch row, kv head). The instructions of `I` must exist.
#[inline(always)]
unsafe fn retreat<I: Isa>(
    call: &Call<'_>,
    pair: (usize, usize),
    saved: Saved<'_>,
    gradients: Gradients,
    mut carve: Carve,
) {
    let AttentionDims { t, s, d, .. } = call.dims;
    let (rows, width) = (call.group() * t, d.next_multiple_of(LANES));
    let work = Work {
        q: carve.take(rows * width),
        d_out: carve.take(rows * width),
        dq: carve.take(rows * width),
        delta: carve.take(rows),
        lse: carve.take(rows),
        kt: carve.take(KEYS * width),
        vt: carve.take(KEYS * width),
        k: carve.take(KEYS * width),
        dk: carve.take(KEYS * width),
        dv: carve.take(KEYS * width),
        p: carve.take(QUERIES * KEYS),
        ds: carve.take(QUERIES * KEYS),
        kept: carve.take(KEYS),
    };
    let (b, kv) = pair;
    // SAFETY: the tiles are this worker's; the views were checked; gradients of a pair are its own.
    unsafe {
        prepare(call, pair, saved, &work, rows);
        let keys = call.keys(b);
        for s0 in (0..s).step_by(KEYS) {
            let count = KEYS.min(s - s0);
            for x in [work.dk, work.dv] {
                std::slice::from_raw_parts_mut(x, count * width).fill(0.0);
            }
            let mut packed = false;
            for first in (0..rows).step_by(QUERIES) {
                let tile = Tile::new(call, b, first..rows.min(first + QUERIES), s0);
                if tile.is_empty() {
                    continue;
                }
                if !packed {
                    let count = KEYS.min(keys - s0);
                    let k = (call.k.at(b, kv, s0), call.k.row);
                    let v = (call.v.at(b, kv, s0), call.v.row);
                    pack::turned::<I>(k, work.kt, count, d);
                    pack::turned::<I>(v, work.vt, count, d);
                    pack::rows(k, (work.k, width), count, d, call.scale);
                    packed = true;
                }
                visit::<I>(call, pair, &work, &tile, s0);
            }
            for j in 0..count {
                let row = |x: *mut f32| std::slice::from_raw_parts(x.add(j * width), d);
                if let Some(k) = gradients.k {
                    // The packed queries carry scale and log2(e).
                    k.put((b, kv, s0 + j), row(work.dk), LN_2);
                }
                if let Some(v) = gradients.v {
                    v.put((b, kv, s0 + j), row(work.dv), 1.0);
                }
            }
        }
        if let Some(q) = gradients.q {
            for r in 0..rows {
                let row = std::slice::from_raw_parts(work.dq.add(r * width), d);
                q.put((b, kv * call.group() + r / t, r % t), row, 1.0);
            }
        }
    }
}

/// Packs queries and output gradients and computes `delta = rowsum(dO O)`.
#[inline(always)]
unsafe fn prepare(
    call: &Call<'_>,
    (b, kv): (usize, usize),
    saved: Saved<'_>,
    work: &Work,
    rows: usize,
) {
    let AttentionDims { t, h, d, .. } = call.dims;
    let width = d.next_multiple_of(LANES);
    for r in 0..rows {
        let (head, position) = (kv * call.group() + r / t, r % t);
        let row = ((b * t + position) * h + head) * d;
        let (out, d_out) = (&saved.out[row..row + d], &saved.d_out[row..row + d]);
        let mut lanes = [0.0f32; LANES];
        for (o, g) in out.chunks(LANES).zip(d_out.chunks(LANES)) {
            for (lane, (o, g)) in lanes.iter_mut().zip(o.iter().zip(g)) {
                *lane += o * g;
            }
        }
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        // SAFETY: row `r` is in the tiles, the query in its view.
        unsafe {
            let q = call.q.at(b, head, position);
            pack::rows((q, 0), (work.q.add(r * width), width), 1, d, call.scale * LOG2_E);
            pack::rows((d_out.as_ptr(), 0), (work.d_out.add(r * width), width), 1, d, 1.0);
            std::slice::from_raw_parts_mut(work.dq.add(r * width), width).fill(0.0);
            *work.delta.add(r) = lanes[0];
            *work.lse.add(r) = saved.lse[(b * h + head) * t + position] * LOG2_E;
        }
    }
}

/// One tile: scores and dP, then dS row by row, then dQ, dK and dV.
#[inline(always)]
unsafe fn visit<I: Isa>(
    call: &Call<'_>,
    (b, kv): (usize, usize),
    work: &Work,
    tile: &Tile,
    s0: usize,
) {
    let AttentionDims { t, h, d, .. } = call.dims;
    let width = d.next_multiple_of(LANES);
    // SAFETY: offsets stay inside the tiles; see `retreat`.
    unsafe {
        for (left, right, into) in [(work.q, work.kt, work.p), (work.d_out, work.vt, work.ds)] {
            for (i, m, (c0, c1)) in tile.blocks() {
                let left = Left { data: left.add((tile.first + i) * width), row: width, col: 1 };
                let right = (right.add(c0).cast_const(), KEYS);
                let into = (into.add(i * KEYS + c0), KEYS);
                product::<I>((m, (c1 - c0) / LANES, d), left, right, into, false);
            }
        }
        for j in 0..tile.len {
            let r = tile.first + j;
            let head = kv * call.group() + r / t;
            let position = call.past(b) as f32 + (r % t) as f32 - s0 as f32;
            let bias = call.alibi.then(|| (-slope(head, h) * LOG2_E, position));
            let kept = call.dropout.map(|dropout| {
                let (c0, n) = (tile.columns.0, tile.columns.1 - tile.columns.0);
                let kept = std::slice::from_raw_parts_mut(work.kept.add(c0), n);
                dropout.factors((b * h + head) * t + r % t, s0 + c0, kept);
                work.kept.cast_const()
            });
            differentiate::<I>(work, tile, j, bias, kept);
        }
        for (i, m, (c0, c1)) in tile.blocks() {
            let ds = Left { data: work.ds.add(i * KEYS + c0), row: KEYS, col: 1 };
            let c1 = tile.ranges[i..i + m].iter().map(|r| r.1).max().unwrap_or(c1);
            let k = (work.k.add(c0 * width).cast_const(), width);
            let dq = (work.dq.add((tile.first + i) * width), width);
            product::<I>((m, width / LANES, c1 - c0), ds, k, dq, true);
        }
        for (tall, right, into) in [(work.p, work.d_out, work.dv), (work.ds, work.q, work.dk)] {
            let mut rows = Lookers::new(tile);
            let last = tile.ranges[..tile.len].iter().map(|r| r.1).max().unwrap_or(0);
            for c in (tile.columns.0..last).step_by(ROWS) {
                let m = ROWS.min(last - c);
                let (first, end) = rows.at(tile, c, c + m);
                let tall = Left { data: tall.add(first * KEYS + c), row: 1, col: KEYS };
                let right = (right.add((tile.first + first) * width).cast_const(), width);
                let into = (into.add(c * width), width);
                product::<I>((m, width / LANES, end - first), tall, right, into, true);
            }
        }
    }
}

/// Which rows of a tile look at a block of columns, for blocks asked from left to right.
struct Lookers {
    first: usize,
    end: usize,
}

impl Lookers {
    #[inline(always)]
    fn new(tile: &Tile) -> Self {
        let first = (0..tile.len).find(|&j| tile.ranges[j].1 > 0).unwrap_or(0);
        Self { first, end: first }
    }

    #[inline(always)]
    fn at(&mut self, tile: &Tile, c0: usize, c1: usize) -> (usize, usize) {
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

/// Row `j` of the tile: `p` from scores to (dropped) probabilities, `ds` from dP to dS; 0 where nobody looks.
#[inline(always)]
unsafe fn differentiate<I: Isa>(
    work: &Work,
    tile: &Tile,
    j: usize,
    bias: Option<(f32, f32)>,
    kept: Option<*const f32>,
) {
    let (r, range) = (tile.first + j, tile.ranges[j]);
    // SAFETY: the columns are in the rows, the rows in the tiles.
    unsafe {
        let (p, ds) = (work.p.add(j * KEYS), work.ds.add(j * KEYS));
        if range.0 >= range.1 {
            blot(p, tile.columns, (tile.columns.1, tile.columns.1), 0.0);
            blot(ds, tile.columns, (tile.columns.1, tile.columns.1), 0.0);
            return;
        }
        let columns = (range.0 / LANES * LANES, range.1.next_multiple_of(LANES));
        if let Some(bias) = bias {
            lean::<I>(p, columns, bias);
        }
        let (lse, delta) = (I::splat(*work.lse.add(r)), I::splat(*work.delta.add(r)));
        for c in (columns.0..columns.1).step_by(LANES) {
            let e = exp2::<I>(I::sub(I::load(p.add(c)), lse));
            let mut dp = I::load(ds.add(c));
            let mut dropped = e;
            if let Some(kept) = kept {
                let kept = I::load(kept.add(c));
                dp = I::mul(dp, kept);
                dropped = I::mul(e, kept);
            }
            I::store(p.add(c), dropped);
            I::store(ds.add(c), I::mul(e, I::sub(dp, delta)));
        }
        blot(p, tile.columns, range, 0.0);
        blot(ds, tile.columns, range, 0.0);
    }
}
