//! Dropout in f64, one random word at a time.

use super::KEY;
use crate::autograd::RunInfo;
use crate::tensor::random::philox;

/// What element `i` is multiplied by: 0 or 1 / (1 - p).
///
/// Elements come in blocks of 128; element `e` of block `b` uses call `16·b + e mod 16` of Philox, of its four
/// words number `e / 16 mod 4`, of that word the low half (`e < 64`) or the high half.
#[must_use]
pub fn factor(run: RunInfo, p: f32, stream: u32, i: usize) -> f64 {
    let zeros = (f64::from(p) * 65536.0).round() as u32; // of 65536
    if !run.training || zeros == 0 {
        return 1.0;
    }
    let (block, e) = (i / 128, i % 128);
    // 48 bits count calls, 48 bits count steps, 32 bits are the stream.
    let step = u128::from(run.step & 0xFFFF_FFFF_FFFF);
    let counter = (16 * block + e % 16) as u128 | step << 48 | u128::from(stream) << 96;
    let word = philox(run.seed ^ KEY, counter)[e / 16 % 4];
    let half = if e < 64 { word & 0xFFFF } else { word >> 16 };
    if half < zeros { 0.0 } else { 65536.0 / (65536.0 - f64::from(zeros)) }
}

/// y (N) from x (N).
#[must_use]
pub fn forward(run: RunInfo, p: f32, stream: u32, x: &[f64]) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| x * factor(run, p, stream, i)).collect()
}

/// dx (N).
#[must_use]
pub fn backward(run: RunInfo, p: f32, stream: u32, dy: &[f64]) -> Vec<f64> {
    // y[i] = x[i] * factor(i)
    dy.iter().enumerate().map(|(i, dy)| dy * factor(run, p, stream, i)).collect()
}
