//! Times attention at three training shapes: `cargo bench -p pellucid --bench attention [-- threads [B T H D]]`.
//!
//! Random operands, causal mask. GFLOP/s count only pairs of positions that see each other (2 products forward,
//! 5 backward), so they can be compared with the machine's peak. Minimum and median of many runs.

#![allow(clippy::print_stdout)] // a bench prints

use pellucid::autograd::{Backward, Forward, Grad, Op, RunInfo};
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::ops::attention::{AttentionDims, Mask, Rule, SelfAttention};
use pellucid::tensor::random::Random;
use std::time::Instant;

fn times(mut f: impl FnMut()) -> (f64, f64) {
    f();
    let start = Instant::now();
    let mut all = vec![];
    while all.len() < 5 || start.elapsed().as_secs_f64() < 1.0 {
        let one = Instant::now();
        f();
        all.push(one.elapsed().as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    (all[0], all[all.len() / 2])
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let pool = Pool::new(numbers.first().copied().unwrap_or(0));
    let shapes = match numbers[..] {
        [_, b, t, h, d] => vec![(b, t, h, d)],
        _ => vec![(64, 256, 6, 64), (12, 64, 4, 32), (1, 1024, 12, 64)],
    };
    println!("{} threads", pool.threads());
    for shape in shapes {
        bench(&pool, shape, Precision::F32);
        bench(&pool, shape, Precision::Bf16);
    }
}

fn bench(pool: &Pool, (b, t, h, d): (usize, usize, usize, usize), precision: Precision) {
    let dims = AttentionDims { b, t, s: t, h, kv: h, d };
    let rule = Rule { precision, ..Rule::new(Mask::CAUSAL, d) };
    let op = SelfAttention::new(dims, rule).expect("a valid shape");
    let mut random = Random::new(1, 0);
    let mut normal = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<f32>>();
    let qkv = normal(op.inputs()[0]);
    let d_out = normal(op.outputs()[0]);
    let (mut out, mut lse) = (vec![0.0; op.outputs()[0]], vec![0.0; op.saved()[0]]);
    let mut d_qkv = vec![0.0; qkv.len()];
    let mut scratch = vec![0.0; op.scratch(pool.threads())];
    let forward = times(|| {
        op.forward(Forward {
            pool,
            run: RunInfo::default(),
            inputs: [&qkv[..]].into_iter().collect(),
            ints: Default::default(),
            params: Default::default(),
            outputs: [&mut out[..]].into_iter().collect(),
            saved: [&mut lse[..]].into_iter().collect(),
            scratch: &mut scratch,
        })
        .expect("forward");
    });
    let backward = times(|| {
        op.backward(Backward {
            pool,
            run: RunInfo::default(),
            inputs: [&qkv[..]].into_iter().collect(),
            ints: Default::default(),
            params: Default::default(),
            outputs: [&mut out[..]].into_iter().collect(),
            saved: [&mut lse[..]].into_iter().collect(),
            d_outputs: [&d_out[..]].into_iter().collect(),
            d_inputs: [Some(Grad { data: &mut d_qkv, accumulate: false })].into_iter().collect(),
            d_params: Default::default(),
            scratch: &mut scratch,
        })
        .expect("backward");
    });
    let flops = op.flops();
    for (name, flops, (min, median)) in
        [("forward", flops.0, forward), ("backward", flops.1, backward)]
    {
        println!(
            "B={b} T={t} H={h} D={d} {precision:?} {name:8}: min {:8.3} ms, median {:8.3} ms, {:6.1} GFLOP/s (min)",
            min * 1e3,
            median * 1e3,
            flops as f64 / min * 1e-9
        );
    }
}
