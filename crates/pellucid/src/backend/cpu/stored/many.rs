#![allow(unsafe_code)] // tiles; workers write disjoint columns
//! More rows than the bound of memory: matrix kernels on blocks of weights that are unpacked when they are needed.

use super::StoredMatrix;
use super::layout::{PANEL, STEP};
use crate::backend::cpu::features::Isa;
use crate::backend::cpu::gemm::scratch::Purpose;
use crate::backend::cpu::gemm::{Finish, GemmDims, Mat, Precision, Tile, gemm_block};
use crate::backend::cpu::pool::{Pool, Ptr};
use std::ops::Range;

/// Panels whose weights become f32 at a time.
const BLOCK: usize = 2;

/// `y (m, n) = x (m, k) · wᵀ`.
pub(super) fn product(
    matrix: &StoredMatrix,
    pool: &Pool,
    (m, x): (usize, &[f32]),
    y: Ptr<f32>,
    finish: Finish<'_>,
    isa: Isa,
) {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Amx {
        // SAFETY: AMX is used; x and y are large enough, and y is nobody else's.
        return unsafe { tiles::product(matrix, pool, (m, x), y, finish) };
    }
    let _ = isa;
    let layout = matrix.layout;
    let blocks = layout.panels().div_ceil(BLOCK);
    pool.split(blocks, 1, &|mine| {
        for block in mine {
            let columns = block * BLOCK * PANEL..((block + 1) * BLOCK * PANEL).min(layout.n);
            unpacked(matrix, (m, x), y, columns.clone());
            if let Some(finish) = finish {
                // SAFETY: `split` gave these columns to this worker alone.
                finish(unsafe { Tile::new(y, layout.n, 0..m, columns) });
            }
        }
    });
}

/// `columns` of y, through weights in f32.
fn unpacked(matrix: &StoredMatrix, (m, x): (usize, &[f32]), y: Ptr<f32>, columns: Range<usize>) {
    let (n, k) = matrix.shape();
    let wide = columns.len();
    Purpose::Shared.lend((wide * k + m * wide) * size_of::<f32>(), |buffer| {
        // SAFETY: the buffer is that large, aligned, ours, and zeroed before it is a slice.
        let floats: &mut [f32] = unsafe {
            std::ptr::write_bytes(buffer.cast::<f32>(), 0, wide * k + m * wide);
            std::slice::from_raw_parts_mut(buffer.cast(), wide * k + m * wide)
        };
        let (w, part) = floats.split_at_mut(wide * k);
        for (row, index) in w.chunks_exact_mut(k.max(1)).zip(columns.clone()) {
            matrix.dequantise(index, row);
        }
        let dims = GemmDims { m, n: wide, k };
        let w = Mat { data: w, row_stride: 1, col_stride: k };
        gemm_block(Precision::F32, dims, Mat::rows(x, k), w, part, wide, false);
        for (i, row) in part.chunks_exact(wide).enumerate() {
            // SAFETY: inside y (m, n); these columns are this worker's alone.
            unsafe { y.slice(i * n + columns.start, wide) }.copy_from_slice(row);
        }
    });
}

/// On AMX: all of x is packed once and shared; each worker streams its own panels of w.
#[cfg(target_arch = "x86_64")]
mod tiles {
    use super::*;
    use crate::backend::cpu::gemm::amx::{Panels, Tiles, multiply, panel_bytes};
    use crate::backend::cpu::gemm::pack::{Operand, interleave, ones, pack};
    use crate::backend::cpu::gemm::pending::Pending;
    use crate::backend::cpu::stored::Format;
    use crate::backend::cpu::stored::layout::{LINE, Layout};
    use std::arch::x86_64::*;

    /// Most steps of k in a block: a panel of 48 KiB.
    const K_STEPS: usize = 24;
    /// Panels of w that stay in L2 while all of x passes.
    const W_PANELS: usize = 8;

    /// Blocks of k: equal, whole groups of every format.
    fn k_blocks(steps: usize) -> impl Iterator<Item = Range<usize>> + Clone {
        let most = steps.div_ceil(steps.div_ceil(K_STEPS)).next_multiple_of(4);
        (0..steps).step_by(most).map(move |from| from..(from + most).min(steps))
    }

