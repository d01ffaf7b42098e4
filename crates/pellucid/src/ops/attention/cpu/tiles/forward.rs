//! Forward: for each tile of keys, for each panel of 32 queries: scores, online softmax, values.
#![allow(unsafe_code)] // raw tiles, disjoint writes from several workers

use super::kernel::{BLOCK, PANEL, Product, Queue, step};
use super::lanes::{exp2, ln, ones, put_turned};
use super::pack::{Source, along, down};
use super::rows::Rows;
use super::softmax::{Softmax, exponentials, find_largest};
use super::{Take, deal};
use crate::backend::cpu::gemm::amx;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::attention::AttentionDims;
use crate::ops::attention::cpu::forward::Results;
use crate::ops::attention::cpu::{Call, Carve, LANES};
use std::arch::x86_64::*;
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

/// Blocks of 32 keys in a tile.
const BLOCKS: usize = 4;
const KEYS: usize = BLOCKS * PANEL;
/// Most rows of an item: their sums stay in L2 while keys and values pass by.
const ROWS: usize = 1024;
/// Below this, a score is taken for "nothing yet".
const LOWEST: f32 = -1e30;
/// How much larger (in base 2) than the score that exponentials refer to a new one may be.
const SLACK: f32 = 8.0;

/// Query rows of a (batch row, kv head) that one worker does in one go.
struct Item {
    b: usize,
    kv: usize,
    rows: Range<usize>,
}

/// One worker's memory. Panels of operands are as `kernel` wants them.
#[derive(Clone, Copy)]
struct Memory {
    /// Queries times scale and log2(e), turned: a panel for each 32 rows.
    q: *mut u8,
    /// Keys: a panel for each 32 keys. Values turned: a panel for each 32 of D, a step for each 32 keys.
    k: *mut u8,
    v: *mut u8,
    /// Scores `(BLOCKS, 32 keys, 32 rows)`, and their exponentials as right operands.
    scores: *mut f32,
    p: *mut u8,
    /// Unnormalised outputs `(panel, D / 32, 32 of D, 32 rows)`.
    o: *mut f32,
    /// Dropout factors `(BLOCKS, 32 keys, 32 rows)`.
    kept: *mut f32,
    gather: *mut f32,
}

impl Memory {
    fn plan(dims: &AttentionDims, terms: usize, take: &mut Take) -> Self {
        let width = dims.d.div_ceil(PANEL);
        let panels = (dims.h / dims.kv * dims.t).min(ROWS).div_ceil(PANEL);
        let step = step(terms);
        Self {
            q: take.bytes(panels * width * step),
            k: take.bytes(BLOCKS * width * step),
            v: take.bytes(BLOCKS * width * step),
            scores: take.floats(BLOCKS * BLOCK),
            p: take.bytes(BLOCKS * step),
            o: take.floats(panels * width * BLOCK),
            kept: take.floats(BLOCKS * BLOCK),
            gather: take.floats(PANEL * dims.d),
        }
    }
}

/// Floats of scratch for one worker.
pub(in super::super) fn forward_scratch(dims: &AttentionDims, terms: usize) -> usize {
    let mut take = Take::Count(0);
    Memory::plan(dims, terms, &mut take);
    take.total()
}

/// Items from the first rows to the last of each (batch row, kv head), and the worker of each.
fn items(call: &Call<'_>, threads: usize) -> (Vec<Item>, Vec<usize>) {
    let AttentionDims { b, t, kv, .. } = call.dims;
    let rows = call.group() * t;
    let parts = (4 * threads).div_ceil(b * kv);
    let size = rows.div_ceil(parts).next_multiple_of(PANEL).clamp(4 * PANEL, ROWS);
    let mut items = vec![];
    for pair in 0..b * kv {
        for first in (0..rows).step_by(size) {
            items.push(Item { b: pair / kv, kv: pair % kv, rows: first..rows.min(first + size) });
        }
    }
    let cost = |i: &Item| i.rows.clone().map(|r| call.range(i.b, r % t).len() + 16).sum();
    let costs: Vec<usize> = items.iter().map(cost).collect();
    let workers = deal(&costs, threads);
    (items, workers)
}

