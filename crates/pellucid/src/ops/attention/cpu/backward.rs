//! Backward: probabilities again from the saved log-sum-exp, then five products per tile.
//!
//! With `P` the probabilities, `W` the dropout factors (1 without), `O = (P W) V`:
//! `dV = (P W)ᵀ dO`, `dP = W (dO Vᵀ)`, `delta = rowsum(dO O)`, `dS = P (dP - delta)`, `dQ = scale dS K`,
//! `dK = scale dSᵀ Q` (Dao et al. 2022, appendix B).
#![allow(unsafe_code)] // raw tiles, disjoint writes from several workers

use super::bias::{collect, lean};
use super::engine::Engine;
use super::forward::inside;
use super::simd::{Isa, LANES, exp2};
use super::tile::{Lookers, Tile, places};
#[cfg(target_arch = "x86_64")]
use super::tiles;
use super::vectors::pack_rows;
use super::{Call, Carve, Gradients, KEYS, Level, QUERIES, Saved, dispatch};
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::attention::AttentionDims;
use std::f32::consts::{LN_2, LOG2_E};

/// Floats of scratch for one worker.
pub(crate) fn backward_scratch(dims: &AttentionDims, level: Level) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(terms) = level.terms() {
        return tiles::backward_scratch(dims, terms);
    }
    dispatch!(level, floats(dims: &AttentionDims) -> usize)
}

#[inline(always)]
unsafe fn floats<E: Engine>(dims: &AttentionDims) -> usize {
    let (rows, d) = (dims.h / dims.kv * dims.t, dims.d);
    let width = d.next_multiple_of(LANES);
    let tiles = KEYS * (2 * width + 2 * QUERIES + 1);
    rows * (3 * width + 2)
        + 2 * E::left_floats(rows, d)
        + 2 * E::right_floats(rows, width, false, false)
        + 2 * E::right_floats(d, KEYS, true, true)
        + E::right_floats(KEYS, d, false, true)
        + E::left_floats(KEYS, KEYS)
        + tiles
        + 18 * LANES
}

/// One worker's tiles. Row `r` is position `r % T` of head `r / T` in the group.
struct Work<E: Engine> {
    engine: E,
    /// Queries times scale and log2(e), `(rows, width)`, and as left and right operand.
    q: *mut f32,
    q_left: *mut f32,
    q_right: *mut f32,
    /// Gradient of the output, `(rows, width)`, and as left and right operand.
    d_out: *mut f32,
    d_out_left: *mut f32,
    d_out_right: *mut f32,
    /// Gradient of the queries so far but for scale, `(rows, width)`.
    dq: *mut f32,
    /// `rowsum(dO O)`, `(rows)`.
    delta: *mut f32,
    /// Log-sum-exp in base 2, `(rows)`.
    lse: *mut f32,
    /// Keys and values turned, and keys, as operands.
    kt: *mut f32,
    vt: *mut f32,
    k: *mut f32,
    /// Gradients of this tile's keys and values so far, `(128, width)`.
    dk: *mut f32,
    dv: *mut f32,
    /// Probabilities, and gradients of the scores, `(64, 128)`, and some rows of either as an operand.
    p: *mut f32,
    ds: *mut f32,
    left: *mut f32,
    /// Dropout factors of a row.
    kept: *mut f32,
}

impl<E: Engine> Work<E> {
    #[inline(always)]
    unsafe fn new(dims: &AttentionDims, mut carve: Carve) -> Self {
        let (rows, d) = (dims.h / dims.kv * dims.t, dims.d);
        let width = d.next_multiple_of(LANES);
        Self {
            // SAFETY: the caller promised the engine's instructions.
            engine: unsafe { E::new() },
            q: carve.take(rows * width),
            q_left: carve.take(E::left_floats(rows, d)),
            q_right: carve.take(E::right_floats(rows, width, false, false)),
            d_out: carve.take(rows * width),
            d_out_left: carve.take(E::left_floats(rows, d)),
            d_out_right: carve.take(E::right_floats(rows, width, false, false)),
            dq: carve.take(rows * width),
            delta: carve.take(rows),
            lse: carve.take(rows),
            kt: carve.take(E::right_floats(d, KEYS, true, true)),
            vt: carve.take(E::right_floats(d, KEYS, true, true)),
            k: carve.take(E::right_floats(KEYS, d, false, true)),
            dk: carve.take(KEYS * width),
            dv: carve.take(KEYS * width),
            p: carve.take(QUERIES * KEYS),
            ds: carve.take(QUERIES * KEYS),
            left: carve.take(E::left_floats(KEYS, KEYS)),
            kept: carve.take(KEYS),
        }
    }
}

