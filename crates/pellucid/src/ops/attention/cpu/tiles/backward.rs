//! Backward: probabilities again from the saved log-sum-exp, then five products for each tile of 128 keys and 128
//! rows. The formulas are at the vectors' version.
#![allow(unsafe_code)] // raw tiles, disjoint writes from several workers

use super::block::{Block, Forms, differentiate};
use super::kernel::{BLOCK, PANEL, Product, Queue, step};
use super::lanes::{dot, ones, put_row, put_turned};
use super::pack::{Source, along, down};
use super::plan::{Memory, SIDE, Visit, span};
use super::rows::Rows;
use super::{Take, deal};
use crate::backend::cpu::gemm::amx;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::attention::AttentionDims;
use crate::ops::attention::cpu::{Call, Carve, Gradients, LANES, Saved};
use std::arch::x86_64::*;
use std::f32::consts::{LN_2, LOG2_E};

/// Floats of scratch for one worker.
pub(in super::super) fn backward_scratch(dims: &AttentionDims, terms: usize) -> usize {
    let mut take = Take::Count(0);
    Memory::plan(dims, terms, &mut take);
    take.total()
}

/// See `backward` of the room.
///
/// # Safety
/// The machine has AMX; operands were checked; `scratch` holds `per_worker` floats for each worker.
pub(in super::super) unsafe fn backward<const TERMS: usize>(
    pool: &Pool,
    call: &Call<'_>,
    saved: Saved<'_>,
    gradients: Gradients,
    scratch: Ptr<f32>,
    per_worker: usize,
) {
    let AttentionDims { b, kv, .. } = call.dims;
    let costs: Vec<usize> = (0..b * kv).map(|i| call.keys(i / kv)).collect();
    let workers = deal(&costs, pool.threads());
    pool.run(&|worker| {
        // SAFETY: each worker has its own share of the scratch; gradients of a pair are its own.
        unsafe {
            let mut take = Take::Carve(Carve::new(scratch, worker, per_worker));
            let mut work = Work::<TERMS> {
                _tiles: amx::Tiles::configure(),
                at: Memory::plan(&call.dims, TERMS, &mut take),
                width: call.dims.d.div_ceil(PANEL),
                rows: Rows::default(),
                lse: vec![],
                delta: vec![],
                rows_started: vec![],
                keys_started: vec![],
                queue: Queue::default(),
            };
            for i in (0..b * kv).filter(|i| workers[*i] == worker) {
                work.retreat(call, (i / kv, i % kv), saved, gradients);
            }
        }
    });
}

struct Work<const TERMS: usize> {
    _tiles: amx::Tiles,
    at: Memory,
    /// Steps of D.
    width: usize,
    rows: Rows,
    /// Log-sum-exp in base 2, and `rowsum(dO O)`, of each row.
    lse: Vec<f32>,
    delta: Vec<f32>,
    /// Panels whose gradients hold something.
    rows_started: Vec<bool>,
    keys_started: Vec<bool>,
    queue: Queue<TERMS>,
}

#[allow(clippy::undocumented_unsafe_blocks)] // all: offsets stay inside what `Memory::plan` took
impl<const TERMS: usize> Work<TERMS> {
    const STEP: usize = step(TERMS);

    /// One (batch row, kv head).
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn retreat(
        &mut self,
        call: &Call<'_>,
        pair: (usize, usize),
        saved: Saved<'_>,
        gradients: Gradients,
    ) {
        let (s, keys) = (call.dims.s, call.keys(pair.0));
        unsafe {
            self.start(call, pair, saved);
            let panels = self.rows.panels.len();
            for s0 in (0..s).step_by(span(TERMS) * PANEL) {
                self.keys_started.clear();
                self.keys_started.resize(span(TERMS), false);
                let count = (span(TERMS) * PANEL).min(keys.saturating_sub(s0));
                self.keys(call, pair, s0, count);
                for i in (0..panels).step_by(SIDE) {
                    for j in (0..count.div_ceil(PANEL)).step_by(SIDE) {
                        let visit = self.tile(i, j, s0);
                        if !visit.blocks.is_empty() {
                            self.visit(call, pair.0, s0, &visit);
                            self.products(&visit);
                        }
                    }
                }
                self.deliver_keys(
                    gradients,
                    pair,
                    s0,
                    (span(TERMS) * PANEL).min(s - s0),
                    call.dims.d,
                );
            }
            self.deliver_rows(call, gradients, pair.0);
        }
    }

    /// What is to do in the tile of row panels from `rows` on and key panels from `keys` on.
    fn tile(&self, rows: usize, keys: usize, s0: usize) -> Visit {
        let mut visit = Visit { rows, keys, ..Visit::default() };
        for (row, panel) in self.rows.panels.iter().skip(rows).take(SIDE).enumerate() {
            for key in panel.blocks(s0 + keys * PANEL, SIDE.min(span(TERMS) - keys)) {
                visit.see(row, key);
            }
        }
        visit
    }

