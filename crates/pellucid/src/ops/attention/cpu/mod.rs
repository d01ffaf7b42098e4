//! The fast version: tiles of 64 query rows x 128 keys, never the whole of T x S.
//!
//! Forward: online softmax (Milakov & Gimelshein 2018) over tiles of keys (Dao et al. 2022). Backward: the
//! probabilities are computed again from the saved log-sum-exp. Work is dealt out by (b, kv head): whoever
//! owns one owns its dK and dV, so nothing is added by two workers and the order of every sum is fixed.
//!
//! On AMX, whole sequences have passes of their own (`tiles`). Else the algorithm (`forward`, `backward`) asks an
//! [`engine::Engine`] for products of tiles: `vectors`, with fused multiply-adds. Keys are turned once per tile so that products run along registers; masked
//! strips of rows are skipped; scores are kept in base 2 (the factor goes into the packed queries).
#![allow(unsafe_code)] // raw tiles, disjoint writes from several workers

mod backward;
mod bias;
mod dropout;
mod engine;
mod forward;
mod simd;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod vectors;

pub(crate) use backward::{backward, backward_scratch};
pub(crate) use bias::Biases;
pub(crate) use dropout::Dropout;
pub(crate) use forward::{forward, forward_scratch};

use super::{AttentionDims, Mask};
use crate::backend::cpu::features::{Features, Isa};
use crate::backend::cpu::gemm::Precision;
use simd::LANES;
use std::ops::Range;

/// Query rows of a tile.
const QUERIES: usize = 64;
/// Keys of a tile.
const KEYS: usize = 128;

/// Heads of rows in somebody's memory: element `(b, head, t, i)` is at
/// `offset + b * batch + head * head_stride + t * row + i`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) offset: usize,
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) row: usize,
}

impl View<'_> {
    fn check(&self, batches: usize, heads: usize, rows: usize, d: usize) {
        let last = (batches - 1) * self.batch + (heads - 1) * self.head + (rows - 1) * self.row;
        assert!(self.offset + last + d <= self.data.len(), "attention: a view leaves its memory");
    }

    #[inline(always)]
    fn at(&self, b: usize, head: usize, row: usize) -> *const f32 {
        let i = self.offset + b * self.batch + head * self.head + row * self.row;
        self.data[i..].as_ptr()
    }

    /// One row of `d` floats.
    pub(super) fn row(&self, b: usize, head: usize, row: usize, d: usize) -> &[f32] {
        let i = self.offset + b * self.batch + head * self.head + row * self.row;
        &self.data[i..i + d]
    }
}

/// Where a gradient goes, laid out as a [`View`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) data: crate::backend::cpu::pool::Ptr<f32>,
    pub(crate) len: usize,
    pub(crate) offset: usize,
    pub(crate) batch: usize,
    pub(crate) row: usize,
    pub(crate) accumulate: bool,
}

impl Target {
    /// Where `(b, head, row)` starts; `d` elements are inside.
    #[cfg(target_arch = "x86_64")]
    fn at(&self, (b, head, row): (usize, usize, usize), d: usize) -> *mut f32 {
        let start = self.offset + b * self.batch + row * self.row + head * d;
        assert!(start + d <= self.len, "attention: a gradient leaves its memory");
        self.data.0.wrapping_add(start)
    }

    /// Writes or adds `scale * src` at `(b, head, row)`; heads are `src.len()` apart.
    ///
    /// # Safety
    /// No other worker may touch these elements meanwhile.
    #[inline(always)]
    unsafe fn put(&self, (b, head, row): (usize, usize, usize), src: &[f32], scale: f32) {
        let start = self.offset + b * self.batch + row * self.row + head * src.len();
        assert!(start + src.len() <= self.len, "attention: a gradient leaves its memory");
        // SAFETY: in bounds as asserted, disjoint as the caller promised.
        let dst = unsafe { self.data.slice(start, src.len()) };
        if self.accumulate {
            dst.iter_mut().zip(src).for_each(|(d, s)| *d += scale * s);
        } else {
            dst.iter_mut().zip(src).for_each(|(d, s)| *d = scale * s);
        }
    }
}

/// What the forward pass left behind, and the gradient of its output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved<'a> {
    /// `(B, T, H * D)`
    pub(crate) out: &'a [f32],
    /// `(B, T, H * D)`
    pub(crate) d_out: &'a [f32],
    /// `(B, H, T)`
    pub(crate) lse: &'a [f32],
}

/// Where the gradients of q, k and v go; `None` where nobody wants one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gradients {
    pub(crate) q: Option<Target>,
    pub(crate) k: Option<Target>,
    pub(crate) v: Option<Target>,
}

/// Everything about one attention but the outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) dims: AttentionDims,
    pub(crate) mask: Mask,
    pub(crate) alibi: bool,
    pub(crate) biases: Option<Biases<'a>>,
    pub(crate) scale: f32,
    /// Real keys of each batch row; empty: all.
    pub(crate) lengths: &'a [i32],
    /// Positions before the first query of each batch row; empty: none.
    pub(crate) past: &'a [i32],
    /// Real queries of each batch row; empty: all.
    pub(crate) new: &'a [i32],
    pub(crate) dropout: Option<Dropout>,
    pub(crate) q: View<'a>,
    pub(crate) k: View<'a>,
    pub(crate) v: View<'a>,
    pub(crate) level: Level,
}