    struct Many<'a> {
        matrix: &'a StoredMatrix,
        m: usize,
        x: Operand,
        /// For each block of k, panels of x.
        packed: Ptr<u8>,
        y: Ptr<f32>,
        finish: Finish<'a>,
    }

    /// # Safety
    /// `Features::used` is `Amx`; x (m, k) is readable, y (m, n) writable and nobody else's.
    pub(super) unsafe fn product(
        matrix: &StoredMatrix,
        pool: &Pool,
        (m, x): (usize, &[f32]),
        y: Ptr<f32>,
        finish: Finish<'_>,
    ) {
        let (layout, k) = (matrix.layout, matrix.layout.k);
        let x =
            Operand { data: x.as_ptr(), extent: m, k, pitch: k, k_contiguous: true, k_down: false };
        let m_panels = m.div_ceil(PANEL);
        Purpose::Shared.lend(m_panels * panel_bytes(1, layout.steps()), |packed| {
            let many = Many { matrix, m, x, packed: Ptr(packed), y, finish };
            pool.split(m_panels, 1, &|panels| many.pack(panels));
            pool.split(layout.panels(), 1, &|panels| many.multiply(panels));
        });
    }

    impl Many<'_> {
        fn x_at(&self, steps: &Range<usize>, panel: usize) -> *mut u8 {
            let before = panel_bytes(1, steps.start) * self.m.div_ceil(PANEL);
            self.packed.at(before + panel * panel_bytes(1, steps.len()))
        }

        fn pack(&self, panels: Range<usize>) {
            for steps in k_blocks(self.matrix.layout.steps()) {
                let k = steps.start * STEP..(steps.end * STEP).min(self.x.k);
                let out = self.x_at(&steps, panels.start);
                // SAFETY: AMX machines have AVX-512; these panels are this worker's alone.
                unsafe { pack::<1>(&self.x, panels.clone(), k, 0..steps.len(), out) };
            }
        }

        fn multiply(&self, mine: Range<usize>) {
            // SAFETY: `product` promises AMX.
            let _tiles = unsafe { Tiles::configure() };
            let layout = self.matrix.layout;
            for first in mine.clone().step_by(W_PANELS) {
                let panels = first..(first + W_PANELS).min(mine.end);
                for steps in k_blocks(layout.steps()) {
                    if layout.format == Format::Bf16 {
                        // Panels are tiles as they lie.
                        let at = self.panel(panels.start).wrapping_add(panel_bytes(1, steps.start));
                        self.block(panels.clone(), steps, at, layout.panel_bytes());
                        continue;
                    }
                    let bytes = panel_bytes(1, steps.len());
                    Purpose::Streamed.lend(panels.len() * bytes, |w| {
                        for (i, panel) in panels.clone().enumerate() {
                            let to = w.wrapping_add(i * bytes);
                            // SAFETY: AMX machines have AVX-512 and bf16; the buffer is this worker's.
                            unsafe { unpack(&layout, self.panel(panel), steps.clone(), to) };
                        }
                        self.block(panels.clone(), steps.clone(), w, bytes);
                    });
                }
                if let Some(finish) = self.finish {
                    let columns = panels.start * PANEL..(panels.end * PANEL).min(layout.n);
                    // SAFETY: these columns are this worker's alone, and done.
                    finish(unsafe { Tile::new(self.y, layout.n, 0..self.m, columns) });
                }
            }
        }

        fn panel(&self, panel: usize) -> *const u8 {
            self.matrix.start().wrapping_add(panel * self.matrix.layout.panel_bytes())
        }

        /// All of x with `panels` of w, which lie `pitch` apart from `w` on, over one block of k.
        fn block(&self, panels: Range<usize>, steps: Range<usize>, w: *const u8, pitch: usize) {
            let n = self.matrix.layout.n;
            let bytes = panel_bytes(1, steps.len());
            let mut sums = Sums([[0.0; PANEL * PANEL]; 2]);
            let mut pending = Pending::NOTHING;
            // What comes next: the following panels of w, an eighth at a time.
            let ahead = |count: usize| {
                let next = w.wrapping_add(panels.len() * pitch);
                next.wrapping_add(count / 8 % W_PANELS * pitch + bytes / 8 * (count % 8))
            };
            let mut count = 0;
            for row in 0..self.m.div_ceil(PANEL) {
                let a = self.x_at(&steps, row);
                for (i, panel) in panels.clone().enumerate() {
                    let b = w.wrapping_add(i * pitch);
                    let at = Panels {
                        a,
                        b,
                        next: b.wrapping_add(panel_bytes(1, 1)),
                        again: a,
                        soon: ahead(count),
                    };
                    let to = sums.0[count % 2].as_mut_ptr();
                    // SAFETY: tiles are configured, both panels have these steps, `pending` is about the other
                    // half of `sums` and about a part of y that is this worker's alone.
                    unsafe { multiply::<1>(at, steps.len(), to, &mut pending) };
                    let columns = n - panel * PANEL;
                    pending = Pending {
                        from: to,
                        to: self.y.at(row * PANEL * n + panel * PANEL),
                        stride: n * size_of::<f32>(),
                        rows: (self.m - row * PANEL).min(PANEL),
                        masks: [ones(columns.min(16)), ones(columns.saturating_sub(16).min(16))],
                        add: steps.start > 0,
                    };
                    count += 1;
                }
            }
            // SAFETY: as above.
            unsafe { pending.flush() };
        }
    }

    /// One half is computed while the other is written to y.
    #[repr(align(64))]
    struct Sums([[f32; PANEL * PANEL]; 2]);

    /// `steps` of a panel of integers as tiles of bf16: rows of a tile pair k with k + 16.
    ///
    /// # Safety
    /// AVX-512 and its bf16 conversions exist; the panel is as the layout says; `out` has 2 KiB for each step,
    /// aligned to 64 bytes; `steps` begins with a group.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn unpack(layout: &Layout, panel: *const u8, steps: Range<usize>, out: *mut u8) {
        let per_group = layout.group_steps();
        let nibbles = layout.format == Format::Int4;
        let half_bytes = layout.step_bytes() / 2;
        let offset = _mm512_set1_epi32(i32::from(layout.format.offset()));
        for group in steps.start / per_group..steps.end.div_ceil(per_group) {
            let (start, count) = layout.group_at(group);
            let at = panel.wrapping_add(start);
            for half in 0..2 {
                let scales = at.wrapping_add(count * layout.step_bytes() + half * 32);
                // SAFETY: inside the panel.
                let scales = unsafe { _mm256_loadu_si256(scales.cast()) };
                let scales = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(scales));
                let scale = _mm512_castsi512_ps(scales);
                // A byte or nibble of each lane to its number.
                let number = |w: __m512i, bits: u32, mask: i32| {
                    let code = _mm512_srl_epi32(w, _mm_cvtsi32_si128(bits as i32));
                    let code = _mm512_and_si512(code, _mm512_set1_epi32(mask));
                    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(code, offset)), scale)
                };
                for i in 0..count {
                    let lines = at.wrapping_add((half * count + i) * half_bytes);
                    let tile = out.wrapping_add(
                        (group * per_group + i - steps.start) * 32 * LINE + half * 16 * LINE,
                    );
                    for j in 0..half_bytes / LINE {
                        // SAFETY: a line of the panel, rows of the tile.
                        unsafe {
                            let w = _mm512_load_si512(lines.wrapping_add(j * LINE).cast());
                            let put = |row: usize, low, high| {
                                let both = std::mem::transmute::<__m512bh, __m512i>(
                                    _mm512_cvtne2ps_pbh(high, low),
                                );
                                let pairs = _mm512_permutexvar_epi16(interleave(), both);
                                _mm512_store_si512(tile.wrapping_add(row * LINE).cast(), pairs);
                            };
                            if nibbles {
                                let x = |byte: u32| number(w, 8 * byte, 15);
                                put(j, x(0), x(2));
                                put(j + 8, x(1), x(3));
                                let x = |byte: u32| number(w, 8 * byte + 4, 15);
                                put(j + 4, x(0), x(2));
                                put(j + 12, x(1), x(3));
                            } else {
                                let x = |byte: u32| number(w, 8 * byte, 255);
                                put(j, x(0), x(2));
                                put(j + 8, x(1), x(3));
                            }
                        }
                    }
                }
            }
        }
    }
}
