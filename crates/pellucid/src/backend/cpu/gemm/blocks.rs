//! Blocks and workers around the tile kernel.
//!
//! One operand is *shared*: the workers pack it together and all read it. The other is *streamed*:
//! each worker owns a contiguous part and packs it block by block into its L2. K is cut by k alone,
//! so the order of additions in an element of C depends on nothing else.

use std::ops::Range;

use super::amx::{K_STEP, PANEL, Panels, Tiles, multiply, panel_bytes};
use super::pack::{Operand, ones, pack};
use super::pending::Pending;
use super::scratch::Purpose;
use super::{Finish, Limits, Tile, dots};
use crate::backend::cpu::pool::{Pool, Ptr};

/// Panels of columns in one finished tile of C when the columns are shared.
const FINISH_PANELS: usize = 4;
/// Steps of 32 × 32 × 32 below which waking other workers costs more than it saves.
const SOLO_STEPS: usize = 16;

/// A product as the tile kernel sees it.
pub(super) struct Product<'a> {
    pub(super) a: Operand,
    pub(super) b: Operand,
    pub(super) c: Ptr<f32>,
    pub(super) c_stride: usize,
    pub(super) accumulate: bool,
    pub(super) finish: Finish<'a>,
    pub(super) limits: Limits,
    /// On AMX tiles; else one term on AVX-512 vectors.
    pub(super) tiles: bool,
}

/// Contiguous parts of equal size, but for one unit.
fn part(n: usize, index: usize, parts: usize) -> Range<usize> {
    n * index / parts..n * (index + 1) / parts
}

/// Equal parts of at most `most` of `0..n`.
fn parts(n: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = n.div_ceil(most);
    (0..count).map(move |i| part(n, i, count))
}

/// A function that `run` runs on every worker.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// Computes a product with k > 0, m > 0 and n > 0; no pool: on the calling thread.
///
/// # Safety
/// `Features::used` is `Amx`, or AVX-512 with bf16 exists, `TERMS` is 1 and `p.tiles` is not set; the operands are
/// readable; c is writable and nobody else's.
pub(super) unsafe fn product<const TERMS: usize>(pool: Option<&Pool>, p: &Product<'_>) {
    let (m_panels, n_panels) = (p.a.extent.div_ceil(PANEL), p.b.extent.div_ceil(PANEL));
    let steps = p.a.k.div_ceil(K_STEP);
    let pool = pool.filter(|_| m_panels * n_panels * steps > SOLO_STEPS);
    let workers = pool.map_or(1, Pool::threads);
    let run = |work: Work<'_>| match pool {
        Some(pool) => pool.run(work),
        None => work(0),
    };
    let share_b = split_rows(m_panels, n_panels, workers);
    let shared_panels = if share_b { n_panels } else { m_panels };
    let k_parts = steps.div_ceil(p.limits.k_block / K_STEP);
    let k_steps = steps.div_ceil(k_parts); // of the largest block

    let most_panels = (p.limits.shared_bytes / panel_bytes(TERMS, k_steps)).max(1);
    for shared in parts(shared_panels, most_panels) {
        let together =
            (p.limits.shared_bytes / (panel_bytes(TERMS, k_steps) * shared.len())).max(1);
        for k_range in parts(k_parts, together) {
            let k_range = KRange { k: p.a.k, steps, parts: k_parts, range: k_range };
            let bytes = panel_bytes(TERMS, k_range.steps()) * shared.len();
            Purpose::Shared.lend(bytes, |packed| {
                let stage = Stage::<TERMS> { p, share_b, shared: shared.clone(), k_range, packed };
                run(&|worker| stage.pack_shared(worker, workers));
                run(&|worker| stage.multiply(worker, workers));
            });
        }
    }
}

/// Whether workers should split rows of C (and share B) or columns (and share A).
fn split_rows(m_panels: usize, n_panels: usize, workers: usize) -> bool {
    let balance = |panels: usize| panels as f64 / (panels.div_ceil(workers) * workers) as f64;
    let (rows, cols) = (balance(m_panels), balance(n_panels));
    if (rows - cols).abs() > 0.04 { rows > cols } else { m_panels >= n_panels }
}

