//! The innermost products, on AMX tiles: 32 rows × 32 columns of C in four tiles.
//!
//! A *panel* holds 32 rows of A (or 32 columns of B) and, for each step of [`K_STEP`] values of k,
//! `TERMS` pairs of tiles of 1 KiB. Instructions: Intel 64 and IA-32 Architectures SDM, volume 1,
//! chapter 18. Stable Rust has no intrinsics for them; all tile state lives inside one `asm!`.

use std::arch::asm;
use std::cell::Cell;

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

/// A 32 × 32 block of sums on its way to C.
///
/// The next product of panels writes it while it computes: stores to C miss every cache, and a
/// burst of them would hold up the loads of tiles.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    /// Rows of 32 values, one after another.
    pub(crate) from: *const f32,
    pub(crate) to: *mut f32,
    /// Bytes between rows of C.
    pub(crate) stride: usize,
    /// Rows that are left.
    pub(crate) rows: usize,
    /// Which of the 16 + 16 columns exist.
    pub(crate) masks: [u16; 2],
    /// Add to C instead of replacing it.
    pub(crate) add: bool,
}

impl Pending {
    pub(crate) const NOTHING: Self = Self {
        from: std::ptr::null(),
        to: std::ptr::null_mut(),
        stride: 0,
        rows: 0,
        masks: [0; 2],
        add: false,
    };

    /// Writes what is left.
    ///
    /// # Safety
    /// AVX-512 F exists; `from` is readable and `to` writable as described.
    #[target_feature(enable = "avx512f")]
    pub(crate) unsafe fn flush(&mut self) {
        use std::arch::x86_64::*;
        for row in 0..self.rows {
            for (half, &mask) in self.masks.iter().enumerate() {
                let to = self.to.wrapping_byte_add(row * self.stride).wrapping_add(half * 16);
                // SAFETY: inside the block; columns outside C are masked off.
                unsafe {
                    let mut value = _mm512_loadu_ps(self.from.add(row * PANEL + half * 16));
                    if self.add {
                        value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, to));
                    }
                    _mm512_mask_storeu_ps(to, mask, value);
                }
            }
        }
        self.rows = 0;
    }
}

/// Writes one pending row, if any is left.
macro_rules! write_row {
    () => {
        "test {r}, {r}
         jz 4f
         vmovaps zmm0, [{p}]
         vmovaps zmm1, [{p} + 64]
         test {f:e}, {f:e}
         jz 3f
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
         4:"
    };
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
/// Asks for two lines of packed panels that come soon.
macro_rules! fetch {
    ($at:literal) => {
        concat!("prefetcht1 [{x} + 128*", $at, "]\nprefetcht1 [{x} + 128*", $at, " + 64]")
    };
}
macro_rules! micro_kernel {
    ($a:ident, $b:ident, $steps:ident, $sums:ident, $w:ident, $soon:ident, $advance:literal,
     $($body:expr),+) => {
        asm!(
            "kmovw k1, {k:e}
             shr {k:e}, 16
             kmovw k2, {k:e}
             tilezero tmm0
             tilezero tmm1
             tilezero tmm2
             tilezero tmm3
             2:",
            $($body,)+
            concat!("add {a}, ", $advance),
            concat!("add {b}, ", $advance),
            concat!("add {x}, ", $advance, "/8"),
            "dec {n}
             jnz 2b
             tilestored [{t} + {s}*2], tmm0
             tilestored [{t} + {s}*2 + 64], tmm1
             tilestored [{t} + {s}*2 + 2048], tmm2
             tilestored [{t} + {s}*2 + 2048 + 64], tmm3",
            a = inout(reg) $a => _,
            b = inout(reg) $b => _,
            n = inout(reg) $steps => _,
            x = inout(reg) $soon => _,
            s = in(reg) 64_usize,
            t = in(reg) $sums,
            p = inout(reg) $w.from,
            q = inout(reg) $w.to,
            r = inout(reg) $w.rows,
            cs = in(reg) $w.stride,
            k = inout(reg) u32::from($w.masks[0]) | u32::from($w.masks[1]) << 16 => _,
            f = in(reg) u32::from($w.add),
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
/// An eighth of a panel at `soon` is fetched to L2; a hint.
///
/// # Safety
/// AVX-512 F exists; a [`Tiles`] lives on this thread; `steps` > 0; the panels are that long;
/// `sums` has 32 × 32 values, aligned to 64 bytes, apart from `pending`; see [`Pending::flush`].
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn multiply<const TERMS: usize>(
    a: *const u8,
    b: *const u8,
    steps: usize,
    sums: *mut f32,
    pending: &mut Pending,
    soon: *const u8,
) {
    // SAFETY: reads and writes exactly what the caller promised.
    unsafe {
        match TERMS {
            1 => micro_kernel!(
                a,
                b,
                steps,
                sums,
                pending,
                soon,
                "2048",
                load_b!(0),
                load_a!(0),
                four_products!(),
                write_row!(),
                write_row!(),
                write_row!()
            ),
            3 => micro_kernel!(
                a,
                b,
                steps,
                sums,
                pending,
                soon,
                "6144",
                load_b!(0),
                load_a!(2),
                four_products!(),
                write_row!(),
                fetch!(0),
                load_a!(1),
                four_products!(),
                write_row!(),
                fetch!(1),
                load_b!(1),
                four_products!(),
                write_row!(),
                fetch!(2),
                load_a!(0),
                four_products!(),
                write_row!(),
                fetch!(3),
                load_b!(2),
                four_products!(),
                write_row!(),
                fetch!(4),
                load_b!(0),
                four_products!(),
                write_row!(),
                fetch!(5),
                "tilestored [{t} + {s}*2], tmm0"
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
pub(crate) unsafe fn spin(rounds: usize) {
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
