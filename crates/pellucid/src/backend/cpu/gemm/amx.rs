//! The innermost products, on AMX tiles: 32 rows × 32 columns of C in four tiles.
//!
//! A *panel* holds 32 rows of A (or 32 columns of B) and, for each step of [`K_STEP`] values of k,
//! `TERMS` pairs of tiles of 1 KiB. Instructions: Intel 64 and IA-32 Architectures SDM, volume 1,
//! chapter 18. Stable Rust has no intrinsics for them; all tile state lives inside one `asm!`.

use std::arch::asm;
use std::cell::Cell;

/// Rows of A and columns of B in one panel.
pub(super) const PANEL: usize = 32;
/// Values of k that one tile product consumes.
pub(super) const K_STEP: usize = 32;
/// Bytes of one tile.
pub(super) const TILE_BYTES: usize = 1024;

/// Bytes of a panel of `steps` steps.
pub(super) const fn panel_bytes(terms: usize, steps: usize) -> usize {
    steps * terms * 2 * TILE_BYTES
}

#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 rows × 64 bytes.
static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, this thread's tiles are configured. Loans nest.
pub(in crate::backend::cpu) struct Tiles(());

impl Tiles {
    /// # Safety
    /// `Features::used` is `Amx`.
    pub(in crate::backend::cpu) unsafe fn configure() -> Self {
        if DEPTH.replace(DEPTH.get() + 1) == 0 {
            // SAFETY: tiles exist and are permitted; CONFIG is a valid palette-1 configuration.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) }
        }
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        if DEPTH.replace(DEPTH.get() - 1) == 1 {
            // SAFETY: `configure` ran on this thread; Tiles is not Send by its use in one scope.
            unsafe { asm!("tilerelease", options(nostack, nomem)) }
        }
    }
}

/// The four products of two A tiles (tmm4, tmm5) with two B tiles (tmm6, tmm7). Four
/// accumulators hide the latency of a product (52 cycles, one may start every 16).
macro_rules! four_products {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6
         tdpbf16ps tmm1, tmm4, tmm7
         tdpbf16ps tmm2, tmm5, tmm6
         tdpbf16ps tmm3, tmm5, tmm7"
    };
}
macro_rules! load_a {
    ($term:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {s}*1 + 2048*",
            $term,
            "]\n",
            "tileloadd tmm5, [{a} + {s}*1 + 2048*",
            $term,
            " + 1024]"
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
            " + 1024]"
        )
    };
}
macro_rules! micro_kernel {
    ($a:ident, $b:ident, $steps:ident, $c:ident, $stride:ident, $advance:literal, $($body:expr),+) => {
        asm!(
            "tilezero tmm0
             tilezero tmm1
             tilezero tmm2
             tilezero tmm3
             2:",
            $($body,)+
            concat!("add {a}, ", $advance),
            concat!("add {b}, ", $advance),
            "dec {n}
             jnz 2b
             tilestored [{c} + {cs}*1], tmm0
             tilestored [{c} + {cs}*1 + 64], tmm1
             tilestored [{d} + {cs}*1], tmm2
             tilestored [{d} + {cs}*1 + 64], tmm3",
            a = inout(reg) $a => _,
            b = inout(reg) $b => _,
            n = inout(reg) $steps => _,
            s = in(reg) 64_usize,
            c = in(reg) $c,
            d = in(reg) $c.wrapping_byte_add(16 * $stride),
            cs = in(reg) $stride,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// `c = a·b` for two panels of `steps` steps; rows of c are `stride` bytes apart.
///
/// Three terms hold x = x0 + x1 + x2 exactly; the six products down to 2^-16 of the largest are
/// kept, and each loaded pair of tiles is used by all its neighbours in the order below.
///
/// # Safety
/// A [`Tiles`] lives on this thread; `steps` > 0; the panels are that long; c has 32 × 32 values.
#[inline]
pub(super) unsafe fn multiply<const TERMS: usize>(
    a: *const u8,
    b: *const u8,
    steps: usize,
    c: *mut f32,
    stride: usize,
) {
    // SAFETY: reads and writes exactly what the caller promised.
    unsafe {
        match TERMS {
            1 => micro_kernel!(
                a,
                b,
                steps,
                c,
                stride,
                "2048",
                load_b!(0),
                load_a!(0),
                four_products!()
            ),
            3 => micro_kernel!(
                a,
                b,
                steps,
                c,
                stride,
                "6144",
                load_b!(0),
                load_a!(2),
                four_products!(),
                load_a!(1),
                four_products!(),
                load_b!(1),
                four_products!(),
                load_a!(0),
                four_products!(),
                load_b!(2),
                four_products!(),
                load_b!(0),
                four_products!()
            ),
            _ => unreachable!("terms are 1 or 3"),
        }
    }
}

/// Tile products on registers only, for the measurement of the peak.
///
/// # Safety
/// A [`Tiles`] lives on this thread.
pub(in crate::backend::cpu) unsafe fn spin(rounds: usize) {
    // SAFETY: touches tile registers only.
    unsafe {
        asm!(
            "tilezero tmm0
             tilezero tmm1
             tilezero tmm2
             tilezero tmm3
             tilezero tmm4
             tilezero tmm5
             tilezero tmm6
             tilezero tmm7
             2:",
            four_products!(),
            "dec {n}
             jnz 2b",
            n = inout(reg) rounds.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem)
        );
    }
}