/// Queries and output gradients as operands, all rows.
struct OfRows<E: Engine> {
    q_left: E::Left,
    q_right: E::Right,
    d_out_left: E::Left,
    d_out_right: E::Right,
}

/// Keys and values as operands, one tile.
struct OfKeys<E: Engine> {
    kt: E::Right,
    vt: E::Right,
    k: E::Right,
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
    let per_worker = backward_scratch(&call.dims, call.level);
    assert!(saved.out.len() == b * t * h * d && saved.d_out.len() == b * t * h * d);
    assert!(saved.lse.len() == b * h * t && scratch.len() >= pool.threads() * per_worker);
    let scratch = Ptr(scratch.as_mut_ptr());
    #[cfg(target_arch = "x86_64")]
    if let Some(terms) = call.level.terms() {
        // SAFETY: such a level exists only where AMX does; everything was checked above.
        return unsafe {
            match terms {
                1 => tiles::backward::<1>(pool, call, saved, gradients, scratch, per_worker),
                _ => tiles::backward::<3>(pool, call, saved, gradients, scratch, per_worker),
            }
        };
    }
    pool.run(&|worker| {
        for i in (worker..b * kv).step_by(pool.threads()) {
            let pair = (i / kv, i % kv);
            // SAFETY: each worker has its own share of the scratch.
            let carve = unsafe { Carve::new(scratch, worker, per_worker) };
            let to = gradients;
            dispatch!(
                call.level,
                retreat(call: &Call<'_>, pair: (usize, usize), saved: Saved<'_>, to: Gradients, carve: Carve)
            );
        }
    });
}

/// One (batch row, kv head). The engine's instructions must exist.
#[inline(always)]
unsafe fn retreat<E: Engine>(
    call: &Call<'_>,
    pair: (usize, usize),
    saved: Saved<'_>,
    gradients: Gradients,
    carve: Carve,
) {
    let AttentionDims { t, s, d, .. } = call.dims;
    let (rows, width) = (call.group() * t, d.next_multiple_of(LANES));
    let (b, kv) = pair;
    // SAFETY: the tiles are this worker's; the views were checked; gradients of a pair are its own.
    unsafe {
        let mut work = Work::<E>::new(&call.dims, carve);
        prepare(call, pair, saved, &work, rows);
        let (q, d_out) = ((work.q.cast_const(), width), (work.d_out.cast_const(), width));
        let of_rows = OfRows::<E> {
            q_left: work.engine.left(q, (rows, d), false, work.q_left),
            q_right: work.engine.right(q, (rows, width), false, false, work.q_right),
            d_out_left: work.engine.left(d_out, (rows, d), false, work.d_out_left),
            d_out_right: work.engine.right(d_out, (rows, width), false, false, work.d_out_right),
        };
        let keys = call.keys(b);
        for s0 in (0..s).step_by(KEYS) {
            for x in [work.dk, work.dv] {
                std::slice::from_raw_parts_mut(x, KEYS * width).fill(0.0);
            }
            let mut of_keys = None;
            for first in (0..rows).step_by(QUERIES) {
                let tile = Tile::new::<E>(call, b, first..rows.min(first + QUERIES), s0);
                if tile.is_empty() {
                    continue;
                }
                let of_keys = of_keys.get_or_insert_with(|| {
                    let count = KEYS.min(keys - s0);
                    let k = (call.k.at(b, kv, s0), call.k.row);
                    let v = (call.v.at(b, kv, s0), call.v.row);
                    OfKeys::<E> {
                        kt: work.engine.right(k, (d, count), true, true, work.kt),
                        vt: work.engine.right(v, (d, count), true, true, work.vt),
                        k: work.engine.right(k, (count, d), false, true, work.k),
                    }
                });
                scores(call, pair, &mut work, &tile, s0, (&of_rows, of_keys));
                products(&mut work, &tile, (&of_rows, of_keys), width);
            }
            deliver(&work, gradients, (b, kv, s0), KEYS.min(s - s0), d);
        }
        if let Some(q) = gradients.q {
            for (r, (head, position)) in places(t, 0..rows).enumerate() {
                let row = std::slice::from_raw_parts(work.dq.add(r * width), d);
                q.put((b, kv * call.group() + head, position), row, call.scale);
            }
        }
    }
}

