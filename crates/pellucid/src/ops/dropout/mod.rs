//! While training, each element is zero with probability p, and the others are scaled up so that the mean stays.
//!
//! ```text
//! y[i] = x[i] · keep[i] / (1 - p)      keep[i] ∈ {0, 1}, a function of (seed, stream, step, i)
//! ```
//!
//! x, y (N), in the same memory. Saved: nothing (0 bytes); the backward pass draws the same mask again from its
//! counter. When not training, or with p = 0, nothing is touched.
//!
//! p is rounded to 1/65536 (16 random bits per element), and the scale belongs to the rounded p.
//! A stream number must be used by one dropout of a model only, else two of them share their masks.
//!
//! Srivastava et al. 2014; "inverted" because it scales while training instead of when used.

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

pub(crate) use cpu::Mask;

use crate::autograd::{Backward, Forward, Needs, Op, RunInfo};
use crate::error::{Error, Kind, Result};

/// Kept out of `seed` so that masks never share words with other random numbers of the same seed.
const KEY: u64 = 0x6472_6f70_6f75_7421;

/// Dropout in place. x, y (N).
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    n: usize,
    p: f32,
    stream: u32,
}

impl Dropout {
    /// `p` is the probability of zero. Errors if `n` is 0 or `p` is not in [0, 1).
    pub fn new(n: usize, p: f32, stream: u32) -> Result<Self> {
        if n == 0 {
            return Err(Error::new(Kind::Shape, "dropout", "N is 0; N must be at least 1"));
        }
        check_probability(p)?;
        Ok(Self { n, p, stream })
    }

    fn mask(&self, run: RunInfo) -> Option<Mask> {
        Mask::new(run, self.p, self.stream)
    }
}

/// `p` must be a probability below 1.
pub(crate) fn check_probability(p: f32) -> Result<()> {
    if (0.0..1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::new(Kind::Config, "dropout", format!("p is {p}; it must be in [0, 1)"))
        .hint("p is the share of elements set to zero; 0 turns dropout off"))
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        Some((0, 0))
    }
    fn flops(&self) -> (u64, u64) {
        (self.n as u64, self.n as u64)
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        if let Some(mask) = self.mask(operands.run) {
            cpu::apply(operands.pool, mask, &mut *operands.outputs[0]);
        }
        Ok(())
    }
    fn backward(&self, mut operands: Backward<'_>) -> Result<()> {
        if let (Some(mask), Some(dx)) = (self.mask(operands.run), &mut operands.d_inputs[0]) {
            cpu::apply(operands.pool, mask, &mut *dx.data);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_hold() {
        for case in cases::cases() {
            case.check().unwrap();
        }
    }

    #[test]
    fn a_p_outside_the_range_is_refused() {
        for p in [-0.1, 1.0, f32::NAN] {
            assert_eq!(Dropout::new(4, p, 0).unwrap_err().kind(), Kind::Config);
        }
        assert_eq!(Dropout::new(0, 0.1, 0).unwrap_err().kind(), Kind::Shape);
    }

    fn masked(run: RunInfo, p: f32, stream: u32, start: usize, n: usize) -> Vec<f32> {
        let mut x = vec![1.0; n];
        if let Some(mask) = Mask::new(run, p, stream) {
            mask.apply(start, &mut x);
        }
        x
    }

    /// Any part of the mask is the same part of the whole mask.
    #[test]
    fn a_part_of_the_mask_is_cut_from_the_whole() {
        let run = RunInfo { training: true, seed: 5, step: 9, grad_scale: 1.0 };
        let whole = masked(run, 0.3, 2, 0, 1000);
        for (start, n) in [(0, 1), (127, 2), (128, 128), (5, 900), (999, 1), (250, 13)] {
            assert_eq!(masked(run, 0.3, 2, start, n), whole[start..start + n]);
        }
    }

    /// Share of zeros and mean over many draws; masks differ by seed, step and stream.
    #[test]
    fn masks_have_the_right_share_and_differ() {
        let run = RunInfo { training: true, seed: 5, step: 9, grad_scale: 1.0 };
        let n = 1 << 20;
        for p in [0.1f32, 0.5, 0.9] {
            let y = masked(run, p, 0, 0, n);
            let zeros = y.iter().filter(|&&y| y == 0.0).count() as f64 / n as f64;
            let mean = y.iter().map(|&y| f64::from(y)).sum::<f64>() / n as f64;
            let sigma = (f64::from(p) * (1.0 - f64::from(p)) / n as f64).sqrt();
            assert!((zeros - f64::from(p)).abs() <= 5.0 * sigma + 1e-5, "{p}: {zeros}");
            assert!((mean - 1.0).abs() <= 5.0 * sigma / (1.0 - f64::from(p)), "{p}: {mean}");
        }
        let base = masked(run, 0.5, 0, 0, n);
        let others = [
            masked(RunInfo { seed: 6, ..run }, 0.5, 0, 0, n),
            masked(RunInfo { step: 10, ..run }, 0.5, 0, 0, n),
            masked(run, 0.5, 1, 0, n),
        ];
        for other in others {
            let equal = base.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / n as f64;
            assert!((equal - 0.5).abs() < 0.003, "{equal}");
        }
    }
}

// This room does not know which layer it follows, or how seeds and steps are chosen.