impl Call<'_> {
    pub(super) fn check(&self) {
        let AttentionDims { b, t, s, h, kv, d } = self.dims;
        self.q.check(b, h, t, d);
        self.k.check(b, kv, s, d);
        self.v.check(b, kv, s, d);
        assert!(
            [self.lengths.len(), self.past.len(), self.new.len()].iter().all(|&n| n == 0 || n == b)
        );
    }

    pub(super) fn past(&self, b: usize) -> usize {
        self.past.get(b).map_or(0, |&p| p as usize)
    }

    /// Keys of batch row `b` that exist.
    fn keys(&self, b: usize) -> usize {
        let real = match self.new.get(b) {
            Some(&new) => self.past(b) + new as usize,
            None => self.lengths.get(b).map_or(self.dims.s, |&l| l as usize),
        };
        real.min(self.dims.s)
    }

    /// Keys that query `t` of batch row `b` looks at.
    #[inline(always)]
    pub(super) fn range(&self, b: usize, t: usize) -> Range<usize> {
        if self.new.get(b).is_some_and(|&new| t >= new as usize) {
            return 0..0;
        }
        let keys = self.keys(b);
        self.mask.range(t, self.past(b), keys, keys)
    }

    /// Heads that share one key/value head.
    pub(super) fn group(&self) -> usize {
        self.dims.h / self.dims.kv
    }
}

/// Which instructions to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// AMX tiles, operands rounded to bf16.
    #[cfg(target_arch = "x86_64")]
    Tiles,
    /// AMX tiles, three bf16 for each f32.
    #[cfg(target_arch = "x86_64")]
    Split,
    /// 512-bit registers with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit registers with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of plain loops.
    Portable,
}

#[cfg(test)]
thread_local! {
    /// What [`Level::best`] answers on this thread, so that tests judge every level.
    pub(super) static FORCED: std::cell::Cell<Option<Level>> = const { std::cell::Cell::new(None) };
}

impl Level {
    /// The levels that compute in f32 on vectors and that this machine can run and may use, best first.
    pub(crate) fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        return match Features::get().used {
            Isa::Amx | Isa::Avx512 => &[Self::Avx512, Self::Avx2, Self::Portable],
            Isa::Avx2 => &[Self::Avx2, Self::Portable],
            _ => &[Self::Portable],
        };
        #[cfg(not(target_arch = "x86_64"))]
        &[Self::Portable]
    }

    /// The best on vectors.
    pub(crate) fn vectors() -> Self {
        Self::all()[0]
    }

    /// The best for whole sequences.
    pub(crate) fn best(dims: &AttentionDims, precision: Precision) -> Self {
        #[cfg(test)]
        if let Some(level) = FORCED.get() {
            return level;
        }
        #[cfg(target_arch = "x86_64")]
        if Features::get().used == Isa::Amx && dims.t.min(dims.s) >= 32 && dims.d >= 16 {
            return match precision {
                Precision::Bf16 => Self::Tiles,
                Precision::F32 => Self::Split,
            };
        }
        let _ = (dims, precision);
        Self::vectors()
    }

    /// bf16 for each f32 of a level on tiles.
    #[cfg(target_arch = "x86_64")]
    fn terms(self) -> Option<usize> {
        match self {
            Self::Tiles => Some(1),
            Self::Split => Some(3),
            _ => None,
        }
    }
}

/// Compiles one generic body for every level and calls the right one.
macro_rules! dispatch {
    ($level:expr, $body:ident ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $out:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        use $crate::ops::attention::cpu::simd::{Avx2, Avx512};
        use $crate::ops::attention::cpu::{Level, simd::Portable, vectors::Vectors};
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
        unsafe fn avx512<E: Engine<I = Avx512>>($($arg: $ty),*) $(-> $out)? {
            // SAFETY: as for the function around it.
            unsafe { $body::<E>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2($($arg: $ty),*) $(-> $out)? {
            // SAFETY: as for the function around it.
            unsafe { $body::<Vectors<Avx2>>($($arg),*) }
        }
        // SAFETY: a level exists only where its instructions do; the rest is the body's contract.
        unsafe {
            match $level {
                #[cfg(target_arch = "x86_64")]
                Level::Tiles | Level::Split => unreachable!("tiles have passes of their own"),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512::<Vectors<Avx512>>($($arg),*),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2($($arg),*),
                Level::Portable => $body::<Vectors<Portable>>($($arg),*),
            }
        }
    }};
}
use dispatch;

/// Hands out 64-byte aligned pieces of one worker's scratch.
struct Carve {
    data: *mut f32,
    left: usize,
}

impl Carve {
    /// Worker `w`'s share of `per_worker` elements.
    ///
    /// # Safety
    /// `scratch` must hold `(w + 1) * per_worker` elements that no other worker uses.
    unsafe fn new(
        scratch: crate::backend::cpu::pool::Ptr<f32>,
        w: usize,
        per_worker: usize,
    ) -> Self {
        // SAFETY: the caller's promise.
        let all = unsafe { scratch.slice(w * per_worker, per_worker) };
        let skip = all.as_ptr().align_offset(64).min(15);
        Self { data: all[skip..].as_mut_ptr(), left: per_worker - skip }
    }

    fn take(&mut self, n: usize) -> *mut f32 {
        let n = n.next_multiple_of(16);
        assert!(n <= self.left, "attention: scratch too small");
        let p = self.data;
        self.left -= n;
        // SAFETY: inside the share, as just asserted.
        self.data = unsafe { p.add(n) };
        p
    }
}
