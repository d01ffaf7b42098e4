#![allow(unsafe_code)] // panels of one buffer go to several workers
//! Weight matrices in 16, 8 or 4 bits, for inference: packed once, read once per product.
//!
//! `y (m, n) = x (m, k) · wᵀ`, w (n, k) stored. With one row of x this is as fast as memory delivers w, so fewer
//! bytes are less time.
//!
//! | rows | machine | products |
//! |---|---|---|
//! | 1 to 8 | any | `few`: bf16 weights times f32; integer weights times x in 16-bit fixed point, exact sums |
//! | more | AMX | `many`: panels become bf16 tiles (bf16 ones are tiles already), x is rounded to bf16 |
//! | more | else | `many`: blocks of weights become f32, then the plain product |
//!
//! Integers follow Jacob et al., "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", 2018; groups with a scale of their own Dettmers and Zettlemoyer, "The case
//! for 4-bit precision", 2023. Results depend neither on the number of threads nor, per row, on other rows; for
//! integers and up to 8 rows not on the machine either.

mod few;
mod few_vectors;
mod layout;
mod many;
mod quantise;
/// The product in f64 and plain loops.
pub mod reference;
#[cfg(test)]
mod tests;

pub use layout::Row;

use super::features::{Features, Isa};
use super::gemm::Finish;
use super::pool::{Pool, Ptr};
use crate::backend::buffer::Buffer;
use crate::error::{Error, Kind, Result};
use layout::{Layout, PANEL};
use std::sync::{Arc, Mutex, PoisonError};

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// The upper half of an f32, rounded to nearest even.
    Bf16,
    /// -128 to 127 times the scale of its group of 128.
    Int8,
    /// -8 to 7 times the scale of its group of 32.
    Int4,
}

impl Format {
    /// `bf16`, `int8` or `int4`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// Bits of a code.
    #[must_use]
    pub fn bits(self) -> usize {
        match self {
            Self::Bf16 => 16,
            Self::Int8 => 8,
            Self::Int4 => 4,
        }
    }

    /// Consecutive values of k that share a scale (for bf16, which has none, a step of the layout).
    #[must_use]
    pub fn group(self) -> usize {
        match self {
            Self::Bf16 | Self::Int4 => 32,
            Self::Int8 => 128,
        }
    }

    /// What is added to an integer to make its code: codes are not negative.
    #[must_use]
    pub fn offset(self) -> u16 {
        match self {
            Self::Bf16 => 0,
            Self::Int8 => 128,
            Self::Int4 => 8,
        }
    }

    /// Scales of a row of `k` values.
    #[must_use]
    pub fn scales(self, k: usize) -> usize {
        if self == Self::Bf16 { 0 } else { k.div_ceil(self.group()) }
    }
}

/// Most rows of x for the kernels that are bound by memory.
const FEW_ROWS: usize = 8;

/// A matrix w (n, k) in panels. Several may lie in one piece of memory; a clone shares it.
#[derive(Clone, Debug)]
pub struct StoredMatrix {
    layout: Layout,
    memory: Arc<Buffer>,
    /// First byte.
    at: usize,
}

/// Matrices that lie one after another in one piece of memory: on huge pages, however small each is.
#[derive(Debug)]
pub struct Store {
    memory: Buffer,
    layouts: Vec<(Layout, usize)>,
    used: usize,
}

impl Store {
    /// Room for matrices of one format and these shapes (n, k), to be added in any order.
    #[must_use]
    pub fn new(format: Format, shapes: &[(usize, usize)]) -> Self {
        let bytes: usize = shapes.iter().map(|&(n, k)| Layout { format, n, k }.bytes()).sum();
        Self { memory: Buffer::zeros(bytes / size_of::<f32>()), layouts: vec![], used: 0 }
    }

    /// Packs rows that `fill` writes: `n` of them, in any order, on the pool's workers.
    ///
    /// # Errors
    /// The first that `fill` returns; [`Kind::Shape`] for a row of the wrong length, a code that is too large, or a
    /// matrix for which there is no room.
    pub fn add(
        &mut self,
        pool: &Pool,
        format: Format,
        (n, k): (usize, usize),
        fill: &Fill<'_>,
    ) -> Result<()> {
        let layout = Layout { format, n, k };
        let room = self.memory.len() * size_of::<f32>() - self.used;
        if layout.bytes() > room {
            let message =
                format!("{} bytes for ({n}, {k}), but there is room for {room}", layout.bytes());
            return Err(Error::new(Kind::Shape, "quantise", message));
        }
        let start = Ptr(self.memory.as_mut_ptr().cast::<u8>().wrapping_add(self.used));
        // SAFETY: this part of the buffer is ours alone, and as large as the layout says.
        unsafe { pack_rows(pool, layout, start, fill)? };
        self.layouts.push((layout, self.used));
        self.used += layout.bytes();
        Ok(())
    }

    /// [`Self::add`] of `values` (n, k), row-major.
    ///
    /// # Errors
    /// [`Kind::Shape`] for another number of values, [`Kind::Numeric`] for one that is not finite or beyond bf16.
    pub fn add_values(
        &mut self,
        pool: &Pool,
        format: Format,
        (n, k): (usize, usize),
        values: &[f32],
    ) -> Result<()> {
        if values.len() != n * k {
            let message = format!("{} values for a matrix ({n}, {k})", values.len());
            return Err(Error::new(Kind::Shape, "quantise", message));
        }
        self.add(pool, format, (n, k), &|index, row| {
            let values = &values[index * k..][..k];
            quantise::encode(format, values, row).map_err(|at| {
                let message = format!("element ({index}, {at}) is {}", values[at]);
                Error::new(Kind::Numeric, "quantise", message).hint(
                    "weights must be finite, and below 3.38e38; was the training run healthy?",
                )
            })
        })
    }

