//! Forward: for each tile of keys, for each tile of queries: scores, online softmax, values.
#![allow(unsafe_code)] // raw tiles, disjoint writes from several workers

use super::bias::lean;
use super::engine::Engine;
use super::simd::{Isa, LANES, exp2};
use super::tile::{Tile, places};
#[cfg(target_arch = "x86_64")]
use super::tiles;
use super::vectors::pack_rows;
use super::{Call, Carve, KEYS, Level, QUERIES, dispatch};
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::attention::AttentionDims;
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

/// Floats of scratch for one worker.
pub(crate) fn forward_scratch(dims: &AttentionDims, level: Level) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(terms) = level.terms() {
        return tiles::forward_scratch(dims, terms);
    }
    dispatch!(level, floats(dims: &AttentionDims) -> usize)
}

#[inline(always)]
unsafe fn floats<E: Engine>(dims: &AttentionDims) -> usize {
    let (rows, d) = (dims.h / dims.kv * dims.t, dims.d);
    rows * (2 * d.next_multiple_of(LANES) + LANES + 1)
        + E::left_floats(rows, d)
        + E::right_floats(d, KEYS, true, true)
        + E::right_floats(KEYS, d, false, true)
        + E::left_floats(QUERIES, KEYS)
        + QUERIES * KEYS
        + KEYS
        + 11 * LANES
}

/// What one worker does in one go: query tiles `chunk` of `chunks` of a (batch row, kv head).
#[derive(Clone, Copy)]
struct Item {
    b: usize,
    kv: usize,
    chunk: usize,
    chunks: usize,
}

impl Item {
    /// Tiles are dealt out to and fro, because later queries of a causal mask see more keys.
    fn owns(&self, tile: usize) -> bool {
        let (round, place) = (tile / self.chunks, tile % self.chunks);
        let place = if round.is_multiple_of(2) { place } else { self.chunks - 1 - place };
        place == self.chunk
    }
}

/// Where the results go.
#[derive(Clone, Copy)]
pub(super) struct Results {
    /// `(B, T, H * D)`
    pub(super) out: Ptr<f32>,
    /// `(B, H, T)`, natural logarithm.
    pub(super) lse: Option<Ptr<f32>>,
}

/// One worker's tiles. Row `r` is position `r % T` of head `r / T` in the group.
struct Work<E: Engine> {
    engine: E,
    /// Queries times scale and log2(e), `(rows, width)`, and as an operand.
    q: *mut f32,
    queries: *mut f32,
    /// Unnormalised outputs, `(rows, width)`.
    o: *mut f32,
    /// Largest score so far, `(rows)`.
    largest: *mut f32,
    /// Sums of exponentials so far, lane by lane, `(rows, 16)`.
    sums: *mut f32,
    /// Keys and values as operands.
    k: *mut f32,
    v: *mut f32,
    /// Scores, then probabilities, `(64, 128)`, and some rows of them as an operand.
    p: *mut f32,
    weights: *mut f32,
    /// Dropout factors of a row.
    kept: *mut f32,
}

/// Writes `out (B, T, H * D)` and `lse (B, H, T)`; a row that looks at nothing gets 0 and -inf.
/// `scratch` holds `forward_scratch` floats for each worker.
pub(crate) fn forward(
    pool: &Pool,
    call: &Call<'_>,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    let AttentionDims { b, t, h, kv, d, .. } = call.dims;
    call.check();
    let per_worker = forward_scratch(&call.dims, call.level);
    assert!(out.len() == b * t * h * d && scratch.len() >= pool.threads() * per_worker);
    assert!(lse.as_ref().is_none_or(|l| l.len() == b * h * t));
    let tiles = (call.group() * t).div_ceil(QUERIES);
    let chunks = (2 * pool.threads()).div_ceil(b * kv).min(tiles);
    let results = Results { out: Ptr(out.as_mut_ptr()), lse: lse.map(|l| Ptr(l.as_mut_ptr())) };
    let scratch = Ptr(scratch.as_mut_ptr());
    #[cfg(target_arch = "x86_64")]
    if let Some(terms) = call.level.terms() {
        // SAFETY: such a level exists only where AMX does; everything was checked above.
        return unsafe {
            match terms {
                1 => tiles::forward::<1>(pool, call, results, scratch, per_worker),
                _ => tiles::forward::<3>(pool, call, results, scratch, per_worker),
            }
        };
    }
    pool.run(&|worker| {
        for i in (worker..b * kv * chunks).step_by(pool.threads()) {
            let (pair, chunk) = (i / chunks, i % chunks);
            let item = Item { b: pair / kv, kv: pair % kv, chunk, chunks };
            // SAFETY: each worker has its own share of the scratch.
            let carve = unsafe { Carve::new(scratch, worker, per_worker) };
            dispatch!(
                call.level,
                attend(call: &Call<'_>, item: Item, carve: Carve, results: Results)
            );
        }
    });
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
            queries: carve.take(E::left_floats(rows, d)),
            o: carve.take(rows * width),
            largest: carve.take(rows),
            sums: carve.take(rows * LANES),
            k: carve.take(E::right_floats(d, KEYS, true, true)),
            v: carve.take(E::right_floats(KEYS, d, false, true)),
            p: carve.take(QUERIES * KEYS),
            weights: carve.take(E::left_floats(QUERIES, KEYS)),
            kept: carve.take(KEYS),
        }
    }

    /// Packs the queries of `rows` and starts their sums.
    #[inline(always)]
    unsafe fn start(&mut self, call: &Call<'_>, item: Item, rows: Range<usize>) {
        let (t, d) = (call.dims.t, call.dims.d);
        let width = d.next_multiple_of(LANES);
        for (r, (head, position)) in rows.clone().zip(places(t, rows)) {
            // SAFETY: row `r` is in the tiles, the query in its view.
            unsafe {
                let q = call.q.at(item.b, item.kv * call.group() + head, position);
                pack_rows((q, 0), (self.q.add(r * width), width), 1, d, call.scale * LOG2_E);
                std::slice::from_raw_parts_mut(self.o.add(r * width), width).fill(0.0);
                std::slice::from_raw_parts_mut(self.sums.add(r * LANES), LANES).fill(0.0);
                *self.largest.add(r) = f32::NEG_INFINITY;
            }
        }
    }
}

