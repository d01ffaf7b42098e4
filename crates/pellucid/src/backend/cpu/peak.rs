#![allow(unsafe_code)] // instruction sets chosen at run time; uninitialised arrays
//! What this machine can do at most, measured: the roofs that speeds are compared with.

use std::time::Instant;

use super::features::{Features, Isa};
use super::gemm::Precision;
use super::pool::{Pool, Ptr};
use crate::backend::buffer::Buffer;
use crate::error::{Error, Kind, Result};

/// Speeds of this machine with all workers of a pool, the best of a few short runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Workers that ran.
    pub threads: usize,
    /// 10^9 f32 operations per second in fused multiply-adds on registers; one is two operations.
    pub fma_f32_gflops: f64,
    /// 10^9 operations per second in bf16 tile products on registers.
    pub tile_bf16_gflops: Option<f64>,
    /// 10^9 bytes per second read from memory, in order.
    pub read_gbps: f64,
    /// 10^9 bytes per second in `a = b + s·c`, counting two reads and one write (McCalpin, STREAM,
    /// 1995); the processor also reads `a` before it writes it, which is not counted.
    pub triad_gbps: f64,
    /// 10^9 bytes per second in `a = a + s·b`, two reads and one write: all that crosses the bus is counted.
    pub update_gbps: f64,
}

/// Elements of each array: far more than caches of one core hold.
const ELEMENTS: usize = 32 << 20;

impl Peak {
    /// Takes less than a second and 384 MiB.
    ///
    /// # Errors
    /// [`Kind::Resource`] if the memory is not there.
    pub fn measure(pool: &Pool) -> Result<Self> {
        let [read_gbps, triad_gbps, update_gbps] = memory(pool)?;
        Ok(Self {
            threads: pool.threads(),
            fma_f32_gflops: fma(pool),
            tile_bf16_gflops: tiles(pool),
            read_gbps,
            triad_gbps,
            update_gbps,
        })
    }
}

/// FLOP/s that matrix products could reach at most on registers: tiles where they are used (an f32 product is
/// six tile products), else multiply-adds. Takes a few milliseconds and no memory.
#[must_use]
pub fn matrix_peak(pool: &Pool, precision: Precision) -> f64 {
    let terms = match precision {
        Precision::F32 => 6.0,
        Precision::Bf16 => 1.0,
    };
    1e9 * tiles(pool).map_or(0.0, |t| t / terms).max(fma(pool))
}

/// Best of a few runs of `work`, seconds.
fn best(runs: usize, pool: &Pool, work: &(dyn Fn(usize) + Sync)) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        pool.run(work);
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// `ROUNDS` × `CHAINS` multiply-adds of vectors.
macro_rules! chains {
    ($name:ident $(, $feature:literal)?; $set:path, $fma:path) => {
        $(#[target_feature(enable = $feature)])?
        fn $name() {
            let (x, y) = (std::hint::black_box($set(0.5)), std::hint::black_box($set(1.0)));
            let mut sums = [y; CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = $fma(*sum, x, y);
                }
            }
            std::hint::black_box(sums);
        }
    };
}
const ROUNDS: usize = 100_000;
/// Enough independent sums for two units with a latency of four, and no more than registers.
const CHAINS: usize = 12;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};
#[cfg(target_arch = "x86_64")]
chains!(chains_avx512, "avx512f"; _mm512_set1_ps, _mm512_fmadd_ps);
#[cfg(target_arch = "x86_64")]
chains!(chains_avx2, "avx2,fma"; _mm256_set1_ps, _mm256_fmadd_ps);
chains!(chains_plain; four, multiply_add);

fn four(x: f32) -> [f32; 4] {
    [x; 4]
}

fn multiply_add(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
    std::array::from_fn(|i| {
        if cfg!(target_arch = "aarch64") { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] }
    })
}

fn fma(pool: &Pool) -> f64 {
    let (lanes, work): (usize, &(dyn Fn(usize) + Sync)) = match Features::get().used {
        // SAFETY: `used` was detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => (16, &|_| unsafe { chains_avx512() }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (8, &|_| unsafe { chains_avx2() }),
        _ => (4, &|_| chains_plain()),
    };
    let operations = 2 * lanes * CHAINS * ROUNDS * pool.threads();
    operations as f64 / best(30, pool, work) / 1e9
}

