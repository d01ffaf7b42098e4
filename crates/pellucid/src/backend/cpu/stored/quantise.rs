//! Numbers to codes and back.
//!
//! int8: `scale = max|w| / 127` of the group, rounded up to bf16, so that nothing is cut. int4: of a few scales
//! around `max|w| / 8` (of either sign: -8 exists and +8 does not) the one with the least squared error.

use super::Format;
use super::layout::Row;

/// Nearest bf16, ties to even. The value is finite.
fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

/// The number that a bf16 is.
#[inline(always)]
pub(super) fn float(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// To the nearest integer, ties to even, for |x| < 2^22.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    (x + 12_582_912.0).to_bits() as i32 - 0x4B40_0000
}

/// Scales that int4 tries, as parts of the group's largest value.
const TRIED: [f32; 7] = [-8.0, 7.0, -7.5, 7.5, -8.75, 8.75, -9.5];

/// Codes of a row, or the place of a number that has none.
pub(super) fn encode(format: Format, values: &[f32], row: &mut Row) -> Result<(), usize> {
    // Above the largest bf16 a value would become infinite.
    if let Some(at) = values.iter().position(|x| !(x.abs() <= 3.38e38)) {
        return Err(at);
    }
    row.codes.clear();
    row.scales.clear();
    if format == Format::Bf16 {
        row.codes.extend(values.iter().map(|&x| bf16(x)));
        return Ok(());
    }
    for group in values.chunks(format.group()) {
        let extreme = group.iter().fold(0.0f32, |m, &x| if x.abs() > m.abs() { x } else { m });
        let scale = match format {
            Format::Int8 => {
                let bits = (extreme.abs() / 127.0).to_bits();
                (bits.saturating_add(0xFFFF) >> 16) as u16
            }
            _ => best(group, extreme),
        };
        let offset = i32::from(format.offset());
        let inverse = 1.0 / float(scale);
        // Too small for its inverse to be a number: zero.
        let (scale, inverse) = if inverse.is_finite() { (scale, inverse) } else { (0, 0.0) };
        row.scales.push(scale);
        row.codes.extend(group.iter().map(|x| {
            let code = nearest(x * inverse).clamp(-offset, offset - 1);
            (code + offset) as u16
        }));
    }
    Ok(())
}

/// Of the scales that are tried, the one with the least squared error.
fn best(group: &[f32], extreme: f32) -> u16 {
    let error = |bits: u16| {
        let (scale, inverse) = (float(bits), 1.0 / float(bits));
        group.iter().fold(0.0f32, |sum, &x| {
            let far = x - scale * nearest(x * inverse).clamp(-8, 7) as f32;
            sum + far * far
        })
    };
    let mut found = (f32::INFINITY, 0);
    for part in TRIED {
        let bits = bf16(extreme / part);
        let error = error(bits);
        if error < found.0 {
            found = (error, bits);
        }
    }
    found.1
}

/// What codes stand for.
pub(super) fn decode(format: Format, row: &Row, values: &mut [f32]) {
    if format == Format::Bf16 {
        values.iter_mut().zip(&row.codes).for_each(|(x, &code)| *x = float(code));
        return;
    }
    let (group, offset) = (format.group(), i32::from(format.offset()));
    for (g, &scale) in row.scales.iter().enumerate() {
        let range = g * group..((g + 1) * group).min(values.len());
        for (x, &code) in values[range.clone()].iter_mut().zip(&row.codes[range]) {
            *x = (i32::from(code) - offset) as f32 * float(scale);
        }
    }
}
