#![allow(unsafe_code)] // batch rows of one buffer go to several threads
//! Position after position: one product of all batch rows with W, then the gates, row by row. Each element is
//! computed by one thread in one order, so thread count changes no bit.

use super::LstmDims;
use crate::autograd::Grad;
use crate::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm};
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::{fma, multiversion, sigmoid, tanh};

/// Batch rows up to which products read W along `k`, and beyond which across it: else they crawl (measured, gemm's
/// kernel for a few rows and the `gemm` crate's).
const FEW_ROWS: usize = 8;
/// Positions from which on a turned copy of W pays.
const TURNS: usize = 4;
/// Cells worth another thread.
const GRAIN: usize = 1024;

/// Who is read in which order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) dims: LstmDims,
    /// Real positions of each row; empty: all.
    pub(super) lengths: &'a [i32],
    pub(super) reverse: bool,
    pub(super) precision: Precision,
}

impl Call<'_> {
    fn length(&self, b: usize) -> usize {
        self.lengths.get(b).map_or(self.dims.t, |&l| l as usize)
    }

    /// Steps until every row is read.
    fn steps(&self) -> usize {
        (0..self.dims.b).map(|b| self.length(b)).max().unwrap_or(0)
    }

    /// The position of a step, the same in all rows.
    fn position(&self, step: usize, steps: usize) -> usize {
        if self.reverse { steps - 1 - step } else { step }
    }

    /// Whether row `b` begins at `t`, which is real.
    fn begins(&self, b: usize, t: usize) -> bool {
        t == if self.reverse { self.length(b) - 1 } else { 0 }
    }

    /// Whether row `b` ends at `t`, which is real.
    fn ends(&self, b: usize, t: usize) -> bool {
        t == if self.reverse { 0 } else { self.length(b) - 1 }
    }

    /// The position read before `t`, where the row did not begin.
    fn before(&self, t: usize) -> usize {
        if self.reverse { t + 1 } else { t - 1 }
    }

    /// W `(4C, C)`, copied so that products read it as they like; `along_k`: as it lies they read it along `k`.
    fn lie<'w>(&self, pool: &Pool, w: &'w [f32], along_k: bool, turned: &'w mut [f32]) -> Mat<'w> {
        let c = self.dims.c;
        if along_k == (self.dims.b <= FEW_ROWS) || self.steps() < TURNS {
            return Mat::rows(w, c);
        }
        turn(pool, w, c, &mut turned[..4 * c * c]);
        Mat::rows(turned, 4 * c).t()
    }

    /// `out (B, n) = a (B, k) · b (k, n)`, rows of `out` `pitch` apart.
    fn product(
        &self,
        pool: &Pool,
        (a, b): (Mat<'_>, Mat<'_>),
        (n, k): (usize, usize),
        out: &mut [f32],
        pitch: usize,
    ) {
        let dims = GemmDims { m: self.dims.b, n, k };
        gemm(pool, self.precision, dims, a, b, out, pitch, false, None);
    }

    fn rows(&self, pool: &Pool, work: &(dyn Fn(usize) + Sync)) {
        let grain = GRAIN.div_ceil(self.dims.c);
        pool.split(self.dims.b, grain, &|rows| rows.for_each(work));
    }
}

/// What goes from position to position, `(B, C)` each.
pub(super) struct State<'a> {
    pub(super) h: &'a mut [f32],
    pub(super) c: &'a mut [f32],
}

/// Where gates and cells lie.
pub(super) enum Gates<'a> {
    /// All of them, for the backward pass: `(B, T, 4C)` and `(B, T, C)`.
    Kept { gates: &'a mut [f32], cells: &'a mut [f32] },
    /// Those of one position, `(B, 4C)`.
    Passing(&'a mut [f32]),
}

