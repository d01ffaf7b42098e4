#![allow(unsafe_code)] // kernels on raw panels; safe at `gemm` and `gemm_block`
//! The matrix product, chosen once for the machine.
//!
//! | machine | `F32` | `Bf16` |
//! |---|---|---|
//! | AMX | three bf16 per f32, six tile products ([`amx`]) | one tile product |
//! | AVX-512 of AMD with bf16 | as below | the same panels, `vdpbf16ps` ([`dots`]) |
//! | else | the `gemm` crate's vector kernels ([`plain`]) | the same on rounded copies |
//! | a few rows | dot products at the speed of memory ([`few`]) | the same, rounding as it reads |
//!
//! On AMX an f32 is split exactly into x0 + x1 + x2, each bf16. Of the nine products of two such
//! sums the three smallest are below the rounding of f32 and left out; the others are exact in f32
//! and are added in f32. (Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial
//! Intelligence Datatype For Higher-Precision Computations", 2019.) Tiles treat subnormal numbers
//! as zero, and an infinite operand may come out as NaN instead of infinity.

use std::ops::Range;

use super::features::{Features, Isa};
use super::pool::{Pool, Ptr};

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod dots;
mod few;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pack;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pending;
mod plain;
/// The product in f64 and plain loops.
pub mod reference;
pub(in crate::backend::cpu) mod scratch;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_numbers;

/// Sizes of `c (m, n) = a (m, k) · b (k, n)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GemmDims {
    /// Rows of a and c.
    pub m: usize,
    /// Columns of b and c.
    pub n: usize,
    /// Columns of a, rows of b.
    pub k: usize,
}

/// A matrix to read: element `(i, j)` is `data[i * row_stride + j * col_stride]`; one stride is 1.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Elements between rows.
    pub row_stride: usize,
    /// Elements between columns.
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Rows one after another, `stride` elements apart.
    #[must_use]
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row_stride: stride, col_stride: 1 }
    }

    /// The same elements with rows and columns exchanged.
    #[must_use]
    pub fn t(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Panics unless `rows` × `cols` elements are inside.
    fn check(&self, rows: usize, cols: usize, name: &str) {
        assert!(self.row_stride == 1 || self.col_stride == 1, "gemm: one stride of {name} is 1");
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * self.row_stride + (cols - 1) * self.col_stride;
            assert!(last < self.data.len(), "gemm: {name} ({rows}, {cols}) is outside its data");
        }
    }

    fn element(&self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.col_stride]
    }
}

/// How operands enter products; sums are f32 in both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bf16 (nearest, ties to even).
    Bf16,
}

/// A finished part of C, still in cache.
#[derive(Debug)]
pub struct Tile<'a> {
    /// Its rows in C.
    pub rows: Range<usize>,
    /// Its columns in C.
    pub cols: Range<usize>,
    start: *mut f32,
    stride: usize,
    life: std::marker::PhantomData<&'a mut [f32]>,
}

impl Tile<'_> {
    /// # Safety
    /// For the tile's life nobody else touches these elements of c.
    pub(in crate::backend::cpu) unsafe fn new(
        c: Ptr<f32>,
        stride: usize,
        rows: Range<usize>,
        cols: Range<usize>,
    ) -> Self {
        let start = c.0.wrapping_add(rows.start * stride + cols.start);
        Self { rows, cols, start, stride, life: std::marker::PhantomData }
    }

    /// The part of C's row `self.rows.start + i` that is in this tile.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows.len(), "row {i} of a tile with {} rows", self.rows.len());
        let start = self.start.wrapping_add(i * self.stride);
        // SAFETY: inside c (see `new`), borrowed from self.
        unsafe { std::slice::from_raw_parts_mut(start, self.cols.len()) }
    }
}