    /// The matrices, in the order they were added.
    #[must_use]
    pub fn finish(self) -> Vec<StoredMatrix> {
        let memory = Arc::new(self.memory);
        let matrix = |(layout, at)| StoredMatrix { layout, memory: Arc::clone(&memory), at };
        self.layouts.into_iter().map(matrix).collect()
    }
}

/// Writes a row of a matrix, by its index.
pub type Fill<'a> = dyn Fn(usize, &mut Row) -> Result<()> + Sync + 'a;

/// # Safety
/// `start` has `layout.bytes()` zero bytes that nobody else touches.
unsafe fn pack_rows(pool: &Pool, layout: Layout, start: Ptr<u8>, fill: &Fill<'_>) -> Result<()> {
    let size = layout.panel_bytes();
    let fault: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    pool.split(layout.panels(), 1, &|panels| {
        let mut row = Row::default();
        for panel in panels {
            // SAFETY: panels are disjoint parts of the memory, and this range is this worker's.
            let bytes = unsafe { start.slice(panel * size, size) };
            for lane in 0..PANEL.min(layout.n - panel * PANEL) {
                let index = panel * PANEL + lane;
                match fill(index, &mut row).and_then(|()| layout.check(index, &row)) {
                    Ok(()) => layout.pack(bytes, lane, &row),
                    Err(error) => {
                        let mut first = fault.lock().unwrap_or_else(PoisonError::into_inner);
                        if first.as_ref().is_none_or(|(row, _)| *row > index) {
                            *first = Some((index, error));
                        }
                        return;
                    }
                }
            }
        }
    });
    match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

impl StoredMatrix {
    /// A matrix in memory of its own; see [`Store::add_values`].
    ///
    /// # Errors
    /// As [`Store::add_values`].
    pub fn quantise(
        pool: &Pool,
        format: Format,
        shape: (usize, usize),
        values: &[f32],
    ) -> Result<Self> {
        let mut store = Store::new(format, &[shape]);
        store.add_values(pool, format, shape, values)?;
        Ok(store.finish().remove(0))
    }

    /// How weights are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.layout.format
    }

    /// (n, k).
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        (self.layout.n, self.layout.k)
    }

    /// Bytes held: codes, scales and padding.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.layout.bytes()
    }

    fn start(&self) -> *const u8 {
        self.memory.as_ptr().cast::<u8>().wrapping_add(self.at)
    }

    /// A row's codes and scales.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize, row: &mut Row) {
        assert!(index < self.layout.n, "row {index} of {}", self.layout.n);
        let bytes = &bytemuck::cast_slice::<f32, u8>(&self.memory)[self.at..];
        let size = self.layout.panel_bytes();
        self.layout.unpack(&bytes[index / PANEL * size..][..size], index % PANEL, row);
    }

    /// A row's numbers, into `values` (k).
    ///
    /// # Panics
    /// If there is no such row, or `values` has another length.
    pub fn dequantise(&self, index: usize, values: &mut [f32]) {
        assert_eq!(values.len(), self.layout.k);
        let mut row = Row::default();
        self.row(index, &mut row);
        quantise::decode(self.layout.format, &row, values);
    }

    /// `y (m, n) = x (m, k) · wᵀ`; `finish` is called exactly once for each of disjoint tiles that cover y.
    ///
    /// NaN in a row of x makes that row of y NaN. An infinity makes it NaN or infinite.
    ///
    /// # Panics
    /// If x or y is too short.
    pub fn product(&self, pool: &Pool, m: usize, x: &[f32], y: &mut [f32], finish: Finish<'_>) {
        self.product_on(Features::get().used, pool, m, x, y, finish);
    }

    fn product_on(
        &self,
        isa: Isa,
        pool: &Pool,
        m: usize,
        x: &[f32],
        y: &mut [f32],
        finish: Finish<'_>,
    ) {
        let (n, k) = self.shape();
        assert!(x.len() >= m * k && y.len() >= m * n, "stored product: operands are too short");
        if m == 0 || n == 0 {
            return;
        }
        let y = Ptr(y.as_mut_ptr());
        if m <= FEW_ROWS {
            few::product(self, pool, (m, x), y, finish, isa);
        } else {
            many::product(self, pool, (m, x), y, finish, isa);
        }
    }
}

impl Layout {
    fn check(&self, index: usize, row: &Row) -> Result<()> {
        let (codes, scales) = (self.k, self.format.scales(self.k));
        if row.codes.len() != codes || row.scales.len() != scales {
            let (a, b) = (row.codes.len(), row.scales.len());
            let message =
                format!("row {index} has {a} codes and {b} scales, not {codes} and {scales}");
            return Err(Error::new(Kind::Shape, "quantise", message));
        }
        let most = ((1_u32 << self.format.bits()) - 1) as u16;
        if let Some(at) = row.codes.iter().position(|&c| c > most) {
            let message = format!("code {} at ({index}, {at}) is above {most}", row.codes[at]);
            return Err(Error::new(Kind::Shape, "quantise", message));
        }
        Ok(())
    }
}