multiversion! {
    /// `gates` arrive holding `W h`; all become those after this position.
    fn cell<const FMA: bool>(x: &[f32], gates: &mut [f32], h: &mut [f32], c: &mut [f32]) {
        let n = c.len();
        let [xi, xf, xg, xo] = quarters(x, n);
        let (i, rest) = gates.split_at_mut(n);
        let (f, rest) = rest.split_at_mut(n);
        let (g, o) = rest.split_at_mut(n);
        let (o, h) = (&mut o[..n], &mut h[..n]);
        for j in 0..n {
            i[j] = sigmoid::<FMA>(xi[j] + i[j]);
            f[j] = sigmoid::<FMA>(xf[j] + f[j]);
            g[j] = tanh::<FMA>(xg[j] + g[j]);
            o[j] = sigmoid::<FMA>(xo[j] + o[j]);
            c[j] = fma::<FMA>(f[j], c[j], i[j] * g[j]);
            h[j] = o[j] * tanh::<FMA>(c[j]);
        }
    }
}

multiversion! {
    /// `gates` become the gradients of what they were made of, `dc` that of `before`, the cell before `c`.
    fn pull<const FMA: bool>(
        gates: &mut [f32], c: &[f32], before: &[f32], dy: &[f32], dh: &[f32], dc: &mut [f32]
    ) {
        let n = dc.len();
        let (i, rest) = gates.split_at_mut(n);
        let (f, rest) = rest.split_at_mut(n);
        let (g, o) = rest.split_at_mut(n);
        let (o, c, before, dy, dh) = (&mut o[..n], &c[..n], &before[..n], &dy[..n], &dh[..n]);
        for j in 0..n {
            let (d, shown) = (dh[j] + dy[j], tanh::<FMA>(c[j]));
            // inverts: h = o tanh(c)
            let whole = fma::<FMA>(d * o[j], 1.0 - shown * shown, dc[j]);
            o[j] = d * shown * o[j] * (1.0 - o[j]);
            // inverts: c = f before + i g
            dc[j] = whole * f[j];
            f[j] = whole * before[j] * f[j] * (1.0 - f[j]);
            let wrote = whole * i[j];
            i[j] = wrote * g[j] * (1.0 - i[j]);
            g[j] = wrote * (1.0 - g[j] * g[j]);
        }
    }
}

multiversion! {
    fn add<const FMA: bool>(to: &mut [f32], from: &[f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    }
}

/// `to (C, 4C)` gets the columns of `w (4C, C)`.
fn turn(pool: &Pool, w: &[f32], c: usize, to: &mut [f32]) {
    assert!(w.len() == 4 * c * c && to.len() == w.len());
    let to = Ptr(to.as_mut_ptr());
    pool.split(c, 16, &|columns| {
        for first in columns.clone().step_by(16) {
            let columns = first..(first + 16).min(columns.end);
            // SAFETY: each column belongs to one thread, and `to` has a row for each.
            let to = unsafe { to.slice(first * 4 * c, columns.len() * 4 * c) };
            for (j, row) in w.chunks_exact(c).enumerate() {
                for (i, x) in row[columns.clone()].iter().enumerate() {
                    to[i * 4 * c + j] = *x;
                }
            }
        }
    });
}

/// Elements of a turned W.
pub(super) fn turned(LstmDims { c, .. }: LstmDims) -> usize {
    4 * c * c
}

/// The parts of `4 n` elements, each exactly `n` long.
#[inline(always)]
fn quarters(x: &[f32], n: usize) -> [&[f32]; 4] {
    [&x[..n], &x[n..2 * n], &x[2 * n..3 * n], &x[3 * n..4 * n]]
}

/// `y (B, T, C)` from `x (B, T, 4C)` and `w (4C, C)`; `state` arrives as it is before the first position and
/// leaves as it is after the last real one.
pub(super) fn forward(
    pool: &Pool,
    call: Call<'_>,
    (x, w): (&[f32], &[f32]),
    state: State<'_>,
    y: &mut [f32],
    gates: Gates<'_>,
    scratch: &mut [f32],
) {
    let LstmDims { b, t: time, c } = call.dims;
    assert!(x.len() == b * time * 4 * c && w.len() == 4 * c * c && y.len() == b * time * c);
    assert!(state.h.len() == b * c && state.c.len() == b * c);
    let (gates, cells, pitch) = match gates {
        Gates::Kept { gates, cells } => {
            assert!(gates.len() == x.len() && cells.len() == y.len());
            (gates, Some(Ptr(cells.as_mut_ptr())), time * 4 * c)
        }
        Gates::Passing(gates) => (gates, None, 4 * c),
    };
    let kept = cells.is_some();
    let steps = call.steps();
    let w = call.lie(pool, w, true, scratch).t();
    let (h_at, c_at, y_at) =
        (Ptr(state.h.as_mut_ptr()), Ptr(state.c.as_mut_ptr()), Ptr(y.as_mut_ptr()));
    for step in 0..steps {
        let t = call.position(step, steps);
        let now = &mut gates[if kept { t * 4 * c } else { 0 }..];
        // SAFETY: (B, C); no row's work is under way.
        let h: &[f32] = unsafe { h_at.slice(0, b * c) };
        call.product(pool, (Mat::rows(h, c), w), (4 * c, c), now, pitch);
        assert!((b - 1) * pitch + 4 * c <= now.len(), "gates of every row");
        let now = Ptr(now.as_mut_ptr());
        call.rows(pool, &|row| {
            let at = row * time + t;
            // SAFETY: each row belongs to one thread; all lengths were checked above.
            let y = unsafe { y_at.slice(at * c, c) };
            if t >= call.length(row) {
                return y.fill(0.0);
            }
            // SAFETY: as above.
            let (now, h, state) = unsafe {
                (now.slice(row * pitch, 4 * c), h_at.slice(row * c, c), c_at.slice(row * c, c))
            };
            cell(&x[at * 4 * c..][..4 * c], now, h, state);
            y.copy_from_slice(h);
            if let Some(cells) = cells {
                // SAFETY: as above.
                unsafe { cells.slice(at * c, c) }.copy_from_slice(state);
            }
        });
    }
    y.chunks_exact_mut(time * c).for_each(|row| row[steps * c..].fill(0.0));
}

/// h and c before the first position, unless zeros.
type Begin<'a> = Option<(&'a [f32], &'a [f32])>;

/// What the backward pass reads; `gates` and `cells` are used up.
pub(super) struct Saved<'a> {
    pub(super) gates: &'a mut [f32],
    pub(super) cells: &'a mut [f32],
    /// The output, `(B, T, C)`.
    pub(super) y: &'a [f32],
    pub(super) begin: Begin<'a>,
}