/// One item. The engine's instructions must exist.
#[inline(always)]
unsafe fn attend<E: Engine>(call: &Call<'_>, item: Item, carve: Carve, results: Results) {
    let AttentionDims { t, d, .. } = call.dims;
    let (rows, width) = (call.group() * t, d.next_multiple_of(LANES));
    let tiles = || (0..rows.div_ceil(QUERIES)).filter(|i| item.owns(*i));
    let rows_of = |i: usize| i * QUERIES..((i + 1) * QUERIES).min(rows);
    // SAFETY: the tiles are this worker's; the views were checked; outputs of an item are its own.
    unsafe {
        let mut work = Work::<E>::new(&call.dims, carve);
        let mut all = Span { first: usize::MAX, end: 0 };
        for i in tiles() {
            work.start(call, item, rows_of(i));
            all = Span { first: all.first.min(i * QUERIES), end: rows_of(i).end };
        }
        let Span { first, end } = all;
        let source = (work.q.add(first * width).cast_const(), width);
        let queries = work.engine.left(source, (end - first, d), false, work.queries);
        let keys = call.keys(item.b);
        for s0 in (0..keys).step_by(KEYS) {
            let count = KEYS.min(keys - s0);
            let mut operands = None;
            for tile in tiles().map(|i| Tile::new::<E>(call, item.b, rows_of(i), s0)) {
                if tile.is_empty() {
                    continue;
                }
                let (k, v) = *operands.get_or_insert_with(|| {
                    let k = (call.k.at(item.b, item.kv, s0), call.k.row);
                    let v = (call.v.at(item.b, item.kv, s0), call.v.row);
                    let copy = rows > QUERIES;
                    let k = work.engine.right(k, (d, count), true, true, work.k);
                    (k, work.engine.right(v, (count, d), false, copy, work.v))
                });
                let q = E::below(queries, tile.first - first);
                visit(call, item, &mut work, &tile, s0, (q, k, v));
            }
        }
        for i in tiles() {
            finish(call, item, &work, rows_of(i), results);
        }
    }
}

/// Rows from the first to the last of an item.
struct Span {
    first: usize,
    end: usize,
}