/// Writes the gradients of the keys and values from `first` on.
#[inline(always)]
unsafe fn deliver<E: Engine>(
    work: &Work<E>,
    gradients: Gradients,
    (b, kv, first): (usize, usize, usize),
    count: usize,
    d: usize,
) {
    let width = d.next_multiple_of(LANES);
    // SAFETY: rows of the tile; the gradients of a pair are its worker's own.
    unsafe {
        for j in 0..count {
            let row = |x: *mut f32| std::slice::from_raw_parts(x.add(j * width), d);
            if let Some(k) = gradients.k {
                // The packed queries carry scale and log2(e).
                k.put((b, kv, first + j), row(work.dk), LN_2);
            }
            if let Some(v) = gradients.v {
                v.put((b, kv, first + j), row(work.dv), 1.0);
            }
        }
    }
}

/// Packs queries and output gradients and computes `delta = rowsum(dO O)`.
#[inline(always)]
unsafe fn prepare<E: Engine>(
    call: &Call<'_>,
    (b, kv): (usize, usize),
    saved: Saved<'_>,
    work: &Work<E>,
    rows: usize,
) {
    let AttentionDims { t, h, d, .. } = call.dims;
    let width = d.next_multiple_of(LANES);
    for (r, (head, position)) in places(t, 0..rows).enumerate() {
        let head = kv * call.group() + head;
        let row = ((b * t + position) * h + head) * d;
        let (out, d_out) = (&saved.out[row..row + d], &saved.d_out[row..row + d]);
        // SAFETY: row `r` is in the tiles, the query in its view.
        unsafe {
            let mut lanes = E::I::splat(0.0);
            let mut rest = 0.0;
            for c in (0..d).step_by(LANES) {
                if c + LANES <= d {
                    let (o, g) = (E::I::load(out[c..].as_ptr()), E::I::load(d_out[c..].as_ptr()));
                    lanes = E::I::fma(o, g, lanes);
                } else {
                    rest = out[c..].iter().zip(&d_out[c..]).map(|(o, g)| o * g).sum();
                }
            }
            *work.delta.add(r) = E::I::sum(lanes) + rest;
            *work.lse.add(r) = saved.lse[(b * h + head) * t + position] * LOG2_E;
            let q = call.q.at(b, head, position);
            pack_rows((q, 0), (work.q.add(r * width), width), 1, d, call.scale * LOG2_E);
            pack_rows((d_out.as_ptr(), 0), (work.d_out.add(r * width), width), 1, d, 1.0);
            std::slice::from_raw_parts_mut(work.dq.add(r * width), width).fill(0.0);
        }
    }
}

/// One tile: scores and dP, then `p` and `ds` row by row.
#[inline(always)]
unsafe fn scores<E: Engine>(
    call: &Call<'_>,
    (b, kv): (usize, usize),
    work: &mut Work<E>,
    tile: &Tile,
    s0: usize,
    (of_rows, of_keys): (&OfRows<E>, &OfKeys<E>),
) {
    let AttentionDims { t, h, d, .. } = call.dims;
    // SAFETY: offsets stay inside the tiles; see `retreat`.
    unsafe {
        for (left, right, into) in
            [(of_rows.q_left, of_keys.kt, work.p), (of_rows.d_out_left, of_keys.vt, work.ds)]
        {
            for (i, m, (c0, c1)) in tile.strips() {
                let (left, right) = (E::below(left, tile.first + i), E::beyond(right, 0, c0));
                let into = (into.add(i * KEYS + c0), KEYS);
                work.engine.product((m, c1 - c0, d), left, right, into, false);
            }
        }
        work.engine.flush();
        for j in 0..tile.len {
            let (head, position) = tile.places[j];
            let head = kv * call.group() + head;
            let who = (b, head, position, s0);
            lean::<E::I>(call, work.p.add(j * KEYS), tile.columns, who);
            let kept = call.dropout.map(|dropout| {
                let (c0, n) = (tile.columns.0, tile.columns.1 - tile.columns.0);
                let kept = std::slice::from_raw_parts_mut(work.kept.add(c0), n);
                dropout.factors((b * h + head) * t + position, s0 + c0, kept);
                work.kept.cast_const()
            });
            differentiate(work, tile, j, kept);
            collect(call, work.ds.add(j * KEYS), tile.ranges[j], who);
        }
    }
}