/// Of x, of the states at the beginning, of W.
pub(super) struct Gradients<'a> {
    pub(super) x: Option<Grad<'a>>,
    pub(super) h: Option<Grad<'a>>,
    pub(super) c: Option<Grad<'a>>,
    pub(super) w: Option<Grad<'a>>,
}

/// Gradients of h and c at one position, a row of zeros, W turned.
pub(super) fn backward_scratch(dims: LstmDims) -> usize {
    let LstmDims { b, c, .. } = dims;
    2 * b * c + c + turned(dims)
}

/// From the gradients of y, last h and last c.
pub(super) fn backward(
    pool: &Pool,
    call: Call<'_>,
    w: &[f32],
    saved: Saved<'_>,
    [dy, d_last_h, d_last_c]: [&[f32]; 3],
    mut grads: Gradients<'_>,
    scratch: &mut [f32],
) {
    let LstmDims { b, t: time, c } = call.dims;
    let Saved { gates, cells, y, begin } = saved;
    assert!(gates.len() == b * time * 4 * c && cells.len() == b * time * c);
    let (dh, rest) = scratch.split_at_mut(b * c);
    let (dc, rest) = rest.split_at_mut(b * c);
    let (zeros, turned) = rest.split_at_mut(c);
    zeros.fill(0.0);
    let (zeros, steps) = (&*zeros, call.steps());
    let w = call.lie(pool, w, false, turned);
    for row in (0..b).filter(|&row| call.length(row) == 0) {
        give(&mut grads.h, row, &d_last_h[row * c..][..c]);
        give(&mut grads.c, row, &d_last_c[row * c..][..c]);
    }
    for step in (0..steps).rev() {
        let t = call.position(step, steps);
        let parts = [&mut *gates, &mut *cells, &mut *dh, &mut *dc];
        pull_position(pool, call, t, parts, (y, begin, zeros), [dy, d_last_h, d_last_c]);
        if step > 0 || grads.h.is_some() {
            let now = Mat::rows(&gates[t * 4 * c..], time * 4 * c);
            call.product(pool, (now, w), (c, 4 * c), dh, c);
        }
        for row in (0..b).filter(|&row| t < call.length(row) && call.begins(row, t)) {
            give(&mut grads.h, row, &dh[row * c..][..c]);
            give(&mut grads.c, row, &dc[row * c..][..c]);
        }
    }
    gates.chunks_exact_mut(time * 4 * c).for_each(|row| row[steps * 4 * c..].fill(0.0));
    cells.chunks_exact_mut(time * c).for_each(|row| row[steps * c..].fill(0.0));
    of_all_positions(pool, call, (gates, cells), grads);
}

