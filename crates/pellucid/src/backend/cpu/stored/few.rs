#![allow(unsafe_code)] // lines of panels by address, instruction sets chosen at run time
//! Up to eight rows: the weights pass once, in the order they lie in, past sums that stay in registers.
//!
//! Lanes are outputs, so nothing is added across lanes, and one broadcast of x meets sixteen outputs.
//!
//! bf16: a weight is the upper half of an f32, so it meets x in f32 after a shift or a mask.
//!
//! Integers: x of a group becomes `scale · q`, q of 16 bits (|q| ≤ 32767 = max |x| of the group). Products of q with
//! codes of at most 8 bits, and their sums over a group of at most 128, fit into 32 bits: they are exact, in any
//! order, on every machine. Codes carry an offset; `offset · Σ q` is taken off at the end of the group, where scales
//! come in: `Σ = Σ + (q·code sum - offset · Σ q) · (w's scale · x's scale)`, in f32, group after group.

use super::few_vectors::*;
use super::layout::{LINE, Layout, PANEL, STEP};
use super::quantise::nearest;
use super::{FEW_ROWS, Format, StoredMatrix};
use crate::backend::cpu::features::Isa;
use crate::backend::cpu::gemm::scratch::Purpose;
use crate::backend::cpu::gemm::{Finish, Tile};
use crate::backend::cpu::pool::{Pool, Ptr};
use std::ops::Range;

/// Rows of x that meet a weight while it is in a register.
const TOGETHER: usize = 4;
/// Fewest multiply-adds worth another worker.
const GRAIN: usize = 1 << 16;
/// How far ahead memory is asked for: about what is on its way while one line is used.
const AHEAD: usize = 16 << 10;

/// `y (m, n) = x (m, k) · wᵀ` for m up to [`FEW_ROWS`].
pub(super) fn product(
    matrix: &StoredMatrix,
    pool: &Pool,
    (m, x): (usize, &[f32]),
    y: Ptr<f32>,
    finish: Finish<'_>,
    isa: Isa,
) {
    let layout = matrix.layout;
    let sizes = Sizes::of(&layout);
    Purpose::Rows.lend(m * sizes.bytes(), |buffer| {
        // SAFETY: the buffer is that large, aligned, ours, and zeroed before it is a slice.
        let words: &mut [u32] = unsafe {
            std::ptr::write_bytes(buffer, 0, m * sizes.bytes());
            std::slice::from_raw_parts_mut(buffer.cast(), m * sizes.words())
        };
        for (row, to) in words.chunks_exact_mut(sizes.words()).enumerate() {
            prepare(isa, &layout, &x[row * layout.k..][..layout.k], to);
        }
        let few = Few { layout, start: matrix.start(), m, x: words, y };
        let grain = GRAIN / (PANEL * layout.k * m).max(1) + 1;
        pool.split(layout.panels(), grain, &|panels| {
            few.panels(isa, panels.clone());
            if let Some(finish) = finish {
                let columns = panels.start * PANEL..(panels.end * PANEL).min(layout.n);
                // SAFETY: `split` gave these columns of y to this worker alone.
                finish(unsafe { Tile::new(y, layout.n, 0..m, columns) });
            }
        });
    });
}

/// What is prepared of a row of x, in 32-bit words: values or pairs, then `offset · Σ q` and the scale of each group.
#[derive(Clone, Copy)]
struct Sizes {
    values: usize,
    groups: usize,
}

impl Sizes {
    fn of(layout: &Layout) -> Self {
        match layout.format {
            Format::Bf16 => Self { values: layout.steps() * STEP, groups: 0 },
            _ => Self { values: layout.steps() * STEP / 2, groups: layout.groups() },
        }
    }

    fn words(self) -> usize {
        self.values + 2 * self.groups
    }

    fn bytes(self) -> usize {
        self.words() * size_of::<u32>()
    }
}