/// What to do with finished parts of C.
pub type Finish<'a> = Option<&'a (dyn Fn(Tile<'_>) + Sync)>;

/// Most rows for which [`few`] is used.
const FEW_ROWS: usize = 8;

/// `c (m, n) = a (m, k) · b (k, n)`, `+ c` if `accumulate`; rows of c are `c_stride` apart.
///
/// `finish` is called exactly once for each of disjoint tiles that cover c, by the worker that
/// computed the tile. The order of additions in an element depends on k only, as long as the same
/// kernel is used (`m <= 8` uses another one than larger m).
///
/// # Panics
/// If an operand is outside its data, or neither of its strides is 1.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    pool: &Pool,
    precision: Precision,
    dims: GemmDims,
    a: Mat<'_>,
    b: Mat<'_>,
    c: &mut [f32],
    c_stride: usize,
    accumulate: bool,
    finish: Finish<'_>,
) {
    let limits = Limits::of(precision);
    let dots = precision == Precision::Bf16 && Features::get().bf16_dots;
    let call = Call { precision, dims, a, b, c_stride, accumulate, finish, limits, dots };
    call.run(Some(pool), c, Features::get().used);
}

/// [`gemm`] on the calling thread alone, for blocks inside another kernel.
///
/// # Panics
/// As [`gemm`].
#[allow(dead_code)] // for kernels that work on blocks
pub(crate) fn gemm_block(
    precision: Precision,
    dims: GemmDims,
    a: Mat<'_>,
    b: Mat<'_>,
    c: &mut [f32],
    c_stride: usize,
    accumulate: bool,
) {
    let limits = Limits::of(precision);
    let dots = precision == Precision::Bf16 && Features::get().bf16_dots;
    let call = Call { precision, dims, a, b, c_stride, accumulate, finish: None, limits, dots };
    call.run(None, c, Features::get().used);
}

/// Sizes of blocks on tiles.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Most values of k in one block; results depend on it.
    k_block: usize,
    /// Most panels of the streamed operand in one block, which stays in L2.
    stream_panels: usize,
    /// Most bytes of the shared operand packed at a time; larger than L2, read in order.
    shared_bytes: usize,
}

impl Limits {
    /// Found by measurement (2 MiB of L2, 48 KiB of L1).
    fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self { k_block: 512, stream_panels: 9, shared_bytes: 12 << 20 },
            Precision::Bf16 => Self { k_block: 768, stream_panels: 16, shared_bytes: 12 << 20 },
        }
    }
}

/// The arguments of one product.
struct Call<'a> {
    precision: Precision,
    dims: GemmDims,
    a: Mat<'a>,
    b: Mat<'a>,
    c_stride: usize,
    accumulate: bool,
    finish: Finish<'a>,
    limits: Limits,
    /// `vdpbf16ps` may be used.
    dots: bool,
}

impl Call<'_> {
    fn run(&self, pool: Option<&Pool>, c: &mut [f32], isa: Isa) {
        let GemmDims { m, n, k } = self.dims;
        self.a.check(m, k, "a");
        self.b.check(k, n, "b");
        if m == 0 || n == 0 {
            return;
        }
        assert!(n <= self.c_stride || m == 1, "gemm: rows of c (m, {n}) overlap");
        assert!((m - 1) * self.c_stride + n <= c.len(), "gemm: c ({m}, {n}) is outside its data");
        let c = Ptr(c.as_mut_ptr());
        if k == 0 {
            self.empty(c);
        } else if m <= FEW_ROWS {
            few::rows(self, pool, c, isa);
        } else if isa == Isa::Amx || isa == Isa::Avx512 && self.dots {
            self.panels(pool, c, isa);
        } else {
            plain::product(self, pool, c, isa);
        }
    }

    /// k = 0: the sum of nothing.
    fn empty(&self, c: Ptr<f32>) {
        let GemmDims { m, n, .. } = self.dims;
        // SAFETY: `run` checked c's extent, and holds it mutably.
        let mut tile = unsafe { Tile::new(c, self.c_stride, 0..m, 0..n) };
        if !self.accumulate {
            (0..m).for_each(|i| tile.row_mut(i).fill(0.0));
        }
        if let Some(finish) = self.finish {
            finish(tile);
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn panels(&self, pool: Option<&Pool>, c: Ptr<f32>, isa: Isa) {
        let GemmDims { m, n, k } = self.dims;
        let operand = |x: Mat<'_>, extent, k_down| {
            let (k_stride, other) =
                if k_down { (x.row_stride, x.col_stride) } else { (x.col_stride, x.row_stride) };
            let k_contiguous = k_stride == 1;
            let pitch = if k_contiguous { other } else { k_stride };
            pack::Operand { data: x.data.as_ptr(), extent, k, pitch, k_contiguous, k_down }
        };
        let p = blocks::Product {
            a: operand(self.a, m, false),
            b: operand(self.b, n, true),
            c,
            c_stride: self.c_stride,
            accumulate: self.accumulate,
            finish: self.finish,
            limits: self.limits,
            tiles: isa == Isa::Amx,
        };
        // SAFETY: `run` checked the extents; it calls this only where AMX is used, or `dots` may be.
        unsafe {
            match self.precision {
                Precision::F32 => blocks::product::<3>(pool, &p),
                Precision::Bf16 => blocks::product::<1>(pool, &p),
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn panels(&self, pool: Option<&Pool>, c: Ptr<f32>, _: Isa) {
        plain::product(self, pool, c, Isa::Portable);
    }
}