    /// Looks up and packs queries and output gradients and computes `delta`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn start(&mut self, call: &Call<'_>, (b, kv): (usize, usize), saved: Saved<'_>) {
        let AttentionDims { t, h, d, .. } = call.dims;
        self.rows.set(call, (b, kv), 0..call.group() * t);
        let panels = self.rows.panels.len();
        self.rows_started.clear();
        self.rows_started.resize(panels, false);
        for x in [&mut self.lse, &mut self.delta] {
            x.clear();
            x.resize(panels * PANEL, 0.0);
        }
        let row = |head, position| ((b * t + position) * h + head) * d;
        for panel in 0..panels {
            unsafe {
                let size = (d, call.q.row, call.scale * LOG2_E);
                let at = |head, position| call.q.at(b, head, position);
                let source = self.rows.source(panel, size, self.at.gather, at);
                self.pack_rows(source, panel, (self.at.q, self.at.q_down));
                let at = |head, position| saved.d_out[row(head, position)..].as_ptr();
                let source = self.rows.source(panel, (d, h * d, 1.0), self.at.gather, at);
                self.pack_rows(source, panel, (self.at.d_out, self.at.d_out_down));
            }
        }
        for (i, &(head, position)) in self.rows.places.iter().enumerate() {
            self.lse[i] = saved.lse[(b * h + head) * t + position] * LOG2_E;
            let row = row(head, position);
            self.delta[i] = dot(&saved.out[row..row + d], &saved.d_out[row..row + d]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn pack_rows(&self, source: Source, panel: usize, (to, to_down): (*mut u8, *mut u8)) {
        let all = self.rows.panels.len();
        unsafe {
            along::<TERMS, true>(source, to.add(panel * self.width * Self::STEP));
            down::<TERMS, false>(source, to_down.add(panel * Self::STEP), all * Self::STEP);
        }
    }

    /// Packs `count` keys and values from `s0` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn keys(&self, call: &Call<'_>, (b, kv): (usize, usize), s0: usize, count: usize) {
        for i in 0..count.div_ceil(PANEL) {
            let s = s0 + i * PANEL;
            let rows = PANEL.min(s0 + count - s);
            unsafe {
                let (cols, scale) = (call.dims.d, 1.0);
                let k = Source { data: call.k.at(b, kv, s), pitch: call.k.row, rows, cols, scale };
                let v = Source { data: call.v.at(b, kv, s), pitch: call.v.row, ..k };
                along::<TERMS, false>(k, self.at.k.add(i * self.width * Self::STEP));
                along::<TERMS, false>(v, self.at.v.add(i * self.width * Self::STEP));
                let to = self.at.k_down.add(i * Self::STEP);
                down::<TERMS, true>(k, to, span(TERMS) * Self::STEP);
            }
        }
    }

    /// A tile's P and dS.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn visit(&mut self, call: &Call<'_>, b: usize, s0: usize, visit: &Visit) {
        unsafe {
            for place in visit.holes() {
                self.forms(place).clear(Self::STEP);
            }
            for &(row, key) in &visit.blocks {
                self.scores(visit, (row, key));
                self.queue.run();
                let (panel, s) = (visit.rows + row, s0 + (visit.keys + key) * PANEL);
                let scores = self.at.scores;
                if call.alibi {
                    self.rows.lean(panel, s, scores);
                }
                if call.dropout.is_some() {
                    let kept = std::slice::from_raw_parts_mut(self.at.kept, BLOCK);
                    self.rows.kept(call, b, panel, s, kept);
                }
                let load = |x: &[f32], half: usize| {
                    let at = panel * PANEL + half * LANES;
                    _mm512_loadu_ps(x[at..at + LANES].as_ptr())
                };
                let block = Block {
                    scores,
                    dp: scores.add(BLOCK),
                    kept: self.at.kept,
                    s,
                    looks: [self.rows.looks(panel, 0), self.rows.looks(panel, 1)],
                    lse: [load(&self.lse, 0), load(&self.lse, 1)],
                    delta: [load(&self.delta, 0), load(&self.delta, 1)],
                };
                let forms = self.forms((row, key));
                let whole = self.rows.panels[panel].whole(s);
                match (call.dropout.is_some(), whole) {
                    (false, true) => differentiate::<TERMS, false, false>(&block, forms),
                    (false, false) => differentiate::<TERMS, true, false>(&block, forms),
                    (true, _) => differentiate::<TERMS, true, true>(&block, forms),
                }
            }
        }
    }

    /// Asks for the scores and dP of a block.
    fn scores(&mut self, visit: &Visit, (row, key): (usize, usize)) {
        let row = (visit.rows + row) * self.width * Self::STEP;
        let key = (visit.keys + key) * self.width * Self::STEP;
        let Memory { q, k, v, d_out, scores, .. } = self.at;
        for (j, (left, right)) in [(k, q), (v, d_out)].into_iter().enumerate() {
            self.queue.push(Product {
                a: left.wrapping_add(key),
                b: right.wrapping_add(row),
                steps: self.width,
                c: scores.wrapping_add(j * BLOCK),
                add: false,
            });
        }
    }

