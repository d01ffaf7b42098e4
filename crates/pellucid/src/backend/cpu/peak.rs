#![allow(unsafe_code)] // instruction sets chosen at run time; workers' parts of arrays
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
    /// 10^9 bytes per second read from memory, in order, from huge pages, 384 MiB of them.
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

/// How far ahead the reading of memory asks for what comes.
const AHEAD: usize = 16 << 10;

/// Bytes per second in which `bytes` bytes are read in order, again and again: what a product of one row with
/// weights of that size can reach at most. Caches that hold a part of them count, as they do for the product.
///
/// # Errors
/// [`Kind::Resource`] if the memory is not there.
pub fn read_speed(pool: &Pool, bytes: usize) -> Result<f64> {
    let data = array(pool, (bytes / size_of::<f32>()).next_multiple_of(64))?;
    Ok(size_of_val(&*data) as f64 / read(pool, &[&data]))
}

/// Seconds in which all of `arrays` is read.
fn read(pool: &Pool, arrays: &[&[f32]]) -> f64 {
    best(9, pool, &|worker| {
        for array in arrays {
            let at = |worker: usize| array.len() / LINES * worker / pool.threads() * LINES;
            let mine = &array[at(worker)..at(worker + 1)];
            match Features::get().used {
                // SAFETY: `used` was detected.
                #[cfg(target_arch = "x86_64")]
                Isa::Amx | Isa::Avx512 => unsafe { read_avx512(mine) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { read_avx2(mine) },
                _ => read_plain(mine),
            }
        }
    })
}

/// Elements read at a time: eight lines of a cache.
const LINES: usize = 128;

/// Adds up all bits.
#[inline(always)]
fn read_plain(data: &[f32]) {
    let mut sums = [0_u32; LINES];
    for lines in data.chunks_exact(LINES) {
        #[cfg(target_arch = "x86_64")]
        for line in lines.chunks_exact(16) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a hint; nothing is accessed.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().wrapping_byte_add(AHEAD).cast()) };
        }
        for (sum, x) in sums.iter_mut().zip(lines) {
            *sum = sum.wrapping_add(x.to_bits());
        }
    }
    std::hint::black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn read_avx512(data: &[f32]) {
    read_plain(data);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(data: &[f32]) {
    read_plain(data);
}

/// Read, triad and update in 10^9 bytes per second.
fn memory(pool: &Pool) -> Result<[f64; 3]> {
    let mut arrays = [array(pool, ELEMENTS)?, array(pool, ELEMENTS)?, array(pool, ELEMENTS)?];
    let read = read(pool, &arrays.each_ref().map(|a| &**a));
    let [a, b, c] = &mut arrays;
    let part = |worker: usize| {
        let at = |worker: usize| ELEMENTS / 64 * worker / pool.threads() * 64;
        at(worker)..at(worker + 1)
    };
    let out = Ptr(a.as_mut_ptr());
    let triad = best(5, pool, &|worker| {
        let range = part(worker);
        // SAFETY: parts of workers are disjoint and inside `a`.
        let a = unsafe { out.slice(range.start, range.len()) };
        for ((a, b), c) in a.iter_mut().zip(&b[range.clone()]).zip(&c[range]) {
            *a = *b + 0.5 * *c;
        }
    });
    let update = best(5, pool, &|worker| {
        let range = part(worker);
        // SAFETY: as above.
        let a = unsafe { out.slice(range.start, range.len()) };
        for (a, b) in a.iter_mut().zip(&b[range]) {
            *a += 0.5 * *b;
        }
    });
    let bytes = 3.0 * (ELEMENTS * size_of::<f32>()) as f64 / 1e9;
    Ok([bytes / read, bytes / triad, bytes / update])
}

/// Ones on huge pages, first touched by the worker that will use them.
fn array(pool: &Pool, len: usize) -> Result<Buffer> {
    let mut array = Buffer::try_zeros(len).ok_or_else(|| {
        let message = format!("{len} numbers for the measurement of memory are not there");
        Error::new(Kind::Resource, "peak", message)
    })?;
    let start = Ptr(array.as_mut_ptr());
    pool.split(len, 64, &|range| {
        // SAFETY: ranges are disjoint and inside the array.
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