#[cfg(target_arch = "x86_64")]
fn tiles(pool: &Pool) -> Option<f64> {
    use super::gemm::amx::{Tiles, spin};
    const ROUNDS: usize = 20_000;
    (Features::get().used == Isa::Amx).then(|| {
        let seconds = best(30, pool, &|_| {
            // SAFETY: AMX is used; the tiles are configured while the products run.
            unsafe {
                let _tiles = Tiles::configure();
                spin(ROUNDS);
            }
        });
        let operations = ROUNDS * 4 * (2 * 16 * 16 * 32) * pool.threads();
        operations as f64 / seconds / 1e9
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn tiles(_: &Pool) -> Option<f64> {
    None
}

/// Reads everything, in [`STREAMS`] places at once: one alone waits for memory's latency.
#[inline(always)]
fn read_body(x: &[f32]) {
    let mut sums = [[0_u32; 16]; STREAMS];
    let part = x.len() / STREAMS / 16 * 16;
    for at in (0..part).step_by(16) {
        for (stream, sums) in sums.iter_mut().enumerate() {
            let line = &x[stream * part + at..][..16];
            for (sum, x) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(x.to_bits());
            }
        }
    }
    std::hint::black_box(sums);
}

/// `a = b + c/2`.
#[inline(always)]
fn triad_body(a: &mut [f32], b: &[f32], c: &[f32]) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = *b + 0.5 * *c;
    }
}

/// `a += b/2`.
#[inline(always)]
fn update_body(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += 0.5 * *b;
    }
}

/// Places read at once by each worker.
const STREAMS: usize = 4;

/// `body` compiled for what this computer has.
macro_rules! widest {
    ($name:ident($($x:ident: $t:ty),*) = $body:ident) => {
        fn $name($($x: $t),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($x: $t),*) {
                    $body($($x),*);
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($x: $t),*) {
                    $body($($x),*);
                }
                match Features::get().used {
                    // SAFETY: `used` was detected.
                    Isa::Amx | Isa::Avx512 => return unsafe { avx512($($x),*) },
                    // SAFETY: as above.
                    Isa::Avx2 => return unsafe { avx2($($x),*) },
                    _ => {}
                }
            }
            $body($($x),*);
        }
    };
}
widest!(read(x: &[f32]) = read_body);
widest!(triad(a: &mut [f32], b: &[f32], c: &[f32]) = triad_body);
widest!(update(a: &mut [f32], b: &[f32]) = update_body);

/// Read, triad and update in 10^9 bytes per second.
fn memory(pool: &Pool) -> Result<[f64; 3]> {
    let mut arrays = [array(pool)?, array(pool)?, array(pool)?];
    let [a, b, c] = &mut arrays;
    let part = |worker: usize| {
        let at = |worker: usize| ELEMENTS / 64 * worker / pool.threads() * 64;
        at(worker)..at(worker + 1)
    };
    let read = best(5, pool, &|worker| read(&b[part(worker)]));
    let out = Ptr(a.as_mut_ptr());
    let triad = best(5, pool, &|worker| {
        let range = part(worker);
        // SAFETY: parts of workers are disjoint and inside `a`.
        let a = unsafe { out.slice(range.start, range.len()) };
        triad(a, &b[range.clone()], &c[range]);
    });
    let update = best(5, pool, &|worker| {
        let range = part(worker);
        // SAFETY: as above.
        update(unsafe { out.slice(range.start, range.len()) }, &b[range]);
    });
    let bytes = (ELEMENTS * size_of::<f32>()) as f64 / 1e9;
    Ok([bytes / read, 3.0 * bytes / triad, 3.0 * bytes / update])
}

/// Ones, first touched by the worker that will use them, on huge pages where offered, as the model's memory is.
fn array(pool: &Pool) -> Result<Buffer> {
    // Asked for and given back: a buffer that does not fit would end the process.
    let mut asked: Vec<f32> = Vec::new();
    asked.try_reserve_exact(ELEMENTS).map_err(|error| {
        Error::new(Kind::Resource, "peak", "384 MiB for the measurement of memory are not there")
            .source(error)
    })?;
    drop(asked);
    let mut array = Buffer::zeros(ELEMENTS);
    let start = Ptr(array.as_mut_ptr());
    pool.split(ELEMENTS, 64, &|range| {
        // SAFETY: ranges are disjoint and inside the buffer.
        unsafe { start.slice(range.start, range.len()) }.fill(1.0);
    });
    Ok(array)
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_plausible() {
        let pool = Pool::new(0);
        let start = Instant::now();
        let peak = Peak::measure(&pool).expect("384 MiB");
        eprintln!("{peak:?} in {:?}", start.elapsed());
        for speed in [peak.fma_f32_gflops, peak.read_gbps, peak.triad_gbps, peak.update_gbps] {
            assert!(speed > 0.1 && speed < 1e6, "{peak:?}");
        }
        assert_eq!(peak.tile_bf16_gflops.is_some(), Features::get().used == Isa::Amx);
        if let Some(tiles) = peak.tile_bf16_gflops {
            assert!(tiles > peak.fma_f32_gflops, "{peak:?}");
        }
    }
}
