//! The innermost products, on AMX tiles: 32 rows × 32 columns of C in four tiles.
//!
//! A *panel* holds 32 rows of A (or 32 columns of B) and, for each step of [`K_STEP`] values of k,
//! `TERMS` pairs of tiles of 1 KiB. Instructions: Intel 64 and IA-32 Architectures SDM, volume 1,
//! chapter 18. Stable Rust has no intrinsics for them; all tile state lives inside one `asm!`.

use std::arch::asm;
use std::cell::Cell;

use super::pending::Pending;

/// Rows of A and columns of B in one panel.
pub(crate) const PANEL: usize = 32;
/// Values of k that one tile product consumes.
pub(crate) const K_STEP: usize = 32;
/// Bytes of one tile.
pub(crate) const TILE_BYTES: usize = 1024;

/// Bytes of a panel of `steps` steps.
pub(crate) const fn panel_bytes(terms: usize, steps: usize) -> usize {
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
pub(crate) struct Tiles(());

impl Tiles {
    /// # Safety
    /// `Features::used` is `Amx`.
    pub(crate) unsafe fn configure() -> Self {
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

/// Where the operands of one product of panels are, and what to fetch meanwhile (hints).
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    pub(crate) a: *const u8,
    pub(crate) b: *const u8,
    /// The second step of the operand that goes on to another panel, for L1.
    pub(crate) next: *const u8,
    /// The first step of the operand that is used again, for L1.
    pub(crate) again: *const u8,
    /// An eighth of a later panel, for L2.
    pub(crate) soon: *const u8,
}

/// Writes one pending row, if any is left.
macro_rules! write_row {
    () => {
        "test {r}, {r}
         jz 4f
         vmovaps zmm0, [{p}]
         vmovaps zmm1, [{p} + 64]
         bt {k}, 32
         jnc 3f
         vmovups zmm2{{k1}}{{z}}, [{q}]
         vmovups zmm3{{k2}}{{z}}, [{q} + 64]
         prefetchw [{q} + {cs}*8]
         prefetchw [{q} + {cs}*8 + 64]
         vaddps zmm0, zmm0, zmm2
         vaddps zmm1, zmm1, zmm3
         3:
         vmovups [{q}]{{k1}}, zmm0
         vmovups [{q} + 64]{{k2}}, zmm1
         add {p}, 128
         add {q}, {cs}
         dec {r}
         4:
        "
    };
}
/// The four products of two A tiles (tmm4, tmm5) with two B tiles (tmm6, tmm7). Four
/// accumulators hide the latency of a product (52 cycles, one may start every 16).
macro_rules! four_products {
    () => {
        four_products!("", "", "", "")
    };
    // With something to do after each product.
    ($first:expr, $second:expr, $third:expr, $fourth:expr) => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            $first,
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            $second,
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            $third,
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            $fourth
        )
    };
}
/// Asks for a quarter of a KiB at a register.
macro_rules! fetch_4 {
    ($from:literal, $kib:literal, $quarter:literal) => {
        concat!(
            "prefetcht0 [{",
            $from,
            "} + 1024*",
            $kib,
            " + 256*",
            $quarter,
            "]\n",
            "prefetcht0 [{",
            $from,
            "} + 1024*",
            $kib,
            " + 256*",
            $quarter,
            " + 64]\n",
            "prefetcht0 [{",
            $from,
            "} + 1024*",
            $kib,
            " + 256*",
            $quarter,
            " + 128]\n",
            "prefetcht0 [{",
            $from,
            "} + 1024*",
            $kib,
            " + 256*",
            $quarter,
            " + 192]\n"
        )
    };
}
/// Four products, while the next KiB of the streamed operand comes to L1.
macro_rules! products_next {
    ($kib:literal) => {
        four_products!(
            fetch_4!("y", $kib, 0),
            fetch_4!("y", $kib, 1),
            fetch_4!("y", $kib, 2),
            fetch_4!("y", $kib, 3)
        )
    };
}
/// The same at the end of a panel: also the next KiB of the operand that starts again.
macro_rules! products_again {
    ($kib:literal) => {
        four_products!(
            concat!(fetch_4!("y", $kib, 0), fetch_4!("z", $kib, 0)),
            concat!(fetch_4!("y", $kib, 1), fetch_4!("z", $kib, 1)),
            concat!(fetch_4!("y", $kib, 2), fetch_4!("z", $kib, 2)),
            concat!(fetch_4!("y", $kib, 3), fetch_4!("z", $kib, 3))
        )
    };
}
/// One step of three terms.
macro_rules! step_3 {
    ($products:ident) => {
        concat!(
            load_b!(0),
            load_a!(2),
            $products!(0),
            write_row!(),
            fetch!(0),
            load_a!(1),
            $products!(1),
            write_row!(),
            fetch!(1),
            load_b!(1),
            $products!(2),
            write_row!(),
            fetch!(2),
            load_a!(0),
            $products!(3),
            write_row!(),
            fetch!(3),
            load_b!(2),
            $products!(4),
            write_row!(),
            fetch!(4),
            load_b!(0),
            $products!(5),
            write_row!(),
            fetch!(5),
            "tilestored [{t} + {s}*2], tmm0\n"
        )
    };
}
/// Four products, while the next two KiB of an operand come to L1.
macro_rules! products_two {
    ($from:literal) => {
        four_products!(
            concat!(fetch_4!($from, 0, 0), fetch_4!($from, 0, 1)),
            concat!(fetch_4!($from, 0, 2), fetch_4!($from, 0, 3)),
            concat!(fetch_4!($from, 1, 0), fetch_4!($from, 1, 1)),
            concat!(fetch_4!($from, 1, 2), fetch_4!($from, 1, 3))
        )
    };
}
/// One step of one term.
macro_rules! step_1 {
    ($from:literal) => {
        concat!(
            load_b!(0),
            load_a!(0),
            products_two!($from),
            write_row!(),
            fetch!(0),
            write_row!(),
            fetch!(1),
            write_row!()
        )
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
pub(crate) use {four_products, load_a, load_b};
/// Asks for two lines of packed panels that come soon.
macro_rules! fetch {
    ($at:literal) => {
        concat!("prefetcht1 [{x} + 128*", $at, "]\nprefetcht1 [{x} + 128*", $at, " + 64]\n")
    };
}
macro_rules! micro_kernel {
    ($at:ident, $steps:ident, $sums:ident, $w:ident, $advance:literal, $step:expr, $last:expr) => {
        asm!(
            "kmovd k1, {k:e}
             kshiftrd k2, k1, 16
             tilezero tmm0
             tilezero tmm1
             tilezero tmm2
             tilezero tmm3
             dec {n}
             jz 5f
             2:",
            $step,
            concat!("add {a}, ", $advance),
            concat!("add {b}, ", $advance),
            concat!("add {y}, ", $advance),
            concat!("add {x}, ", $advance, "/8"),
            "dec {n}
             jnz 2b
             5:",
            $last,
            "tilestored [{t} + {s}*2], tmm0
             tilestored [{t} + {s}*2 + 64], tmm1
             tilestored [{t} + {s}*2 + 2048], tmm2
             tilestored [{t} + {s}*2 + 2048 + 64], tmm3",
            a = inout(reg) $at.a => _,
            b = inout(reg) $at.b => _,
            n = inout(reg) $steps => _,
            x = inout(reg) $at.soon => _,
            y = inout(reg) $at.next => _,
            z = in(reg) $at.again,
            s = in(reg) 64_usize,
            t = in(reg) $sums,
            p = inout(reg) $w.from,
            q = inout(reg) $w.to,
            r = inout(reg) $w.rows,
            cs = in(reg) $w.stride,
            k = in(reg) $w.flags(),
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("k1") _, out("k2") _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// `sums = a·b` for two panels of `steps` steps, while `pending` is written; what is left of it
/// is written afterwards.
///
/// Three terms hold x = x0 + x1 + x2 exactly; the six products down to 2^-16 of the largest are
/// kept, and each loaded pair of tiles is used by all its neighbours in the order below. The store
/// at the end of a step is overwritten by the last ones; without it a tile store after 650 ns
/// without one stalls for 250 ns (measured on Granite Rapids).
///
/// # Safety
/// AVX-512 F and BW exist; a [`Tiles`] lives on this thread; `steps` > 0; the panels are that long;
/// `sums` has 32 × 32 values, aligned to 64 bytes, apart from `pending`; see [`Pending::flush`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn multiply<const TERMS: usize>(
    at: Panels,
    steps: usize,
    sums: *mut f32,
    pending: &mut Pending,
) {
    // SAFETY: reads and writes exactly what the caller promised.
    unsafe {
        match TERMS {
            1 => micro_kernel!(at, steps, sums, pending, "2048", step_1!("y"), step_1!("z")),
            3 => micro_kernel!(
                at,
                steps,
                sums,
                pending,
                "6144",
                step_3!(products_next),
                step_3!(products_again)
            ),
            _ => unreachable!("terms are 1 or 3"),
        }
        pending.flush();
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
