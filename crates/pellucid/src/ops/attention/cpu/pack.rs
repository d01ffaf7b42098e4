//! Copies rows into tiles: as they are, or turned.
#![allow(unsafe_code)] // raw tiles

use super::KEYS;
use super::simd::{Isa, LANES};

/// Copies `rows` rows of `d` floats, times `scale`, to rows of `width` floats, filled up with zeros.
#[inline(always)]
pub(super) unsafe fn rows(
    (src, src_row): (*const f32, usize),
    (dst, width): (*mut f32, usize),
    rows: usize,
    d: usize,
    scale: f32,
) {
    for i in 0..rows {
        // SAFETY: the caller promised both blocks; they do not overlap.
        let (from, to) = unsafe {
            (
                std::slice::from_raw_parts(src.add(i * src_row), d),
                std::slice::from_raw_parts_mut(dst.add(i * width), width),
            )
        };
        to[..d].iter_mut().zip(from).for_each(|(to, from)| *to = from * scale);
        to[d..].fill(0.0);
    }
}

/// Turns `keys` (at most 128) rows of `d` floats into `d` rows of 128, filled up with zeros to a multiple of 16.
#[inline(always)]
pub(super) unsafe fn turned<I: Isa>(
    (src, src_row): (*const f32, usize),
    dst: *mut f32,
    keys: usize,
    d: usize,
) {
    let (whole_keys, whole_d) = (keys / LANES * LANES, d / LANES * LANES);
    // SAFETY: the caller promised `keys` rows to read and `d` rows of 128 to write.
    unsafe {
        for s in (0..whole_keys).step_by(LANES) {
            for i in (0..whole_d).step_by(LANES) {
                I::transpose(src.add(s * src_row + i), src_row, dst.add(i * KEYS + s), KEYS);
            }
            for i in whole_d..d {
                for s in s..s + LANES {
                    *dst.add(i * KEYS + s) = *src.add(s * src_row + i);
                }
            }
        }
        for i in 0..d {
            for s in whole_keys..keys {
                *dst.add(i * KEYS + s) = *src.add(s * src_row + i);
            }
            for s in keys..keys.next_multiple_of(LANES) {
                *dst.add(i * KEYS + s) = 0.0;
            }
        }
    }
}
