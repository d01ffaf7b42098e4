//! Chunks of rows and columns of the logits, and the products around them.

use super::LinearCrossEntropy;
use super::cpu::{self, Chunk, STATE};
use crate::autograd::Grad;
use crate::backend::cpu::gemm::{GemmDims, Mat, Tile, gemm};
use crate::backend::cpu::pool::Pool;
use std::ops::Range;

/// Those that are wanted.
#[derive(Default)]
pub(super) struct Gradients<'a> {
    pub(super) dx: Option<Grad<'a>>,
    pub(super) dw: Option<Grad<'a>>,
    pub(super) db: Option<Grad<'a>>,
}

/// What all chunks read.
pub(super) struct Sweep<'a> {
    op: &'a LinearCrossEntropy,
    pool: &'a Pool,
    x: &'a [f32],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    targets: &'a [i32],
}

/// `0..n` in pieces.
fn pieces(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size.max(1);
    (0..n).step_by(size).map(move |start| start..(start + size).min(n))
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        op: &'a LinearCrossEntropy,
        pool: &'a Pool,
        x: &'a [f32],
        params: &[&'a [f32]],
        targets: &'a [i32],
    ) -> Self {
        Self { op, pool, x, w: params[0], bias: params.get(1).copied(), targets }
    }

    /// Losses of all rows; with `scale`, gradients times it.
    pub(super) fn run(
        &self,
        losses: &mut [f32],
        scratch: &mut [f32],
        scale: Option<f32>,
        mut gradients: Gradients<'_>,
    ) {
        let op = self.op;
        for rows in pieces(op.n, op.rows) {
            if self.targets[rows.clone()].iter().all(|&t| t == op.ignore) {
                losses[rows.clone()].fill(0.0);
                if let Some(Grad { data, accumulate: false }) = &mut gradients.dx {
                    data[rows.start * op.c..rows.end * op.c].fill(0.0);
                }
                continue;
            }
            let (state, z) = scratch.split_at_mut(rows.len() * STATE);
            self.statistics(&rows, state, z);
            let losses = &mut losses[rows.clone()];
            cpu::losses(op, &self.targets[rows.clone()], state, losses, scale.unwrap_or(0.0));
            if scale.is_some() {
                self.pull(&rows, state, z, &mut gradients);
                // The next rows' parameter gradients are added to these.
                let params = [&mut gradients.dw, &mut gradients.db];
                params.into_iter().flatten().for_each(|g| g.accumulate = true);
            }
        }
        // Nothing counted: what stands in a fresh gradient is still rubbish.
        let params = [gradients.dw, gradients.db];
        for grad in params.into_iter().flatten().filter(|g| !g.accumulate) {
            grad.data.fill(0.0);
        }
    }

    /// First sweep: each row's largest logit, sum of exponentials, sum, and its target's logit.
    fn statistics(&self, rows: &Range<usize>, state: &mut [f32], z: &mut [f32]) {
        cpu::begin(state);
        let targets = &self.targets[rows.clone()];
        for columns in pieces(self.op.v, self.op.columns) {
            self.logits(rows, &columns, z);
            let chunk = Chunk { pool: self.pool, targets, columns };
            chunk.statistics(self.op, z, state);
        }
    }

    /// Second sweep: logits (still there if there is one chunk) to their gradients, and these to the operands'.
    fn pull(&self, rows: &Range<usize>, state: &[f32], z: &mut [f32], to: &mut Gradients<'_>) {
        let (mut first, whole) = (true, self.op.columns >= self.op.v);
        let targets = &self.targets[rows.clone()];
        for columns in pieces(self.op.v, self.op.columns) {
            if !whole {
                self.logits(rows, &columns, z);
            }
            let dz = &mut z[..rows.len() * columns.len()];
            let chunk = Chunk { pool: self.pool, targets, columns: columns.clone() };
            chunk.gradient(self.op, dz, state);
            self.gradients(rows, &columns, dz, first, to);
            first = false;
        }
    }

    /// Logits `(rows, columns)` of one chunk.
    fn logits(&self, rows: &Range<usize>, columns: &Range<usize>, z: &mut [f32]) {
        let (c, v) = (self.op.c, columns.len());
        let dims = GemmDims { m: rows.len(), n: v, k: c };
        let x = Mat::rows(&self.x[rows.start * c..rows.end * c], c);
        let w = Mat::rows(&self.w[columns.start * c..columns.end * c], c).t();
        let precision = self.op.precision;
        let Some(bias) = self.bias.map(|b| &b[columns.clone()]) else {
            return gemm(self.pool, precision, dims, x, w, z, v, false, None);
        };
        let finish = |mut tile: Tile<'_>| {
            for i in 0..tile.rows.len() {
                let cols = tile.cols.clone();
                cpu::add(tile.row_mut(i), &bias[cols]);
            }
        };
        gemm(self.pool, precision, dims, x, w, z, v, false, Some(&finish));
    }

    /// What one chunk's `dz (rows, columns)` gives to each gradient that is wanted; `first` of its rows.
    fn gradients(
        &self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        dz: &[f32],
        first: bool,
        to: &mut Gradients<'_>,
    ) {
        let (m, c, v) = (rows.len(), self.op.c, columns.len());
        let (at, w_at) = (rows.start * c..rows.end * c, columns.start * c..columns.end * c);
        let (pool, precision, dz_rows) = (self.pool, self.op.precision, Mat::rows(dz, v));
        if let Some(Grad { data, accumulate }) = &mut to.dx {
            let w = Mat::rows(&self.w[w_at.clone()], c);
            let dims = GemmDims { m, n: c, k: v };
            let (dx, add) = (&mut data[at.clone()], *accumulate || !first);
            gemm(pool, precision, dims, dz_rows, w, dx, c, add, None);
        }
        if let Some(Grad { data, accumulate }) = &mut to.dw {
            let x = Mat::rows(&self.x[at], c);
            let dims = GemmDims { m: v, n: c, k: m };
            gemm(pool, precision, dims, dz_rows.t(), x, &mut data[w_at], c, *accumulate, None);
        }
        if let Some(Grad { data, accumulate }) = &mut to.db {
            cpu::column_sums(pool, dz, &mut data[columns.clone()], *accumulate);
        }
    }
}
