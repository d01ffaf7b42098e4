//! Blocks of rows of one head, each one matrix product on the calling thread.
//!
//! What is written by rows of queries is split by (batch row, head, block of queries); what is written by rows of
//! keys by (batch row, key/value head, block of keys), which sums over the heads that share it. So no element
//! belongs to two units of work, and its sum's order depends on sizes alone. Where a head's rows are not
//! contiguous, a product goes to the worker's own memory first.
#![allow(unsafe_code)] // disjoint rows of one buffer go to different threads

mod mix;
mod scores;
mod softmax;

pub(super) use mix::{d_pattern, d_values, mix};
pub(super) use scores::{Call, d_added, d_keys, d_queries, scores};
pub(super) use softmax::{d_softmax, softmax};

use crate::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm_block};
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::attention::AttentionDims;
use crate::ops::simd::multiversion;
use std::ops::Range;

/// Queries, or keys, of one unit of work.
const BLOCK: usize = 64;

multiversion! {
    fn add<const FMA: bool>(to: &mut [f32], from: &[f32]) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
    }
}
/// Where the heads of one operand lie in a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Of the first head at the first position.
    pub(super) offset: usize,
    /// Elements between positions.
    pub(super) row: usize,
    /// Of each batch row.
    pub(super) positions: usize,
    /// Width of a head.
    pub(super) d: usize,
}

impl Place {
    fn at(&self, b: usize, i: usize, head: usize) -> usize {
        self.offset + (b * self.positions + i) * self.row + head * self.d
    }
}

/// Heads to read.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub(super) data: &'a [f32],
    pub(super) place: Place,
}

impl<'a> Heads<'a> {
    /// One head from position `i` on.
    fn from(&self, b: usize, i: usize, head: usize) -> Mat<'a> {
        Mat::rows(&self.data[self.place.at(b, i, head)..], self.place.row)
    }
}

/// Heads to write.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) data: Ptr<f32>,
    pub(super) len: usize,
    pub(super) place: Place,
    pub(super) accumulate: bool,
}

impl Target {
    /// Writes `rows (n, D)` to positions `i..i + n` of one head.
    ///
    /// # Safety
    /// Nobody else touches these rows of this head, and `data` has `len` elements.
    unsafe fn put(&self, b: usize, i: usize, head: usize, rows: &[f32]) {
        let d = self.place.d;
        for (n, from) in rows.chunks_exact(d).enumerate() {
            let at = self.place.at(b, i + n, head);
            assert!(at + d <= self.len, "lengths are checked by the tape");
            // SAFETY: inside the buffer (just checked), and ours (the caller's promise).
            let to = unsafe { self.data.slice(at, d) };
            if self.accumulate { add(to, from) } else { to.copy_from_slice(from) }
        }
    }
}

/// `columns` of every row of `data` become 0.
pub(super) fn clear(pool: &Pool, data: &mut [f32], width: usize, columns: Range<usize>) {
    assert!(columns.end <= width);
    let (rows, out) = (data.len() / width, Ptr(data.as_mut_ptr()));
    pool.split(rows, 16, &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one range.
            unsafe { out.slice(row * width + columns.start, columns.len()) }.fill(0.0);
        }
    });
}

/// Elements of memory that one worker needs.
pub(super) fn memory(dims: &AttentionDims) -> usize {
    BLOCK * (dims.t.max(dims.s) + dims.d)
}

/// `f(unit, memory)` for each unit in `0..n`, each worker with memory of its own.
fn share(
    pool: &Pool,
    n: usize,
    (scratch, each): (&mut [f32], usize),
    f: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let threads = pool.threads();
    assert!(scratch.len() >= threads * each, "scratch() says how much");
    let scratch = Ptr(scratch.as_mut_ptr());
    pool.run(&|worker| {
        // SAFETY: each worker has its own part, inside scratch by the assertion.
        let own = unsafe { scratch.slice(worker * each, each) };
        for unit in n * worker / threads..n * (worker + 1) / threads {
            f(unit, own);
        }
    });
}

/// One unit of work: rows of queries of a head, or rows of keys of a key/value head.
struct Unit {
    b: usize,
    head: usize,
    rows: Range<usize>,
}

impl Unit {
    fn count(batch: usize, heads: usize, rows: usize) -> usize {
        batch * heads * rows.div_ceil(BLOCK)
    }

    fn nth(unit: usize, heads: usize, rows: usize) -> Self {
        let blocks = rows.div_ceil(BLOCK);
        let (head, first) = (unit / blocks, unit % blocks * BLOCK);
        Self { b: head / heads, head: head % heads, rows: first..(first + BLOCK).min(rows) }
    }
}

fn product(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_>,
    b: Mat<'_>,
    c: (&mut [f32], usize),
    more: bool,
) {
    gemm_block(Precision::F32, GemmDims { m, n, k }, a, b, c.0, c.1, more);
}