/// See `forward` of the room.
///
/// # Safety
/// The machine has AMX; operands were checked; `scratch` holds `per_worker` floats for each worker.
pub(in super::super) unsafe fn forward<const TERMS: usize>(
    pool: &Pool,
    call: &Call<'_>,
    results: Results,
    scratch: Ptr<f32>,
    per_worker: usize,
) {
    let (items, workers) = items(call, pool.threads());
    pool.run(&|worker| {
        // SAFETY: each worker has its own share of the scratch, and the outputs of an item are its own.
        unsafe {
            let mut take = Take::Carve(Carve::new(scratch, worker, per_worker));
            let mut work = Work::<TERMS> {
                _tiles: amx::Tiles::configure(),
                at: Memory::plan(&call.dims, TERMS, &mut take),
                width: call.dims.d.div_ceil(PANEL),
                rows: Rows::default(),
                reference: vec![],
                sums: vec![],
                started: vec![],
                queue: Queue::default(),
            };
            for (item, _) in items.iter().zip(&workers).filter(|(_, w)| **w == worker) {
                work.attend(call, item, results);
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
    /// The score that each row's exponentials refer to, and their sum so far.
    reference: Vec<f32>,
    sums: Vec<f32>,
    /// Panels whose outputs hold something.
    started: Vec<bool>,
    queue: Queue<TERMS>,
}

/// A panel of queries at a tile of keys.
struct Visit {
    panel: usize,
    s0: usize,
    blocks: Range<usize>,
}

#[allow(clippy::undocumented_unsafe_blocks)] // all: offsets stay inside what `Memory::plan` took
impl<const TERMS: usize> Work<TERMS> {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn attend(&mut self, call: &Call<'_>, item: &Item, results: Results) {
        let keys = call.keys(item.b);
        unsafe {
            self.start(call, item);
            for s0 in (0..keys).step_by(KEYS) {
                let mut packed = false;
                for panel in 0..self.rows.panels.len() {
                    let blocks = self.rows.panels[panel].blocks(s0, BLOCKS);
                    if blocks.is_empty() {
                        continue;
                    }
                    if !packed {
                        self.keys(call, item, s0, KEYS.min(keys - s0));
                        packed = true;
                    }
                    self.visit(call, item, &Visit { panel, s0, blocks });
                }
            }
            self.finish(call, item, results);
        }
    }

    /// Looks up and packs the item's queries.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn start(&mut self, call: &Call<'_>, item: &Item) {
        self.rows.set(call, (item.b, item.kv), item.rows.clone());
        let panels = self.rows.panels.len();
        self.started.clear();
        self.started.resize(panels, false);
        for (x, value) in [(&mut self.reference, LOWEST), (&mut self.sums, 0.0)] {
            x.clear();
            x.resize(panels * PANEL, value);
        }
        let size = (call.dims.d, call.q.row, call.scale * LOG2_E);
        for panel in 0..panels {
            unsafe {
                let at = |head, position| call.q.at(item.b, head, position);
                let source = self.rows.source(panel, size, self.at.gather, at);
                along::<TERMS, true>(source, self.queries(panel));
            }
        }
    }

    fn queries(&self, panel: usize) -> *mut u8 {
        self.at.q.wrapping_add(panel * self.width * step(TERMS))
    }

    fn outputs(&self, panel: usize) -> *mut f32 {
        self.at.o.wrapping_add(panel * self.width * BLOCK)
    }

    /// Packs `count` keys and values from `s0` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn keys(&self, call: &Call<'_>, item: &Item, s0: usize, count: usize) {
        for i in 0..count.div_ceil(PANEL) {
            let s = s0 + i * PANEL;
            let rows = PANEL.min(s0 + count - s);
            let source = |view: &crate::ops::attention::cpu::View<'_>| {
                let data = view.at(item.b, item.kv, s);
                Source { data, pitch: view.row, rows, cols: call.dims.d, scale: 1.0 }
            };
            unsafe {
                along::<TERMS, false>(source(&call.k), self.at.k.add(i * self.width * step(TERMS)));
                let v = self.at.v.add(i * step(TERMS));
                down::<TERMS, true>(source(&call.v), v, BLOCKS * step(TERMS));
            }
        }
    }

    /// A panel of queries at a tile of keys.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn visit(&mut self, call: &Call<'_>, item: &Item, visit: &Visit) {
        unsafe {
            self.scores(visit);
            self.queue.run();
            let mut softmax = self.renew(call, item, visit);
            for i in visit.blocks.clone() {
                self.exponentials(call, visit, i, &mut softmax);
            }
            self.close(visit, &softmax);
            self.values(visit);
            self.queue.run();
        }
    }

    fn block(&self, i: usize) -> *mut f32 {
        self.at.scores.wrapping_add(i * BLOCK)
    }

    fn weights(&self, i: usize) -> *mut u8 {
        self.at.p.wrapping_add(i * step(TERMS))
    }

    /// Asks for a panel's scores.
    fn scores(&mut self, visit: &Visit) {
        for i in visit.blocks.clone() {
            self.queue.push(Product {
                a: self.at.k.wrapping_add(i * self.width * step(TERMS)),
                b: self.queries(visit.panel),
                steps: self.width,
                c: self.block(i),
                add: false,
            });
        }
    }

    /// Asks for a panel's values, added to its outputs.
    fn values(&mut self, visit: &Visit) {
        let Range { start, end } = visit.blocks;
        for i in 0..self.width {
            self.queue.push(Product {
                a: self.at.v.wrapping_add((i * BLOCKS + start) * step(TERMS)),
                b: self.weights(start),
                steps: end - start,
                c: self.outputs(visit.panel).wrapping_add(i * BLOCK),
                add: self.started[visit.panel],
            });
        }
        self.started[visit.panel] = true;
    }

    /// Biases, the largest scores, and what was summed before brought to them.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn renew(&mut self, call: &Call<'_>, item: &Item, visit: &Visit) -> Softmax {
        let panel = visit.panel;
        let looks = [self.rows.looks(panel, 0), self.rows.looks(panel, 1)];
        let mut largest = [[_mm512_set1_ps(LOWEST); 4]; 2];
        for i in visit.blocks.clone() {
            let (s, scores) = (visit.s0 + i * PANEL, self.block(i));
            unsafe {
                if call.alibi {
                    self.rows.lean(panel, s, scores);
                }
                if call.dropout.is_some() {
                    let kept = std::slice::from_raw_parts_mut(self.at.kept.add(i * BLOCK), BLOCK);
                    self.rows.kept(call, item.b, panel, s, kept);
                }
                match self.rows.panels[panel].whole(s) {
                    true => find_largest::<false>(scores, &looks, s, &mut largest),
                    false => find_largest::<true>(scores, &looks, s, &mut largest),
                }
            }
        }
        let mut softmax = Softmax {
            looks,
            reference: [_mm512_setzero_ps(); 2],
            before: [_mm512_setzero_ps(); 2],
            sums: [_mm512_setzero_ps(); 2],
        };
        for half in 0..2 {
            let [a, b, c, d] = largest[half];
            let largest = _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d));
            let at = panel * PANEL + half * LANES;
            unsafe {
                let old = _mm512_loadu_ps(self.reference[at..at + LANES].as_ptr());
                let sum = _mm512_loadu_ps(self.sums[at..at + LANES].as_ptr());
                let limit = _mm512_add_ps(old, _mm512_set1_ps(SLACK));
                let up = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(largest, limit);
                softmax.reference[half] = _mm512_mask_mov_ps(old, up, largest);
                softmax.before[half] = sum;
                if up != 0 && self.started[panel] {
                    let shrink = exp2::<3>(_mm512_sub_ps(old, softmax.reference[half]));
                    softmax.before[half] = _mm512_mul_ps(sum, shrink);
                    for i in 0..self.width * PANEL {
                        let o = self.outputs(panel).add(i * PANEL + half * LANES);
                        _mm512_storeu_ps(o, _mm512_mul_ps(_mm512_loadu_ps(o), shrink));
                    }
                }
            }
        }
        softmax
    }

    /// Block `i` of scores to exponentials.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn exponentials(&self, call: &Call<'_>, visit: &Visit, i: usize, to: &mut Softmax) {
        let (s, scores, p) = (visit.s0 + i * PANEL, self.block(i), self.weights(i));
        let whole = self.rows.panels[visit.panel].whole(s);
        unsafe {
            let kept = self.at.kept.add(i * BLOCK).cast_const();
            match (call.dropout.is_some(), whole) {
                (false, true) => exponentials::<TERMS, false, false>(scores, p, to, s, kept),
                (false, false) => exponentials::<TERMS, true, false>(scores, p, to, s, kept),
                (true, _) => exponentials::<TERMS, true, true>(scores, p, to, s, kept),
            }
        }
    }

    /// Writes the state of a panel back.
    #[target_feature(enable = "avx512f")]
    fn close(&mut self, visit: &Visit, softmax: &Softmax) {
        for half in 0..2 {
            let at = visit.panel * PANEL + half * LANES;
            let sum = _mm512_add_ps(softmax.before[half], softmax.sums[half]);
            unsafe {
                _mm512_storeu_ps(self.sums[at..at + LANES].as_mut_ptr(), sum);
                let reference = self.reference[at..at + LANES].as_mut_ptr();
                _mm512_storeu_ps(reference, softmax.reference[half]);
            }
        }
    }

    /// Divides by the sums and writes rows out.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn finish(&mut self, call: &Call<'_>, item: &Item, results: Results) {
        let AttentionDims { t, h, d, .. } = call.dims;
        for first in (0..self.rows.len).step_by(LANES) {
            let (panel, half) = (first / PANEL, first % PANEL / LANES);
            let row = |i: usize| (first + i < self.rows.len).then(|| self.rows.places[first + i]);
            let to: [*mut f32; LANES] = std::array::from_fn(|i| {
                row(i).map_or(std::ptr::null_mut(), |(head, position)| {
                    results.out.0.wrapping_add(((item.b * t + position) * h + head) * d)
                })
            });
            unsafe {
                let sum = _mm512_loadu_ps(self.sums[first..first + LANES].as_ptr());
                let reference = _mm512_loadu_ps(self.reference[first..first + LANES].as_ptr());
                let lse = _mm512_fmadd_ps(reference, _mm512_set1_ps(LN_2), ln(sum));
                let inverse = _mm512_div_ps(_mm512_set1_ps(1.0), sum);
                if self.started[panel] {
                    for d0 in (0..d).step_by(LANES) {
                        let o = self.outputs(panel).add(d0 * PANEL + half * LANES);
                        put_turned(o, inverse, (ones(d - d0), false), (&to, d0));
                    }
                }
                let mut each = [0.0f32; LANES];
                _mm512_storeu_ps(each.as_mut_ptr(), lse);
                for (i, lse) in each.into_iter().enumerate() {
                    let Some((head, position)) = row(i) else { break };
                    let blind = self.rows.blind(first + i);
                    if blind {
                        let start = ((item.b * t + position) * h + head) * d;
                        results.out.slice(start, d).fill(0.0);
                    }
                    if let Some(to) = results.lse {
                        let lse = if blind { f32::NEG_INFINITY } else { lse };
                        to.slice((item.b * h + head) * t + position, 1)[0] = lse;
                    }
                }
            }
        }
    }
}