/// Consecutive blocks of K.
struct KRange {
    k: usize,
    steps: usize,
    parts: usize,
    range: Range<usize>,
}

impl KRange {
    fn steps(&self) -> usize {
        part(self.steps, self.range.end - 1, self.parts).end
            - part(self.steps, self.range.start, self.parts).start
    }

    /// Values of k in block `i`, and the steps before it in this range.
    fn block(&self, i: usize) -> (Range<usize>, usize) {
        let steps = part(self.steps, i, self.parts);
        let before = steps.start - part(self.steps, self.range.start, self.parts).start;
        (steps.start * K_STEP..(steps.end * K_STEP).min(self.k), before)
    }
}

/// The product of one packed part of the shared operand with all of the streamed one.
struct Stage<'a, const TERMS: usize> {
    p: &'a Product<'a>,
    share_b: bool,
    shared: Range<usize>,
    k_range: KRange,
    /// Blocks of K, in each the shared panels.
    packed: *mut u8,
}

// SAFETY: workers write disjoint panels of `packed` and disjoint parts of c.
unsafe impl<const TERMS: usize> Sync for Stage<'_, TERMS> {}

impl<const TERMS: usize> Stage<'_, TERMS> {
    fn operands(&self) -> (&Operand, &Operand) {
        if self.share_b { (&self.p.b, &self.p.a) } else { (&self.p.a, &self.p.b) }
    }

    /// Where block `i` of K begins in `packed`.
    fn packed_block(&self, before: usize) -> *mut u8 {
        self.packed.wrapping_add(panel_bytes(TERMS, before) * self.shared.len())
    }

    /// This worker's part of the shared panels: some panels, or some steps of all of them,
    /// whichever reads longer runs of memory.
    fn pack_shared(&self, worker: usize, workers: usize) {
        let operand = self.operands().0;
        for i in self.k_range.range.clone() {
            let (k, before) = self.k_range.block(i);
            let steps = k.len().div_ceil(K_STEP);
            let (mine, only) = if operand.k_contiguous {
                (part(self.shared.len(), worker, workers), 0..steps)
            } else {
                (0..self.shared.len(), part(steps, worker, workers))
            };
            let panels = self.shared.start + mine.start..self.shared.start + mine.end;
            let out = self.packed_block(before);
            let out = out.wrapping_add(panel_bytes(TERMS, steps) * mine.start);
            // SAFETY: AMX machines have AVX-512; only this worker writes these steps.
            unsafe { pack::<TERMS>(operand, panels, k, only, out) };
        }
    }

    /// This worker's part of the streamed operand, block by block.
    fn multiply(&self, worker: usize, workers: usize) {
        // SAFETY: `product` promises AMX where tiles are asked for.
        let _tiles = self.p.tiles.then(|| unsafe { Tiles::configure() });
        let streamed = self.operands().1;
        let mine = part(streamed.extent.div_ceil(PANEL), worker, workers);
        for block in parts(mine.len(), self.p.limits.stream_panels) {
            let block = mine.start + block.start..mine.start + block.end;
            for i in self.k_range.range.clone() {
                let (k, before) = self.k_range.block(i);
                let bytes = panel_bytes(TERMS, k.len().div_ceil(K_STEP)) * block.len();
                Purpose::Streamed.lend(bytes, |packed| {
                    let only = 0..k.len().div_ceil(K_STEP);
                    // SAFETY: as in `pack_shared`; the buffer is this thread's.
                    unsafe { pack::<TERMS>(streamed, block.clone(), k.clone(), only, packed) };
                    self.block(i, k, self.packed_block(before), block.clone(), packed);
                });
            }
        }
    }

    /// All shared panels with one packed block of streamed panels.
    fn block(
        &self,
        i: usize,
        k: Range<usize>,
        shared: *const u8,
        block: Range<usize>,
        streamed: *const u8,
    ) {
        let bytes = panel_bytes(TERMS, k.len().div_ceil(K_STEP));
        let last = i + 1 == self.k_range.parts;
        let group = if self.share_b { FINISH_PANELS } else { 1 };
        let steps = k.len().div_ceil(K_STEP);
        let mut sums =
            Sums { blocks: [[0.0; PANEL * PANEL]; 2], turn: 0, pending: Pending::NOTHING };
        // While a shared panel is in use, the next one comes to L2, an eighth at a time.
        let soon = |panel: usize, part: usize| {
            let next = if panel + 1 == self.shared.end { 0 } else { panel + 1 - self.shared.start };
            shared.wrapping_add(next * bytes + bytes / 8 * part.min(7))
        };
        for first in self.shared.clone().step_by(group) {
            let panels = first..(first + group).min(self.shared.end);
            for panel in panels.clone() {
                let s = shared.wrapping_add((panel - self.shared.start) * bytes);
                for (j, other) in block.clone().enumerate() {
                    let t = streamed.wrapping_add(j * bytes);
                    let (a, b) = if self.share_b { (t, s) } else { (s, t) };
                    let at = Panels {
                        a,
                        b,
                        next: t.wrapping_add(panel_bytes(TERMS, 1)),
                        again: s,
                        soon: soon(panel, j),
                    };
                    let (row, col) = if self.share_b { (other, panel) } else { (panel, other) };
                    let next = self.pending(i, row * PANEL, col * PANEL);
                    // SAFETY: tiles are configured in `multiply`; the panels were packed with
                    // `steps` steps; this worker alone has this part of c.
                    unsafe { sums.multiply::<TERMS>(self.p.tiles, at, steps, next) };
                }
            }
            if let (true, Some(finish)) = (last, self.p.finish) {
                // SAFETY: as above.
                unsafe { sums.pending.flush() };
                let (rows, cols) =
                    if self.share_b { (block.clone(), panels) } else { (panels, block.clone()) };
                let rows = rows.start * PANEL..(rows.end * PANEL).min(self.p.a.extent);
                let cols = cols.start * PANEL..(cols.end * PANEL).min(self.p.b.extent);
                // SAFETY: this worker alone has this part of c, and is done with it.
                finish(unsafe { Tile::new(self.p.c, self.p.c_stride, rows, cols) });
            }
        }
        // SAFETY: as above.
        unsafe { sums.pending.flush() };
    }

    /// Where the sums of one 32 × 32 block of C go.
    fn pending(&self, i: usize, row: usize, col: usize) -> Pending {
        let (rows, cols) = (self.p.a.extent - row, self.p.b.extent - col);
        Pending {
            from: std::ptr::null(),
            to: self.p.c.0.wrapping_add(row * self.p.c_stride + col),
            stride: self.p.c_stride * size_of::<f32>(),
            rows: rows.min(PANEL),
            masks: [ones(cols.min(16)), ones(cols.saturating_sub(16).min(16))],
            add: i > 0 || self.p.accumulate,
        }
    }
}

/// Two blocks of sums in turn: one is computed while the other is written to C.
#[repr(align(64))]
struct Sums {
    blocks: [[f32; PANEL * PANEL]; 2],
    turn: usize,
    pending: Pending,
}

impl Sums {
    /// # Safety
    /// See [`multiply`] and [`dots::multiply`]; nobody else touches the part of c that `next` describes.
    unsafe fn multiply<const TERMS: usize>(
        &mut self,
        tiles: bool,
        at: Panels,
        steps: usize,
        next: Pending,
    ) {
        let sums = self.blocks[self.turn].as_mut_ptr();
        // SAFETY: `pending` is about the other block.
        unsafe {
            if tiles {
                multiply::<TERMS>(at, steps, sums, &mut self.pending);
            } else {
                dots::multiply(at, steps, sums, &mut self.pending);
            }
        }
        self.pending = Pending { from: sums, ..next };
        self.turn = 1 - self.turn;
    }
}
