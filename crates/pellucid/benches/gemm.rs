//! Matrix products in GFLOP/s: `cargo bench -p pellucid --bench gemm [-- word of a shape]`.
//!
//! Best and median of repeated runs on random data; the `gemm` crate, with as many threads,
//! beside ours.

#![allow(clippy::print_stdout)]
#![allow(unsafe_code)] // the comparison's interface takes pointers

use std::time::Instant;

use pellucid::backend::cpu::features::Features;
use pellucid::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm};
use pellucid::backend::cpu::global_pool;

struct Shape {
    name: &'static str,
    m: usize,
    n: usize,
    k: usize,
    /// Stored as (k, m), as (n, k).
    a_t: bool,
    b_t: bool,
}

const fn shape(
    name: &'static str,
    (m, n, k): (usize, usize, usize),
    a_t: bool,
    b_t: bool,
) -> Shape {
    Shape { name, m, n, k, a_t, b_t }
}

const ROWS: usize = 16384;
const SHAPES: &[Shape] = &[
    shape("square", (2048, 2048, 2048), false, false),
    shape("forward qkv", (ROWS, 1152, 384), false, true),
    shape("forward out", (ROWS, 384, 384), false, true),
    shape("forward up", (ROWS, 1536, 384), false, true),
    shape("forward down", (ROWS, 384, 1536), false, true),
    shape("dX qkv", (ROWS, 384, 1152), false, false),
    shape("dX out", (ROWS, 384, 384), false, false),
    shape("dX up", (ROWS, 384, 1536), false, false),
    shape("dX down", (ROWS, 1536, 384), false, false),
    shape("dW qkv", (1152, 384, ROWS), true, false),
    shape("dW out", (384, 384, ROWS), true, false),
    shape("dW up", (1536, 384, ROWS), true, false),
    shape("dW down", (384, 1536, ROWS), true, false),
    shape("logits", (1024, 50257, 768), false, true),
    shape("small up", (768, 384, 128), false, true),
    shape("small mlp", (768, 512, 128), false, true),
    shape("g fwd in", (1024, 3072, 768), false, true),
    shape("g fwd out", (1024, 768, 3072), false, true),
    shape("g dX in", (1024, 768, 3072), false, false),
    shape("g dW in", (3072, 768, 1024), true, false),
    shape("g dW out", (768, 3072, 1024), true, false),
    shape("g n fwd", (1024, 1536, 384), false, true),
    shape("g n dW", (1536, 384, 1024), true, false),
    shape("decode 1", (1, 3072, 768), false, true),
    shape("decode 8", (8, 3072, 768), false, true),
    shape("prefill 64", (64, 3072, 768), false, true),
];

/// Numbers at a cache line, as tensors are.
struct Aligned(Vec<[f32; 16]>, usize);

impl Aligned {
    fn new(n: usize) -> Self {
        // A cache line more, of which the first aligned one is the start.
        Self(vec![[0.0; 16]; n / 16 + 2], n)
    }

    fn get(&mut self) -> &mut [f32] {
        let all = self.0.as_flattened_mut();
        let start = all.as_ptr().align_offset(64);
        &mut all[start..start + self.1]
    }
}

fn random(n: usize, mut seed: u64) -> Aligned {
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut out = Aligned::new(n);
    out.get().iter_mut().for_each(|x| *x = next());
    out
}

/// (best, median) seconds.
fn time(work: &mut dyn FnMut()) -> (f64, f64) {
    work();
    let start = Instant::now();
    work();
    let once = start.elapsed().as_secs_f64().max(1e-7);
    let inner = (2e-3 / once).ceil() as usize;
    let rounds = ((0.25 / (once * inner as f64)) as usize).clamp(7, 60);
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            (0..inner).for_each(|_| work());
            start.elapsed().as_secs_f64() / inner as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[rounds / 2])
}

fn theirs(s: &Shape, a: Mat<'_>, b: Mat<'_>, c: &mut [f32]) {
    let threads = gemm::Parallelism::Rayon(global_pool().threads());
    // SAFETY: the operands have these sizes.
    unsafe {
        gemm::gemm(
            s.m,
            s.n,
            s.k,
            c.as_mut_ptr(),
            1,
            s.n as isize,
            false,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    println!("{:?}", Features::get());
    println!("GFLOP/s, best (median), {} threads", global_pool().threads());
    println!("{:<14}{:>22}{:>18}{:>18}{:>18}", "shape", "m n k", "F32", "Bf16", "gemm crate");
    for s in SHAPES {
        if !filter.is_empty() && !filter.iter().any(|f| s.name.contains(f.as_str())) {
            continue;
        }
        let (mut a, mut b) = (random(s.m * s.k, 1), random(s.k * s.n, 2));
        let mut c = Aligned::new(s.m * s.n);
        let (a, b, c) = (&*a.get(), &*b.get(), c.get());
        let a = if s.a_t { Mat::rows(a, s.m).t() } else { Mat::rows(a, s.k) };
        let b = if s.b_t { Mat::rows(b, s.k).t() } else { Mat::rows(b, s.n) };
        let dims = GemmDims { m: s.m, n: s.n, k: s.k };
        let flops = 2.0 * (s.m * s.n * s.k) as f64;
        let show = |(best, median): (f64, f64)| {
            format!("{:.0} ({:.0})", flops / best / 1e9, flops / median / 1e9)
        };
        let mut ours = |precision| {
            show(time(&mut || {
                gemm(global_pool(), precision, dims, a, b, c, s.n, false, None);
            }))
        };
        let (f32, bf16) = (ours(Precision::F32), ours(Precision::Bf16));
        let theirs = show(time(&mut || theirs(s, a, b, c)));
        let size = format!("{} {} {}", s.m, s.n, s.k);
        println!("{:<14}{size:>22}{f32:>18}{bf16:>18}{theirs:>18}", s.name);
    }
}
