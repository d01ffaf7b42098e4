//! Products of 32 x 32 blocks on AMX tiles, step by step.
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
/// `c = a · b` over `steps` steps, `+ c` if `add`; `c` holds 32 rows of 32 floats.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) a: *const u8,
    pub(super) b: *const u8,
    pub(super) steps: usize,
    pub(super) c: *mut f32,
    pub(super) add: bool,
}

/// Products that wait, and one that is under way: its sums stay in tile registers from step to step (no compiler
/// uses those), so that steps can be dealt out among vector instructions, which run beside them.
#[derive(Default)]
pub(super) struct Queue<const TERMS: usize> {
    products: Vec<Product>,
    /// The product under way and its steps that were done.
    at: (usize, usize),
    done: usize,
    total: usize,
}

impl<const TERMS: usize> Queue<TERMS> {
    /// Empties the queue, all of which must have run.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.done == self.total);
        self.products.clear();
        (self.at, self.done, self.total) = ((0, 0), 0, 0);
    }

    pub(super) fn push(&mut self, product: Product) {
        self.total += product.steps;
        self.products.push(product);
    }

    /// Does steps until `part` of `parts` of them are done.
    ///
    /// # Safety
    /// Tiles are configured on this thread, which does not use them otherwise before the queue is empty; the
    /// products' panels hold their steps and the sums a block.
    #[inline]
    pub(super) unsafe fn run(&mut self, part: usize, parts: usize) {
        let until = self.total * part / parts;
        while self.done < until {
            let (i, step) = self.at;
            let Product { a, b, steps, c, add } = self.products[i];
            // SAFETY: the caller's promise.
            unsafe {
                if step == 0 {
                    begin(c, add);
                }
                let offset = step * self::step(TERMS);
                advance::<TERMS>(a.wrapping_add(offset), b.wrapping_add(offset));
                self.at = (i, step + 1);
                if step + 1 == steps {
                    end(c);
                    self.at = (i + 1, 0);
                }
            }
            self.done += 1;
        }
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

macro_rules! advance {
    ($a:ident, $b:ident, $step:expr) => {
        asm!(
            $step,
            a = in(reg) $a,
            b = in(reg) $b,
            s = in(reg) 64_usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags)
        )
    };
}

/// One step. With three terms `x = x0 + x1 + x2`, the six products down to 2^-16 of the largest, smallest first.
#[inline(always)]
unsafe fn advance<const TERMS: usize>(a: *const u8, b: *const u8) {
    // SAFETY: reads what the caller of `run` promised.
    unsafe {
        if TERMS == 1 {
            advance!(a, b, concat!(load_b!(0), load_a!(0), products!()));
        } else {
            advance!(
                a,
                b,
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