/// Takes one position of every row back: gates become their gradients and cells the `h` that was read there; `dh`
/// and `dc` are the gradients of the state after it, of which `dc` becomes that before it.
fn pull_position(
    pool: &Pool,
    call: Call<'_>,
    t: usize,
    parts: [&mut [f32]; 4],
    (y, begin, zeros): (&[f32], Begin<'_>, &[f32]),
    [dy, d_last_h, d_last_c]: [&[f32]; 3],
) {
    let LstmDims { b, t: time, c } = call.dims;
    assert!(
        parts
            .iter()
            .map(|x| x.len())
            .eq([4, 1].map(|n| b * time * n * c).into_iter().chain([b * c; 2]))
    );
    let [gates_at, cells_at, dh_at, dc_at] = parts.map(|x| Ptr(x.as_mut_ptr()));
    call.rows(pool, &|row| {
        let (at, own) = (row * time + t, row * c..(row + 1) * c);
        // SAFETY: each row belongs to one thread; lengths were checked above.
        let (gates, cells) =
            unsafe { (gates_at.slice(at * 4 * c, 4 * c), cells_at.slice(at * c, c)) };
        if t >= call.length(row) {
            gates.fill(0.0);
            return cells.fill(0.0);
        }
        // SAFETY: as above.
        let (dh, dc) = unsafe { (dh_at.slice(own.start, c), dc_at.slice(own.start, c)) };
        if call.ends(row, t) {
            dh.copy_from_slice(&d_last_h[own.clone()]);
            dc.copy_from_slice(&d_last_c[own.clone()]);
        }
        let (h_before, c_before) = if call.begins(row, t) {
            begin.map_or((zeros, zeros), |(h, c)| (&h[own.clone()], &c[own.clone()]))
        } else {
            let at = (row * time + call.before(t)) * c;
            // SAFETY: as above; another position than `cells`.
            (&y[at..at + c], unsafe { &*cells_at.slice(at, c) })
        };
        pull(gates, cells, c_before, &dy[at * c..][..c], dh, dc);
        cells.copy_from_slice(h_before);
    });
}

/// The gradients of x and W from those of the gates and the `h` that each position read.
fn of_all_positions(
    pool: &Pool,
    call: Call<'_>,
    (gates, h): (&[f32], &[f32]),
    grads: Gradients<'_>,
) {
    let LstmDims { b, t, c } = call.dims;
    if let Some(d) = grads.w {
        let dims = GemmDims { m: 4 * c, n: c, k: b * t };
        let gates = Mat::rows(gates, 4 * c).t();
        gemm(pool, call.precision, dims, gates, Mat::rows(h, c), d.data, c, d.accumulate, None);
    }
    if let Some(d) = grads.x {
        assert_eq!(d.data.len(), gates.len());
        let to = Ptr(d.data.as_mut_ptr());
        pool.split(gates.len(), 4096, &|range| {
            // SAFETY: ranges are disjoint and inside.
            let to = unsafe { to.slice(range.start, range.len()) };
            if d.accumulate { add(to, &gates[range]) } else { to.copy_from_slice(&gates[range]) }
        });
    }
}

/// Row `row` of a gradient, if it is wanted.
fn give(grad: &mut Option<Grad<'_>>, row: usize, from: &[f32]) {
    if let Some(grad) = grad {
        let to = &mut grad.data[row * from.len()..][..from.len()];
        if grad.accumulate { add(to, from) } else { to.copy_from_slice(from) }
    }
}
