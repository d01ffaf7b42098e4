//! Blocks to f32, in the order of operations of ggml, so that every value has the same bits.
//!
//! Scales are half precision and begin a block (but for `Q6_K`, which ends with it). Codes of four bits share bytes:
//! the lower halves of a run of bytes are the first elements, the upper halves those after.

use super::blocks::Stored;
use half::{bf16, f16};

/// Whole blocks into as many elements as they hold.
pub(super) fn dequantise(stored: Stored, bytes: &[u8], to: &mut [f32]) {
    let (elements, size) = stored.block();
    let blocks = bytes.chunks_exact(size).zip(to.chunks_exact_mut(elements));
    match stored {
        Stored::F32 => {
            blocks.for_each(|(b, x)| x[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        }
        Stored::F16 => blocks.for_each(|(b, x)| x[0] = scale(b)),
        Stored::Bf16 => blocks.for_each(|(b, x)| x[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        Stored::Q4_0 => blocks.for_each(|(b, x)| {
            let d = scale(b);
            fours(x, &b[2..], |q| d * (f32::from(q) - 8.0));
        }),
        Stored::Q4_1 => blocks.for_each(|(b, x)| {
            let (d, least) = (scale(b), scale(&b[2..]));
            fours(x, &b[4..], |q| d * f32::from(q) + least);
        }),
        Stored::Q5_0 => blocks.for_each(|(b, x)| {
            let d = scale(b);
            fives(x, &b[2..6], &b[6..], |q| d * (f32::from(q) - 16.0));
        }),
        Stored::Q5_1 => blocks.for_each(|(b, x)| {
            let (d, least) = (scale(b), scale(&b[2..]));
            fives(x, &b[4..8], &b[8..], |q| d * f32::from(q) + least);
        }),
        Stored::Q8_0 => blocks.for_each(|(b, x)| {
            let d = scale(b);
            x.iter_mut().zip(&b[2..]).for_each(|(x, &q)| *x = f32::from(q as i8) * d);
        }),
        Stored::Q4K => blocks.for_each(|(b, x)| four_k(b, x)),
        Stored::Q5K => blocks.for_each(|(b, x)| five_k(b, x)),
        Stored::Q6K => blocks.for_each(|(b, x)| six_k(b, x)),
    }
}

/// A half-precision number.
fn scale(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

fn fours(to: &mut [f32], codes: &[u8], value: impl Fn(u8) -> f32) {
    let (first, second) = to.split_at_mut(16);
    for ((a, b), q) in first.iter_mut().zip(second).zip(codes) {
        (*a, *b) = (value(q & 15), value(q >> 4));
    }
}

/// As four bits; the fifth of every element is in `high`, in order.
fn fives(to: &mut [f32], high: &[u8], codes: &[u8], value: impl Fn(u8) -> f32) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    let fifth = |i: usize| ((high >> i & 1) as u8) << 4;
    for (i, q) in codes[..16].iter().enumerate() {
        to[i] = value(q & 15 | fifth(i));
        to[i + 16] = value(q >> 4 | fifth(i + 16));
    }
}

/// Scale and minimum of each of the eight runs of 32: six bits each, packed into twelve bytes.
fn runs(packed: &[u8]) -> [(f32, f32); 8] {
    std::array::from_fn(|i| {
        let (scale, least) = match i {
            0..4 => (packed[i] & 63, packed[i + 4] & 63),
            _ => (
                packed[i + 4] & 15 | packed[i - 4] >> 6 << 4,
                packed[i + 4] >> 4 | packed[i] >> 6 << 4,
            ),
        };
        (f32::from(scale), f32::from(least))
    })
}

fn four_k(block: &[u8], to: &mut [f32]) {
    let (d, least, codes) = (scale(block), scale(&block[2..]), &block[16..]);
    for (i, (run, (s, m))) in to.chunks_exact_mut(32).zip(runs(&block[4..16])).enumerate() {
        let (s, m, shift) = (d * s, least * m, 4 * (i % 2));
        for (x, q) in run.iter_mut().zip(&codes[i / 2 * 32..]) {
            *x = s * f32::from(q >> shift & 15) - m;
        }
    }
}

fn five_k(block: &[u8], to: &mut [f32]) {
    let (d, least, high, codes) = (scale(block), scale(&block[2..]), &block[16..48], &block[48..]);
    for (i, (run, (s, m))) in to.chunks_exact_mut(32).zip(runs(&block[4..16])).enumerate() {
        let (s, m, shift) = (d * s, least * m, 4 * (i % 2));
        for ((x, q), h) in run.iter_mut().zip(&codes[i / 2 * 32..]).zip(high) {
            *x = s * f32::from(q >> shift & 15 | (h >> i & 1) << 4) - m;
        }
    }
}

/// Runs of 16 with signed scales; of 128 elements, the lower four bits are in 64 bytes, the upper two in 32.
fn six_k(block: &[u8], to: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = scale(&block[208..]);
    for (i, run) in to.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[i] as i8);
        let (part, at) = (i / 8, i % 8 * 16);
        let low = &low[part * 64 + at % 64..][..16];
        let high = &high[part * 32 + at % 32..][..16];
        let (low_shift, high_shift) = (at / 64 * 4, at / 32 * 2);
        for ((x, l), h) in run.iter_mut().zip(low).zip(high) {
            let q = l >> low_shift & 15 | (h >> high_shift & 3) << 4;
            *x = scale * (f32::from(q) - 32.0);
        }
    }
}
