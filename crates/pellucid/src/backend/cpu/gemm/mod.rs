//! (stand-in until the real product lands)
#![allow(missing_docs)]
use super::pool::Pool;
use std::ops::Range;

pub struct GemmDims {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    F32,
    Bf16,
}
pub struct Tile<'a> {
    pub rows: Range<usize>,
    pub cols: Range<usize>,
    data: &'a mut [f32],
    stride: usize,
}
impl Tile<'_> {
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        let start = i * self.stride;
        &mut self.data[start..start + self.cols.len()]
    }
}
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    _pool: &Pool,
    precision: Precision,
    dims: GemmDims,
    a: Mat<'_>,
    b: Mat<'_>,
    c: &mut [f32],
    c_stride: usize,
    accumulate: bool,
    finish: Option<&(dyn Fn(Tile<'_>) + Sync)>,
) {
    let GemmDims { m, n, k } = dims;
    let round = |x: f32| match precision {
        Precision::F32 => x,
        Precision::Bf16 => half::bf16::from_f32(x).to_f32(),
    };
    for i in 0..m {
        for j in 0..n {
            let mut sum = if accumulate { c[i * c_stride + j] } else { 0.0 };
            for l in 0..k {
                sum += round(a.data[i * a.row_stride + l * a.col_stride])
                    * round(b.data[l * b.row_stride + j * b.col_stride]);
            }
            c[i * c_stride + j] = sum;
        }
    }
    // Blocks of odd sizes, so that users cannot rely on one tile.
    let Some(finish) = finish else { return };
    for i in (0..m).step_by(5) {
        for j in (0..n).step_by(7) {
            finish(Tile {
                rows: i..(i + 5).min(m),
                cols: j..(j + 7).min(n),
                data: &mut c[i * c_stride + j..],
                stride: c_stride,
            });
        }
    }
}
