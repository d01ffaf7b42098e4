//! f32 to the blocks that are written, with the bytes of ggml's reference code.

use super::blocks::Stored;
use half::{bf16, f16};

/// Elements of whole blocks, appended to `to`. Of the types that are read, those with a minimum are never written.
pub(super) fn quantise(stored: Stored, values: &[f32], to: &mut Vec<u8>) {
    match stored {
        Stored::F16 => values.iter().for_each(|&x| to.extend(f16::from_f32(x).to_le_bytes())),
        Stored::Bf16 => values.iter().for_each(|&x| to.extend(bf16::from_f32(x).to_le_bytes())),
        Stored::Q8_0 => values.as_chunks::<32>().0.iter().for_each(|block| eights(block, to)),
        Stored::Q4_0 => values.as_chunks::<32>().0.iter().for_each(|block| fours(block, to)),
        _ => values.iter().for_each(|x| to.extend(x.to_le_bytes())),
    }
}

/// The greatest magnitude that a type holds as a finite number.
pub(super) fn most(stored: Stored) -> f32 {
    // Below the middle between 65504 and the number that would come next.
    let half = 65_519.0;
    match stored {
        Stored::F16 => half,
        Stored::Q8_0 => half * 127.0,
        Stored::Q4_0 => half * 8.0,
        Stored::Bf16 => f32::from_bits(0x7f7f_7fff),
        _ => f32::MAX,
    }
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Codes from -127 to 127 of the greatest magnitude.
fn eights(block: &[f32; 32], to: &mut Vec<u8>) {
    let d = block.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
    let inverse = inverse(d);
    to.extend(f16::from_f32(d).to_le_bytes());
    to.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
}

/// Codes from 0 to 15, 8 in the middle; the element of the greatest magnitude becomes 0.
fn fours(block: &[f32; 32], to: &mut Vec<u8>) {
    let greatest =
        block.iter().fold(0.0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
    let d = greatest / -8.0;
    let inverse = inverse(d);
    let code = |x: f32| ((x * inverse + 8.5) as u8).min(15);
    to.extend(f16::from_f32(d).to_le_bytes());
    to.extend((0..16).map(|i| code(block[i]) | code(block[i + 16]) << 4));
}