    /// Where a block's P and dS go.
    unsafe fn forms(&self, (row, key): (usize, usize)) -> Forms {
        let left = (key * SIDE + row) * Self::STEP;
        let right = (row * SIDE + key) * Self::STEP;
        let Memory { p, ds, ds_right, .. } = self.at;
        unsafe { Forms { p: p.add(left), ds: ds.add(left), ds_right: ds_right.add(right) } }
    }

    /// A tile's products: dV and dK of each panel of keys, dQ of each panel of rows.
    unsafe fn products(&mut self, visit: &Visit) {
        for i in 0..SIDE {
            for values in [true, false] {
                for column in 0..self.width {
                    let product = self.key_product(visit, i, column, values);
                    product.into_iter().for_each(|product| self.queue.push(product));
                }
            }
        }
        for i in 0..SIDE {
            for column in 0..self.width {
                let product = self.row_product(visit, i, column);
                product.into_iter().for_each(|product| self.queue.push(product));
            }
        }
        for i in 0..SIDE {
            if visit.of_keys[i].1 > 0 {
                self.keys_started[visit.keys + i] = true;
            }
            if visit.of_rows[i].1 > 0 {
                self.rows_started[visit.rows + i] = true;
            }
        }
        unsafe { self.queue.run() };
    }

    /// 32 of D of dV, or of dK, of a panel of keys.
    fn key_product(&self, visit: &Visit, i: usize, column: usize, values: bool) -> Option<Product> {
        let (first, end) = visit.of_keys[i];
        let Memory { p, ds, dk, dv, q_down, d_out_down, .. } = self.at;
        let (left, right, to) = if values { (p, d_out_down, dv) } else { (ds, q_down, dk) };
        let (panel, rows) = (visit.keys + i, self.rows.panels.len());
        (first < end).then(|| Product {
            a: left.wrapping_add((i * SIDE + first) * Self::STEP),
            b: right.wrapping_add((column * rows + visit.rows + first) * Self::STEP),
            steps: end - first,
            c: to.wrapping_add((panel * self.width + column) * BLOCK),
            add: self.keys_started[panel],
        })
    }

    /// 32 of D of dQ of a panel of rows.
    fn row_product(&self, visit: &Visit, i: usize, column: usize) -> Option<Product> {
        let (first, end) = visit.of_rows[i];
        let Memory { k_down, ds_right, dq, .. } = self.at;
        let panel = visit.rows + i;
        let left = (column * span(TERMS) + visit.keys + first) * Self::STEP;
        (first < end).then(|| Product {
            a: k_down.wrapping_add(left),
            b: ds_right.wrapping_add((i * SIDE + first) * Self::STEP),
            steps: end - first,
            c: dq.wrapping_add((panel * self.width + column) * BLOCK),
            add: self.rows_started[panel],
        })
    }

    /// Writes the gradients of `count` keys and values from `s0` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn deliver_keys(
        &self,
        gradients: Gradients,
        (b, kv): (usize, usize),
        s0: usize,
        count: usize,
        d: usize,
    ) {
        // The packed queries carry scale and log2(e).
        for (target, from, scale) in
            [(gradients.k, self.at.dk, LN_2), (gradients.v, self.at.dv, 1.0)]
        {
            let Some(target) = target else { continue };
            for j in 0..count {
                let panel = j / PANEL;
                let to = target.at((b, kv, s0 + j), d);
                let scale = if self.keys_started[panel] { scale } else { 0.0 };
                for d0 in (0..d).step_by(LANES) {
                    let at = (panel * self.width + d0 / PANEL) * BLOCK + j % PANEL * PANEL;
                    unsafe {
                        let row = _mm512_loadu_ps(from.add(at + d0 % PANEL));
                        put_row(row, scale, (ones(d - d0), target.accumulate), to.add(d0));
                    }
                }
            }
        }
    }

    /// Writes the gradients of the queries.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn deliver_rows(&self, call: &Call<'_>, gradients: Gradients, b: usize) {
        let Some(target) = gradients.q else { return };
        let d = call.dims.d;
        for first in (0..self.rows.len).step_by(LANES) {
            let (panel, half) = (first / PANEL, first % PANEL / LANES);
            let to: [*mut f32; LANES] = std::array::from_fn(|i| {
                let place = self.rows.places.get(first + i);
                place.map_or(std::ptr::null_mut(), |place| target.at((b, place.0, place.1), d))
            });
            for d0 in (0..d).step_by(LANES) {
                let mask = ones(d - d0);
                unsafe {
                    if self.rows_started[panel] {
                        let from = self.at.dq.add((panel * self.width * PANEL + d0) * PANEL);
                        let (from, scale) = (from.add(half * LANES), _mm512_set1_ps(call.scale));
                        put_turned(from, scale, (mask, target.accumulate), (&to, d0));
                    } else {
                        for to in to.into_iter().filter(|to| !to.is_null()) {
                            put_row(
                                _mm512_setzero_ps(),
                                0.0,
                                (mask, target.accumulate),
                                to.add(d0),
                            );
                        }
                    }
                }
            }
        }
    }
}