/// One tile: scores, online softmax, values.
#[inline(always)]
unsafe fn visit<E: Engine>(
    call: &Call<'_>,
    item: Item,
    work: &mut Work<E>,
    tile: &Tile,
    s0: usize,
    (q, k, v): (E::Left, E::Right, E::Right),
) {
    let AttentionDims { t, h, d, .. } = call.dims;
    let width = d.next_multiple_of(LANES);
    // SAFETY: offsets stay inside the tiles; see `attend`.
    unsafe {
        for (i, m, (c0, c1)) in tile.strips() {
            let p = (work.p.add(i * KEYS + c0), KEYS);
            let (q, k) = (E::below(q, i), E::beyond(k, 0, c0));
            work.engine.product((m, c1 - c0, d), q, k, p, false);
        }
        work.engine.flush();
        for (i, m, columns) in tile.strips() {
            for j in i..i + m {
                let (r, p) = (tile.first + j, work.p.add(j * KEYS));
                let (head, position) = tile.places[j];
                let head = item.kv * call.group() + head;
                lean::<E::I>(call, p, columns, (item.b, head, position, s0));
                soften(p, columns, tile.ranges[j], work, r, width);
                if let Some(dropout) = call.dropout {
                    let (c0, n) = (columns.0, columns.1 - columns.0);
                    let kept = std::slice::from_raw_parts_mut(work.kept, n);
                    dropout.factors((item.b * h + head) * t + position, s0 + c0, kept);
                    let p = std::slice::from_raw_parts_mut(p.add(c0), n);
                    p.iter_mut().zip(kept).for_each(|(p, kept)| *p *= *kept);
                }
            }
        }
        for (i, m, (c0, _)) in tile.strips() {
            let k = tile.end(i..i + m) - c0;
            let p = (work.p.add(i * KEYS + c0).cast_const(), KEYS);
            let p = work.engine.left(p, (m, k), false, work.weights);
            let o = (work.o.add((tile.first + i) * width), width);
            work.engine.product((m, width, k), p, E::beyond(v, c0, 0), o, true);
        }
        work.engine.flush();
    }
}

/// What of columns `c..c + 16` lies in `lo..hi`, counted from `c`; `None`: nothing, `(0, 16)`: all.
#[inline(always)]
pub(super) fn inside(c: usize, (lo, hi): (usize, usize)) -> Option<(usize, usize)> {
    let (lo, hi) = (lo.saturating_sub(c), hi.saturating_sub(c).min(LANES));
    (lo < hi).then_some((lo, hi))
}

/// A row's scores become exponentials; what was summed before is brought to the new largest score.
#[inline(always)]
unsafe fn soften<E: Engine>(
    p: *mut f32,
    columns: (usize, usize),
    range: (usize, usize),
    work: &Work<E>,
    r: usize,
    width: usize,
) {
    // SAFETY: the columns are in the row, the row in the tiles.
    unsafe {
        let mut largest = E::I::splat(f32::NEG_INFINITY);
        for c in (columns.0..columns.1).step_by(LANES) {
            match inside(c, range) {
                Some((0, LANES)) => largest = E::I::max(largest, E::I::load(p.add(c))),
                Some((lo, hi)) => {
                    let x = E::I::within(E::I::load(p.add(c)), lo, hi, f32::NEG_INFINITY);
                    largest = E::I::max(largest, x);
                }
                None => E::I::store(p.add(c), E::I::splat(0.0)),
            }
        }
        let before = *work.largest.add(r);
        let largest = before.max(E::I::largest(largest));
        let sums = work.sums.add(r * LANES);
        let mut sum = E::I::load(sums);
        if largest > before && before > f32::NEG_INFINITY {
            let shrink = exp2::<E::I>(E::I::splat(before - largest));
            sum = E::I::mul(sum, shrink);
            for i in (0..width).step_by(LANES) {
                let o = work.o.add(r * width + i);
                E::I::store(o, E::I::mul(E::I::load(o), shrink));
            }
        }
        *work.largest.add(r) = largest;
        let (one, largest) = (E::I::splat(1.0), E::I::splat(largest));
        for c in (columns.0..columns.1).step_by(LANES) {
            let Some((lo, hi)) = inside(c, range) else { continue };
            let mut e = exp2::<E::I>(E::I::sub(E::I::load(p.add(c)), largest));
            if (lo, hi) != (0, LANES) {
                e = E::I::within(e, lo, hi, 0.0);
            }
            E::I::store(p.add(c), e);
            sum = E::I::fma(e, one, sum);
        }
        E::I::store(sums, sum);
    }
}

/// Divides rows by their sums and writes them out.
#[inline(always)]
unsafe fn finish<E: Engine>(
    call: &Call<'_>,
    item: Item,
    work: &Work<E>,
    rows: Range<usize>,
    results: Results,
) {
    let AttentionDims { t, h, d, .. } = call.dims;
    for (r, (head, position)) in rows.clone().zip(places(t, rows)) {
        let head = item.kv * call.group() + head;
        // SAFETY: row (b, head, position) belongs to this item alone.
        unsafe {
            let out = results.out.slice(((item.b * t + position) * h + head) * d, d);
            let lse = if call.range(item.b, position).is_empty() {
                out.fill(0.0);
                f32::NEG_INFINITY
            } else {
                let sum = E::I::sum(E::I::load(work.sums.add(r * LANES)));
                let o = std::slice::from_raw_parts(work.o.add(r * d.next_multiple_of(LANES)), d);
                out.iter_mut().zip(o).for_each(|(out, o)| *out = o / sum);
                *work.largest.add(r) * LN_2 + sum.ln()
            };
            if let Some(to) = results.lse {
                to.slice((item.b * h + head) * t + position, 1)[0] = lse;
            }
        }
    }
}
