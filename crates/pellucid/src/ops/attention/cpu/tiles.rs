//! Products on AMX tiles: the matrix product's kernel on operands that are packed once and used for many tiles.
//!
//! Operands are rounded to bf16 (1.7 to 2.4 times the speed of vectors at T = 256 and 1024, D = 64, on one core).
//! Three terms for each f32 also work, but with these short products splitting costs as much as it saves (0.8 to
//! 1.1 times the speed of vectors), and would make a row's bits depend on how it was computed; left out.
#![allow(unsafe_code)] // raw tiles

use super::engine::Engine;
use super::simd::Avx512;
use crate::backend::cpu::gemm::amx::{self, K_STEP, PANEL, TILE_BYTES, panel_bytes};
use crate::backend::cpu::gemm::pack::{Operand, ones, pack};
use crate::backend::cpu::gemm::pending::Pending;

/// bf16 for each f32.
const TERMS: usize = 1;

/// The tile registers, and sums on their way to memory.
pub(super) struct Tiles {
    _configured: amx::Tiles,
    sums: Box<Sums>,
    turn: usize,
    pending: Pending,
}

/// Two blocks of sums in turn: one is computed while the other is written to C.
#[repr(align(64))]
struct Sums([[f32; PANEL * PANEL]; 2]);

/// Panels of 32 rows (left) or columns (right), `bytes` apart.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    data: *const u8,
    bytes: usize,
}

impl Tiles {
    unsafe fn pack(operand: Operand, buffer: *mut f32) -> Panels {
        let (panels, steps) = (0..operand.extent.div_ceil(PANEL), operand.k.div_ceil(K_STEP));
        // SAFETY: the caller of `left` or `right` promised the source and the buffer.
        unsafe { pack::<TERMS>(&operand, panels, 0..operand.k, 0..steps, buffer.cast()) };
        Panels { data: buffer.cast(), bytes: panel_bytes(TERMS, steps) }
    }
}

impl Engine for Tiles {
    type I = Avx512;
    const STRIP: usize = PANEL;
    const GRAIN: usize = PANEL;
    type Left = Panels;
    type Right = Panels;

    fn left_floats(m: usize, k: usize) -> usize {
        m.div_ceil(PANEL) * panel_bytes(TERMS, k.div_ceil(K_STEP)) / size_of::<f32>()
    }
    fn right_floats(k: usize, n: usize, _: bool, _: bool) -> usize {
        Self::left_floats(n, k)
    }
    unsafe fn new() -> Self {
        Self {
            // SAFETY: the caller promised the instructions.
            _configured: unsafe { amx::Tiles::configure() },
            sums: Box::new(Sums([[0.0; PANEL * PANEL]; 2])),
            turn: 0,
            pending: Pending::NOTHING,
        }
    }
    unsafe fn left(
        &mut self,
        (data, pitch): (*const f32, usize),
        (extent, k): (usize, usize),
        turned: bool,
        buffer: *mut f32,
    ) -> Panels {
        let operand = Operand { data, extent, k, pitch, k_contiguous: !turned, k_down: false };
        // SAFETY: the caller's promise.
        unsafe { Self::pack(operand, buffer) }
    }
    unsafe fn right(
        &mut self,
        (data, pitch): (*const f32, usize),
        (k, extent): (usize, usize),
        turned: bool,
        _: bool,
        buffer: *mut f32,
    ) -> Panels {
        let operand = Operand { data, extent, k, pitch, k_contiguous: turned, k_down: true };
        // SAFETY: the caller's promise.
        unsafe { Self::pack(operand, buffer) }
    }
    #[inline(always)]
    unsafe fn below(left: Panels, i: usize) -> Panels {
        debug_assert!(i.is_multiple_of(PANEL));
        Panels { data: left.data.wrapping_add(i / PANEL * left.bytes), ..left }
    }
    #[inline(always)]
    unsafe fn beyond(right: Panels, k: usize, j: usize) -> Panels {
        debug_assert!(k.is_multiple_of(K_STEP) && j.is_multiple_of(PANEL));
        let bytes = j / PANEL * right.bytes + k / K_STEP * TERMS * 2 * TILE_BYTES;
        Panels { data: right.data.wrapping_add(bytes), ..right }
    }
    unsafe fn product(
        &mut self,
        (m, n, k): (usize, usize, usize),
        left: Panels,
        right: Panels,
        c: (*mut f32, usize),
        add: bool,
    ) {
        if k == 0 {
            debug_assert!(add, "nobody looks, so nothing is overwritten");
            return;
        }
        for i in (0..m).step_by(PANEL) {
            for j in (0..n).step_by(PANEL) {
                let cols = n - j;
                let next = Pending {
                    from: std::ptr::null(),
                    to: c.0.wrapping_add(i * c.1 + j),
                    stride: c.1 * size_of::<f32>(),
                    rows: PANEL.min(m - i),
                    masks: [ones(cols.min(16)), ones(cols.saturating_sub(16).min(16))],
                    add,
                };
                let sums = self.sums.0[self.turn].as_mut_ptr();
                let steps = k.div_ceil(K_STEP);
                // SAFETY: the panels hold `steps` steps from here; `pending` is about the other block.
                unsafe {
                    let (a, b) = (Self::below(left, i).data, Self::beyond(right, 0, j).data);
                    let at = amx::Panels { a, b, next: a, again: b, soon: a };
                    amx::multiply::<TERMS>(at, steps, sums, &mut self.pending);
                }
                self.pending = Pending { from: sums, ..next };
                self.turn = 1 - self.turn;
            }
        }
    }
    unsafe fn flush(&mut self) {
        // SAFETY: what is pending was promised to `product`.
        unsafe { self.pending.flush() };
    }
}