/// Compiles a generic function for every instruction set and calls the right one.
macro_rules! dispatch {
    ($isa:expr, $body:ident ( $($arg:ident : $ty:ty),* )) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
        unsafe fn vnni($($arg: $ty),*) {
            // SAFETY: the caller's promise.
            unsafe { $body::<Vnni>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn avx512($($arg: $ty),*) {
            // SAFETY: the caller's promise.
            unsafe { $body::<Avx512>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2($($arg: $ty),*) {
            // SAFETY: the caller's promise.
            unsafe { $body::<Avx2>($($arg),*) }
        }
        // SAFETY: `isa` was detected; operands are as the body wants them.
        unsafe {
            match $isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Amx if has_vnni() => vnni($($arg),*),
                #[cfg(target_arch = "x86_64")]
                Isa::Amx | Isa::Avx512 => avx512($($arg),*),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2($($arg),*),
                _ => $body::<Portable>($($arg),*),
            }
        }
    }};
}

/// Products of 16-bit pairs with their sum in one instruction. Without them two give the same bits.
#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni")
}

/// Writes what [`Sizes`] says of a row of x (k) into `to`, which is zero.
fn prepare(isa: Isa, layout: &Layout, x: &[f32], to: &mut [u32]) {
    if layout.format == Format::Bf16 {
        to.iter_mut().zip(x).for_each(|(to, x)| *to = x.to_bits());
        return;
    }
    let (group, offset) = (layout.format.group(), i32::from(layout.format.offset()));
    dispatch!(isa, fixed(x: &[f32], group: usize, offset: i32, to: &mut [u32]));
}

/// x in 16-bit fixed point, in pairs: of each step, lines j = 0..8 of (j, j + 16), (j + 8, j + 24).
#[inline(always)]
unsafe fn fixed<V: Vector>(x: &[f32], group: usize, offset: i32, to: &mut [u32]) {
    let groups = x.len().div_ceil(group);
    let (values, rest) = to.split_at_mut(to.len() - 2 * groups);
    let (sums, scales) = rest.split_at_mut(groups);
    let steps = values.chunks_mut(group / 2);
    for (g, (x, values)) in x.chunks(group).zip(steps).enumerate() {
        // Magnitudes have the order of their bits; NaN is above infinity.
        let largest = x.iter().fold(0, |m, x| m.max(x.to_bits() & 0x7FFF_FFFF));
        let (scale, inverse) = match f32::from_bits(largest) {
            x if !x.is_finite() => (f32::NAN, 0.0),
            x if x < 1e-30 => (0.0, 0.0), // its inverse would not be a number
            x => (x / 32767.0, 32767.0 / x),
        };
        let mut sum = 0;
        for (x, to) in x.chunks(STEP).zip(values.chunks_exact_mut(STEP / 2)) {
            let mut q = [0; STEP];
            if inverse > 0.0 {
                q.iter_mut().zip(x).for_each(|(q, &x)| *q = nearest(x * inverse));
            }
            sum += q.iter().sum::<i32>();
            let pair = |a: i32, b: i32| (a & 0xFFFF | b << 16) as u32;
            for j in 0..8 {
                to[2 * j] = pair(q[j], q[j + 16]);
                to[2 * j + 1] = pair(q[j + 8], q[j + 24]);
            }
        }
        sums[g] = (offset * sum) as u32;
        scales[g] = scale.to_bits();
    }
}

/// One product on its way.
struct Few<'a> {
    layout: Layout,
    start: *const u8,
    m: usize,
    /// [`Sizes::words`] of each row.
    x: &'a [u32],
    y: Ptr<f32>,
}

// SAFETY: `start` is only read; workers write disjoint columns of y.
unsafe impl Sync for Few<'_> {}

/// Sums of a panel for each row.
#[repr(align(64))]
struct Sums([[f32; PANEL]; FEW_ROWS]);

