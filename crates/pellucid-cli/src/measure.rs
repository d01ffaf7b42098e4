//! Times, medians and this computer's peak.

use pellucid::backend::buffer::Buffer;
use pellucid::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm};
use pellucid::backend::cpu::peak::matrix_peak;
use pellucid::backend::cpu::pool::Pool;
use pellucid::tensor::random::Random;
use std::time::Instant;

/// Seconds of repeated runs.
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// At least `least` runs and `seconds` of them, after one that does not count.
    pub(crate) fn of(least: usize, seconds: f64, mut run: impl FnMut()) -> Self {
        run();
        let (start, mut times) = (Instant::now(), vec![]);
        while times.len() < least || start.elapsed().as_secs_f64() < seconds {
            let one = Instant::now();
            run();
            times.push(one.elapsed().as_secs_f64());
        }
        Self::from(times)
    }

    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }
    pub(crate) fn min(&self) -> f64 {
        self.0[0]
    }
    pub(crate) fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<Vec<f64>> for Times {
    fn from(mut times: Vec<f64>) -> Self {
        assert!(!times.is_empty(), "nothing was timed");
        times.sort_by(f64::total_cmp);
        Self(times)
    }
}

/// FLOP/s of matrix products of `dims` on random operands: times and FLOPs of one.
pub(crate) fn product(
    pool: &Pool,
    precision: Precision,
    dims: GemmDims,
    (least, seconds): (usize, f64),
) -> (Times, f64) {
    let GemmDims { m, n, k } = dims;
    let mut random = Random::new(1, 0);
    let mut fill = |len: usize| {
        let mut buffer = Buffer::zeros(len);
        buffer.iter_mut().for_each(|x| *x = random.uniform() - 0.5);
        buffer
    };
    let (a, b, mut c) = (fill(m * k), fill(k * n), Buffer::zeros(m * n));
    let times = Times::of(least, seconds, || {
        let a = Mat { data: &a, row_stride: k, col_stride: 1 };
        let b = Mat { data: &b, row_stride: n, col_stride: 1 };
        gemm(pool, precision, dims, a, b, &mut c, n, false, None);
    });
    (times, 2.0 * (m * n * k) as f64)
}

/// The most FLOP/s that matrix products can reach here, on registers; the yardstick of every "share of peak".
pub(crate) fn peak(pool: &Pool, precision: Precision) -> f64 {
    matrix_peak(pool, precision)
}

/// The most memory that this process ever held, in bytes. Linux only.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|k| k * 1024)
}
