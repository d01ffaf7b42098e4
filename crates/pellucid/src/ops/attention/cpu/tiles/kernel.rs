//! Products of 32 x 32 blocks on AMX tiles.
//!
//! Operands are panels of 32 rows (left) or columns (right): for each step of 32 values of `k`, `TERMS` pairs of
//! tiles of 1 KiB. A tile pairs neighbours in `k`: an element of 32 bits holds `k = 2 j` below and `k = 2 j + 1`
//! above.
#![allow(unsafe_code)] // tile registers

use crate::backend::cpu::gemm::amx::{four_products, load_a, load_b};
use std::arch::asm;

/// Rows and columns of a block, and values of `k` in a step.
pub(super) const PANEL: usize = 32;
/// Floats of a block of sums.
pub(super) const BLOCK: usize = PANEL * PANEL;
/// Bytes of a tile.
pub(super) const TILE: usize = 1024;

/// Bytes of a step of a panel.
pub(super) const fn step(terms: usize) -> usize {
    terms * 2 * TILE
}

/// `c = a · b` over `steps` steps, `+ c` if `add`; `c` holds 32 rows of 32 floats.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) a: *const u8,
    pub(super) b: *const u8,
    pub(super) steps: usize,
    pub(super) c: *mut f32,
    pub(super) add: bool,
}

/// Products that are computed in one go: while one multiplies, the operands of the next step come to L1.
///
/// (Tile products and vector instructions do not run beside each other on the machines measured, Granite Rapids:
/// mixing them gains nothing.)
#[derive(Default)]
pub(super) struct Queue<const TERMS: usize>(Vec<Product>);

impl<const TERMS: usize> Queue<TERMS> {
    pub(super) fn push(&mut self, product: Product) {
        self.0.push(product);
    }

    /// Computes all products in their order.
    ///
    /// # Safety
    /// Tiles are configured on this thread; the panels hold their steps and the sums a block.
    #[inline]
    pub(super) unsafe fn run(&mut self) {
        let step = step(TERMS);
        for (i, &Product { a, b, steps, c, add }) in self.0.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                begin(c, add);
                let (mut a, mut b) = (a, b);
                for _ in 1..steps {
                    let next = (a.wrapping_add(step), b.wrapping_add(step));
                    advance::<TERMS>((a, b), next);
                    (a, b) = next;
                }
                let next = self.0.get(i + 1).map_or((a, b), |next| (next.a, next.b));
                advance::<TERMS>((a, b), next);
                end(c);
            }
        }
        self.0.clear();
    }
}

/// Loads or clears the sums.
#[inline(always)]
unsafe fn begin(c: *const f32, add: bool) {
    // SAFETY: reads what the caller of `run` promised.
    unsafe {
        if add {
            asm!(
                "tileloadd tmm0, [{c} + {s}*2]
                 tileloadd tmm1, [{c} + {s}*2 + 64]
                 tileloadd tmm2, [{c} + {s}*2 + 2048]
                 tileloadd tmm3, [{c} + {s}*2 + 2048 + 64]",
                c = in(reg) c,
                s = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, readonly, preserves_flags)
            );
        } else {
            asm!(
                "tilezero tmm0
                 tilezero tmm1
                 tilezero tmm2
                 tilezero tmm3",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, preserves_flags)
            );
        }
    }
}

/// Stores the sums.
#[inline(always)]
unsafe fn end(c: *mut f32) {
    // SAFETY: writes what the caller of `run` promised.
    unsafe {
        asm!(
            "tilestored [{c} + {s}*2], tmm0
             tilestored [{c} + {s}*2 + 64], tmm1
             tilestored [{c} + {s}*2 + 2048], tmm2
             tilestored [{c} + {s}*2 + 2048 + 64], tmm3",
            c = in(reg) c,
            s = in(reg) 64_usize,
            options(nostack, preserves_flags)
        );
    }
}

/// Asks for a KiB at a register.
macro_rules! fetch {
    ($from:literal, $kib:literal) => {
        fetch!($from, $kib, 0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960)
    };
    ($from:literal, $kib:literal, $($at:literal),*) => {
        concat!($("prefetcht0 [{", $from, "} + 1024*", $kib, " + ", $at, "]\n"),*)
    };
}
macro_rules! advance {
    ($at:ident, $next:ident, $step:expr) => {
        asm!(
            $step,
            a = in(reg) $at.0,
            b = in(reg) $at.1,
            y = in(reg) $next.0,
            z = in(reg) $next.1,
            s = in(reg) 64_usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags)
        )
    };
}

/// One step. With three terms `x = x0 + x1 + x2`, the six products down to 2^-16 of the largest, smallest first.
#[inline(always)]
unsafe fn advance<const TERMS: usize>(at: (*const u8, *const u8), next: (*const u8, *const u8)) {
    // SAFETY: reads what the caller of `run` promised.
    unsafe {
        if TERMS == 1 {
            advance!(
                at,
                next,
                concat!(
                    load_b!(0),
                    load_a!(0),
                    four_products!(),
                    fetch!("y", 0),
                    fetch!("y", 1),
                    fetch!("z", 0),
                    fetch!("z", 1),
                )
            );
        } else {
            advance!(
                at,
                next,
                concat!(
                    load_b!(0),
                    load_a!(2),
                    four_products!(),
                    fetch!("y", 4),
                    fetch!("y", 5),
                    load_a!(1),
                    four_products!(),
                    fetch!("z", 0),
                    fetch!("z", 1),
                    load_b!(1),
                    four_products!(),
                    fetch!("y", 2),
                    fetch!("y", 3),
                    load_a!(0),
                    four_products!(),
                    fetch!("z", 2),
                    fetch!("z", 3),
                    load_b!(2),
                    four_products!(),
                    fetch!("y", 0),
                    fetch!("y", 1),
                    load_b!(0),
                    four_products!(),
                    fetch!("z", 4),
                    fetch!("z", 5),
                )
            );
        }
    }
}
