//! A 32 x 32 block of a product on AMX tiles.
//!
//! Operands are panels of 32 rows (left) or columns (right): for each step of 32 values of `k`, `TERMS` pairs of
//! tiles of 1 KiB. A tile pairs neighbours in `k`: an element of 32 bits holds `k = 2 j` below and `k = 2 j + 1`
//! above.
#![allow(unsafe_code)] // tile registers

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

macro_rules! load_a {
    ($term:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {s}*1 + 2048*",
            $term,
            "]\n",
            "tileloadd tmm5, [{a} + {s}*1 + 2048*",
            $term,
            " + 1024]\n"
        )
    };
}
macro_rules! load_b {
    ($term:literal) => {
        concat!(
            "tileloadd tmm6, [{b} + {s}*1 + 2048*",
            $term,
            "]\n",
            "tileloadd tmm7, [{b} + {s}*1 + 2048*",
            $term,
            " + 1024]\n"
        )
    };
}
macro_rules! products {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6
         tdpbf16ps tmm1, tmm4, tmm7
         tdpbf16ps tmm2, tmm5, tmm6
         tdpbf16ps tmm3, tmm5, tmm7
        "
    };
}
macro_rules! kernel {
    ($a:ident, $b:ident, $steps:ident, $c:ident, $add:ident, $advance:literal, $step:expr) => {
        asm!(
            "test {add}, {add}
             jz 3f
             tileloadd tmm0, [{c} + {s}*2]
             tileloadd tmm1, [{c} + {s}*2 + 64]
             tileloadd tmm2, [{c} + {s}*2 + 2048]
             tileloadd tmm3, [{c} + {s}*2 + 2048 + 64]
             jmp 2f
             3:
             tilezero tmm0
             tilezero tmm1
             tilezero tmm2
             tilezero tmm3
             2:",
            $step,
            concat!("add {a}, ", $advance),
            concat!("add {b}, ", $advance),
            "dec {n}
             jnz 2b
             tilestored [{c} + {s}*2], tmm0
             tilestored [{c} + {s}*2 + 64], tmm1
             tilestored [{c} + {s}*2 + 2048], tmm2
             tilestored [{c} + {s}*2 + 2048 + 64], tmm3",
            a = inout(reg) $a => _,
            b = inout(reg) $b => _,
            n = inout(reg) $steps => _,
            c = in(reg) $c,
            add = in(reg) usize::from($add),
            s = in(reg) 64_usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// `c = a · b` over `steps` steps, `+ c` if `add`. `c` holds 32 rows of 32 floats.
///
/// With three terms `x = x0 + x1 + x2`, the six products down to 2^-16 of the largest, smallest first.
///
/// # Safety
/// Tiles are configured on this thread; the panels hold `steps > 0` steps; `c` holds a block.
#[inline]
pub(super) unsafe fn block<const TERMS: usize>(
    a: *const u8,
    b: *const u8,
    steps: usize,
    c: *mut f32,
    add: bool,
) {
    debug_assert!(steps > 0);
    // SAFETY: reads and writes what the caller promised.
    unsafe {
        if TERMS == 1 {
            kernel!(a, b, steps, c, add, "2048", concat!(load_b!(0), load_a!(0), products!()));
        } else {
            kernel!(
                a,
                b,
                steps,
                c,
                add,
                "6144",
                concat!(
                    load_b!(0),
                    load_a!(2),
                    products!(),
                    load_a!(1),
                    products!(),
                    load_b!(1),
                    products!(),
                    load_a!(0),
                    products!(),
                    load_b!(2),
                    products!(),
                    load_b!(0),
                    products!(),
                )
            );
        }
    }
}