impl Few<'_> {
    fn panels(&self, isa: Isa, panels: Range<usize>) {
        let few = self;
        match self.layout.format {
            Format::Bf16 => dispatch!(isa, halves(few: &Few<'_>, panels: Range<usize>)),
            Format::Int8 => dispatch!(isa, bytes(few: &Few<'_>, panels: Range<usize>)),
            Format::Int4 => dispatch!(isa, nibbles(few: &Few<'_>, panels: Range<usize>)),
        }
    }

    fn panel(&self, panel: usize) -> *const u8 {
        self.start.wrapping_add(panel * self.layout.panel_bytes())
    }

    /// Writes a panel's sums to y.
    fn put(&self, panel: usize, sums: &[[f32; PANEL]; FEW_ROWS]) {
        let columns = PANEL.min(self.layout.n - panel * PANEL);
        for (row, sums) in sums.iter().enumerate().take(self.m) {
            // SAFETY: inside y (m, n); these columns are this worker's alone.
            let y = unsafe { self.y.slice(row * self.layout.n + panel * PANEL, columns) };
            y.copy_from_slice(&sums[..columns]);
        }
    }
}

/// Calls `$f::<V, R>` for all rows, a few at a time.
macro_rules! rows {
    ($few:expr, $f:ident::<$v:ident $(, $flag:literal)?>($($arg:expr),*)) => {
        for first in (0..$few.m).step_by(TOGETHER) {
            match $few.m - first {
                1 => $f::<$v, 1 $(, $flag)?>($few, first, $($arg),*),
                2 => $f::<$v, 2 $(, $flag)?>($few, first, $($arg),*),
                3 => $f::<$v, 3 $(, $flag)?>($few, first, $($arg),*),
                _ => $f::<$v, 4 $(, $flag)?>($few, first, $($arg),*),
            }
        }
    };
}

/// bf16 panels.
#[inline(always)]
unsafe fn halves<V: Vector>(few: &Few<'_>, panels: Range<usize>) {
    for panel in panels {
        let (mut low, mut high) = (Sums([[0.0; PANEL]; FEW_ROWS]), Sums([[0.0; PANEL]; FEW_ROWS]));
        for step in 0..few.layout.steps() {
            let at = few.panel(panel).wrapping_add(step * few.layout.step_bytes());
            // SAFETY: the step is inside the panel; the rest is the caller's promise.
            unsafe { rows!(few, halves_step::<V>(step, at, (&mut low.0, &mut high.0))) };
        }
        for (low, high) in low.0.iter_mut().zip(&high.0).take(few.m) {
            low.iter_mut().zip(high).for_each(|(l, h)| *l += h);
        }
        few.put(panel, &low.0);
    }
}

/// Rows `first..first + R` with one step.
#[inline(always)]
unsafe fn halves_step<V: Vector, const R: usize>(
    few: &Few<'_>,
    first: usize,
    step: usize,
    at: *const u8,
    (low, high): (&mut [[f32; PANEL]; FEW_ROWS], &mut [[f32; PANEL]; FEW_ROWS]),
) {
    let words = Sizes::of(&few.layout).words();
    let x: [&[u32; STEP]; R] = std::array::from_fn(|r| {
        few.x[(first + r) * words + step * STEP..].first_chunk().expect("whole steps")
    });
    for part in 0..PANEL / V::LANES {
        let column = part * V::LANES;
        let lines = at.wrapping_add(column / 16 * 16 * LINE + column % 16 * 4);
        // SAFETY: a register's worth of each line and of each row of sums; the instructions exist.
        unsafe {
            let load = |sums: &[[f32; PANEL]; FEW_ROWS]| -> [V::F; R] {
                std::array::from_fn(|r| V::load_f(sums[first + r][column..].as_ptr()))
            };
            let (mut l, mut h) = (load(low), load(high));
            for q in 0..16 {
                let w = V::load(lines.wrapping_add(q * LINE));
                V::fetch(lines.wrapping_add(q * LINE + AHEAD));
                let (w_low, w_high) = (V::low(w), V::high(w));
                for r in 0..R {
                    l[r] = V::fma(w_low, f32::from_bits(x[r][q]), l[r]);
                    h[r] = V::fma(w_high, f32::from_bits(x[r][q + 16]), h[r]);
                }
            }
            for r in 0..R {
                V::store_f(low[first + r][column..].as_mut_ptr(), l[r]);
                V::store_f(high[first + r][column..].as_mut_ptr(), h[r]);
            }
        }
    }
}

/// Panels of bytes.
#[inline(always)]
unsafe fn bytes<V: Vector>(few: &Few<'_>, panels: Range<usize>) {
    for panel in panels {
        let mut sums = Sums([[0.0; PANEL]; FEW_ROWS]);
        for group in 0..few.layout.groups() {
            let at = few.panel(panel);
            // SAFETY: the caller's promise.
            unsafe { rows!(few, integers::<V, false>(group, at, &mut sums.0)) };
        }
        few.put(panel, &sums.0);
    }
}

/// Panels of nibbles.
#[inline(always)]
unsafe fn nibbles<V: Vector>(few: &Few<'_>, panels: Range<usize>) {
    for panel in panels {
        let mut sums = Sums([[0.0; PANEL]; FEW_ROWS]);
        for group in 0..few.layout.groups() {
            let at = few.panel(panel);
            // SAFETY: the caller's promise.
            unsafe { rows!(few, integers::<V, true>(group, at, &mut sums.0)) };
        }
        few.put(panel, &sums.0);
    }
}

/// Rows `first..first + R` with one group of the panel at `panel`.
#[inline(always)]
unsafe fn integers<V: Vector, const R: usize, const NIBBLES: bool>(
    few: &Few<'_>,
    first: usize,
    group: usize,
    panel: *const u8,
    sums: &mut [[f32; PANEL]; FEW_ROWS],
) {
    let (layout, sizes) = (&few.layout, Sizes::of(&few.layout));
    let (start, steps) = layout.group_at(group);
    let at = panel.wrapping_add(start);
    let half_bytes = if NIBBLES { 4 * LINE } else { 8 * LINE };
    let x: [&[u32]; R] =
        std::array::from_fn(|r| &few.x[(first + r) * sizes.words()..][..sizes.words()]);
    let from = group * layout.group_steps() * STEP / 2;
    let pairs: [&[u32]; R] = x.map(|x| &x[from..from + steps * STEP / 2]);
    for part in 0..PANEL / V::LANES {
        let column = part * V::LANES;
        // SAFETY: a register's worth of each line, of the scales and of each row of sums; the instructions exist.
        unsafe {
            let (mut even, mut odd) = ([V::zero(); R], [V::zero(); R]);
            for step in 0..steps {
                let lines =
                    at.wrapping_add((column / 16 * steps + step) * half_bytes + column % 16 * 4);
                for j in 0..half_bytes / LINE {
                    let w = V::load(lines.wrapping_add(j * LINE));
                    V::fetch(lines.wrapping_add(j * LINE + AHEAD));
                    let line = |r: usize, j: usize| {
                        let at = step * STEP / 2 + 2 * j;
                        (*pairs[r].get_unchecked(at), *pairs[r].get_unchecked(at + 1))
                    };
                    if NIBBLES {
                        const MASK: u32 = 0x000F_000F;
                        let low = (V::and(w, MASK), V::and(V::right::<8>(w), MASK));
                        let high = (V::and(V::right::<4>(w), MASK), V::right::<12>(w));
                        for r in 0..R {
                            let (x, x4) = (line(r, j), line(r, j + 4));
                            even[r] = V::dot(V::dot(even[r], low.0, x.0), high.0, x4.0);
                            odd[r] = V::dot(V::dot(odd[r], low.1, x.1), high.1, x4.1);
                        }
                    } else {
                        let w = (V::and(w, 0x00FF_00FF), V::right::<8>(w));
                        for r in 0..R {
                            let x = line(r, j);
                            even[r] = V::dot(even[r], w.0, x.0);
                            odd[r] = V::dot(odd[r], w.1, x.1);
                        }
                    }
                }
            }
            let scale = V::bf16(at.wrapping_add(2 * steps * half_bytes + 2 * column));
            for r in 0..R {
                let [offset, x_scale] = [0, sizes.groups].map(|i| x[r][sizes.values + i + group]);
                let total = V::total(even[r], odd[r], offset as i32);
                let sum = sums[first + r][column..].as_mut_ptr();
                V::store_f(sum, V::scaled(V::load_f(sum), total, scale, f32::from_bits(x_scale)));
            }
        }
    }
}