/// One tile: dQ, dV and dK from `p` and `ds`.
#[inline(always)]
unsafe fn products<E: Engine>(
    work: &mut Work<E>,
    tile: &Tile,
    (of_rows, of_keys): (&OfRows<E>, &OfKeys<E>),
    width: usize,
) {
    // SAFETY: offsets stay inside the tiles; see `retreat`.
    unsafe {
        for (i, m, (c0, _)) in tile.strips() {
            let k = tile.end(i..i + m) - c0;
            let ds = (work.ds.add(i * KEYS + c0).cast_const(), KEYS);
            let ds = work.engine.left(ds, (m, k), false, work.left);
            let dq = (work.dq.add((tile.first + i) * width), width);
            work.engine.product((m, width, k), ds, E::beyond(of_keys.k, c0, 0), dq, true);
        }
        let last = tile.end(0..tile.len);
        for (p, right, into) in
            [(work.p, of_rows.d_out_right, work.dv), (work.ds, of_rows.q_right, work.dk)]
        {
            let mut lookers = Lookers::new(tile);
            for c in (tile.columns.0..last).step_by(E::STRIP) {
                let m = E::STRIP.min(last - c);
                let (first, end) = lookers.at(tile, c, c + m);
                let first = if E::GRAIN > LANES { first / E::GRAIN * E::GRAIN } else { first };
                if first >= end {
                    continue;
                }
                let p = (p.add(first * KEYS + c).cast_const(), KEYS);
                let p = work.engine.left(p, (m, end - first), true, work.left);
                let right = E::beyond(right, tile.first + first, 0);
                let into = (into.add(c * width), width);
                work.engine.product((m, width, end - first), p, right, into, true);
            }
        }
        work.engine.flush();
    }
}

/// Row `j` of the tile: `p` from scores to (dropped) probabilities, `ds` from dP to dS; 0 where nobody looks.
#[inline(always)]
unsafe fn differentiate<E: Engine>(
    work: &Work<E>,
    tile: &Tile,
    j: usize,
    kept: Option<*const f32>,
) {
    let r = tile.first + j;
    // SAFETY: the columns are in the rows, the rows in the tiles.
    unsafe {
        let (p, ds) = (work.p.add(j * KEYS), work.ds.add(j * KEYS));
        let lse = E::I::splat(*work.lse.add(r));
        let delta = E::I::splat(*work.delta.add(r));
        let zero = E::I::splat(0.0);
        for c in (tile.columns.0..tile.columns.1).step_by(LANES) {
            let Some((lo, hi)) = inside(c, tile.ranges[j]) else {
                E::I::store(p.add(c), zero);
                E::I::store(ds.add(c), zero);
                continue;
            };
            let mut e = exp2::<E::I>(E::I::sub(E::I::load(p.add(c)), lse));
            let mut dp = E::I::load(ds.add(c));
            if (lo, hi) != (0, LANES) {
                e = E::I::within(e, lo, hi, 0.0);
                dp = E::I::within(dp, lo, hi, 0.0);
            }
            let mut dropped = e;
            if let Some(kept) = kept {
                let kept = E::I::load(kept.add(c));
                dp = E::I::mul(dp, kept);
                dropped = E::I::mul(e, kept);
            }
            E::I::store(p.add(c), dropped);
            E::I::store(ds.add(c), E::I::mul(e, E::I::sub(dp, delta)));
        }
    }
}
