//! The same product of panels without tiles: `vdpbf16ps`, two bf16 products and their sum in f32 per lane.
//!
//! An element of an A tile holds k and k + 16 of one row; it goes to all lanes and meets sixteen columns of B,
//! which hold the same pair. (Zen 4 and later, Cooper Lake and later.)

use std::arch::x86_64::*;

use super::amx::{PANEL, Panels, TILE_BYTES, panel_bytes};
use super::pending::Pending;

/// Rows whose sums stay in registers, two vectors each: sixteen chains hide the latency of the sums.
const ROWS: usize = 8;

/// `sums = a·b` for two panels of `steps` steps of one term; then `pending` is written.
///
/// # Safety
/// AVX-512 F, BW and bf16 exist; the panels are that long; `sums` has 32 × 32 values, aligned to 64 bytes, apart
/// from `pending`; see [`Pending::flush`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn multiply(at: Panels, steps: usize, sums: *mut f32, pending: &mut Pending) {
    for first in (0..PANEL).step_by(ROWS) {
        let mut acc = [[_mm512_setzero_ps(); 2]; ROWS];
        let a_row = first / 16 * TILE_BYTES + first % 16 * 64;
        for step in 0..steps {
            let from = panel_bytes(1, step);
            let (a, b) = (at.a.wrapping_add(from + a_row), at.b.wrapping_add(from));
            for pair in 0..16 {
                // SAFETY: rows of the step's two tiles of B, aligned as packed.
                let columns = unsafe { [vector(b, pair), vector(b.add(TILE_BYTES), pair)] };
                for (i, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: element `pair` of row `first + i` of the step's tiles of A.
                    let row = unsafe { a.add(i * 64 + pair * 4).cast::<i32>().read() };
                    let row = pairs(_mm512_set1_epi32(row));
                    acc[0] = _mm512_dpbf16_ps(acc[0], row, columns[0]);
                    acc[1] = _mm512_dpbf16_ps(acc[1], row, columns[1]);
                }
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            let to = sums.wrapping_add((first + i) * PANEL);
            // SAFETY: row `first + i` of the sums.
            unsafe {
                _mm512_store_ps(to, acc[0]);
                _mm512_store_ps(to.add(16), acc[1]);
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { pending.flush() };
}

/// # Safety
/// Row `row` of the tile at `tile` is readable and aligned.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn vector(tile: *const u8, row: usize) -> __m512bh {
    // SAFETY: the caller's promise.
    pairs(unsafe { _mm512_load_si512(tile.add(row * 64).cast()) })
}

/// Sixteen pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(x: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of plain data.
    unsafe { std::mem::transmute(x) }
}
