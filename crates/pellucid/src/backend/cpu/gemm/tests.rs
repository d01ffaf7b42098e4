#![allow(clippy::print_stderr)]
#![allow(clippy::neg_cmp_op_on_partial_ord)] // NaN must fail

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Largest error allowed, over Σ|a||b| + |c|: a few roundings of f32. A lost third term of an
/// operand costs 2^-18 or so.
pub(super) const TOLERANCE: f64 = 3.0 / (1 << 23) as f64;

pub(super) fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut normal =
        || (-2.0 * uniform().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..n).map(|_| normal() as f32).collect()
}

/// One product with everything around it that could go wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) dims: GemmDims,
    pub(super) a_t: bool,
    pub(super) b_t: bool,
    pub(super) precision: Precision,
    pub(super) isa: Isa,
    pub(super) threads: usize,
    pub(super) accumulate: bool,
    pub(super) finish: bool,
    pub(super) small_blocks: bool,
}

pub(super) fn case(m: usize, n: usize, k: usize) -> Case {
    Case {
        dims: GemmDims { m, n, k },
        a_t: false,
        b_t: false,
        precision: Precision::F32,
        isa: Features::get().used,
        threads: 2,
        accumulate: false,
        finish: false,
        small_blocks: false,
    }
}

/// Operands and c of a case; rows of every matrix are a little apart.
pub(super) struct Data {
    pub(super) a: Vec<f32>,
    pub(super) b: Vec<f32>,
    pub(super) c: Vec<f32>,
}

pub(super) const GAP: usize = 3;

impl Case {
    pub(super) fn data(&self) -> Data {
        let GemmDims { m, n, k } = self.dims;
        let size =
            |rows: usize, cols: usize, t| if t { cols * (rows + GAP) } else { rows * (cols + GAP) };
        Data {
            a: random(size(m, k, self.a_t), 1),
            b: random(size(k, n, self.b_t), 2),
            c: random(m * (n + GAP), 3),
        }
    }

    pub(super) fn mats<'a>(&self, data: &'a Data) -> (Mat<'a>, Mat<'a>) {
        let mat = |x: &'a [f32], rows: usize, cols: usize, t: bool| {
            if t { Mat::rows(x, rows + GAP).t() } else { Mat::rows(x, cols + GAP) }
        };
        let GemmDims { m, n, k } = self.dims;
        (mat(&data.a, m, k, self.a_t), mat(&data.b, k, n, self.b_t))
    }

    /// The kernel under test.
    pub(super) fn compute(&self, data: &Data) -> Vec<f32> {
        let (a, b) = self.mats(data);
        let stride = self.dims.n + GAP;
        let (mut c, pool) = (data.c.clone(), Pool::new(self.threads));
        let seen: Vec<AtomicU32> = c.iter().map(|_| AtomicU32::new(0)).collect();
        let double = |mut tile: Tile<'_>| {
            for i in 0..tile.rows.len() {
                let start = (tile.rows.start + i) * stride + tile.cols.start;
                for (j, value) in tile.row_mut(i).iter_mut().enumerate() {
                    *value *= 2.0;
                    seen[start + j].fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let mut limits = Limits::of(self.precision);
        if self.small_blocks {
            limits = Limits { k_block: 64, stream_panels: 2, shared_bytes: 3 * 2 * 6 * 1024 * 2 };
        }
        let call = Call {
            precision: self.precision,
            dims: self.dims,
            a,
            b,
            c_stride: stride,
            accumulate: self.accumulate,
            finish: if self.finish { Some(&double) } else { None },
            limits,
            dots: dots(self.precision),
        };
        call.run((self.threads > 0).then_some(&pool), &mut c, self.isa);
        for (i, count) in seen.iter().enumerate() {
            let expected = u32::from(self.finish && i % stride < self.dims.n);
            assert_eq!(count.load(Ordering::Relaxed), expected, "finish at {i}: {self:?}");
        }
        c
    }

    /// Largest error of `c`, over Σ|a||b| + |c|; infinite if something outside was written.
    pub(super) fn error(&self, data: &Data, c: &[f32]) -> f64 {
        let (a, b) = self.mats(data);
        let (n, stride) = (self.dims.n, self.dims.n + GAP);
        let start = self.accumulate.then_some((&data.c[..], stride));
        let exact = reference::gemm(self.precision, self.dims, a, b, start);
        let absolute = |x: &[f32]| x.iter().map(|x| x.abs()).collect::<Vec<_>>();
        let (a_abs, b_abs, c_abs) = (absolute(a.data), absolute(b.data), absolute(&data.c));
        let (a, b) = (Mat { data: &a_abs, ..a }, Mat { data: &b_abs, ..b });
        let start = self.accumulate.then_some((&c_abs[..], stride));
        let scale = reference::gemm(Precision::F32, self.dims, a, b, start);
        let mut worst = 0.0_f64;
        for (i, (&value, &before)) in c.iter().zip(&data.c).enumerate() {
            let (row, col) = (i / stride, i % stride);
            if col >= n {
                worst = if value.to_bits() == before.to_bits() { worst } else { f64::INFINITY };
                continue;
            }
            let factor = if self.finish { 2.0 } else { 1.0 };
            let error = (f64::from(value) / factor - exact[row * n + col]).abs();
            let relative = error / scale[row * n + col].max(1e-30);
            if !(relative <= worst) {
                worst = relative;
            }
        }
        worst
    }

    fn check(&self) {
        let data = self.data();
        let error = self.error(&data, &self.compute(&data));
        assert!(error <= TOLERANCE, "error {error:e} > {TOLERANCE:e}: {self:?}");
    }
}

/// `vdpbf16ps` wherever it exists, so that it is tested where it is not the faster one.
fn dots(precision: Precision) -> bool {
    precision == Precision::Bf16 && Features::get().avx512_bf16
}

pub(super) fn isas() -> Vec<Isa> {
    let used = Features::get().used;
    let mut isas = vec![used, Isa::Portable];
    if used == Isa::Amx {
        isas.push(Isa::Avx512);
    } else {
        // Past the test harness, which hides what passing tests print.
        let _ =
            std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED: no AMX\n"));
    }
    isas
}

const SHAPES: &[(usize, usize, usize)] = &[
    (1, 1, 1),
    (1, 40, 7),
    (2, 7, 33),
    (3, 300, 65),
    (5, 2, 16),
    (7, 33, 129),
    (8, 270, 48),
    (9, 1, 1),
    (9, 33, 2),
    (16, 16, 32),
    (17, 31, 33),
    (33, 64, 31),
    (37, 65, 131),
    (64, 96, 64),
    (97, 13, 257),
    (31, 130, 521),
    (70, 45, 1030),
    (261, 40, 35),
    (40, 290, 70),
];

#[test]
fn odd_shapes_in_every_storage_order() {
    for &(m, n, k) in SHAPES {
        for isa in isas() {
            for forms in 0..4 {
                for precision in [Precision::F32, Precision::Bf16] {
                    let (a_t, b_t) = (forms & 1 > 0, forms & 2 > 0);
                    Case { a_t, b_t, precision, isa, ..case(m, n, k) }.check();
                }
            }
        }
    }
}

#[test]
fn accumulate_finish_threads_and_small_blocks() {
    for &(m, n, k) in SHAPES {
        for isa in isas() {
            for bits in 0..16 {
                let bit = |i: usize| bits >> i & 1 > 0;
                let precision = if bit(3) { Precision::Bf16 } else { Precision::F32 };
                let case = Case { accumulate: bit(0), finish: bit(1), isa, ..case(m, n, k) };
                Case { small_blocks: bit(2), precision, threads: bits % 4, ..case }.check();
            }
        }
    }
}

#[test]
fn empty_sizes() {
    for (m, n, k) in [(3, 5, 0), (0, 5, 4), (5, 0, 4), (40, 40, 0), (0, 0, 0)] {
        for bits in 0..4 {
            let (accumulate, finish) = (bits & 1 > 0, bits & 2 > 0);
            Case { accumulate, finish, ..case(m, n, k) }.check();
        }
    }
}

/// Kernels that are wrong on purpose; every one must exceed the tolerance.
#[test]
fn wrong_kernels_are_caught() {
    type Mutant = (&'static str, fn(Case, &Data) -> Vec<f32>);
    let mutants: &[Mutant] = &[
        ("third term of a dropped", |case, data| {
            let a = data.a.iter().map(|x| f32::from_bits(x.to_bits() & !0x7F)).collect();
            case.compute(&Data { a, b: data.b.clone(), c: data.c.clone() })
        }),
        ("one term only", |case, data| Case { precision: Precision::Bf16, ..case }.compute(data)),
        ("tail of k dropped", |case, data| {
            let GemmDims { m, n, k } = case.dims;
            let short = Case { dims: GemmDims { m, n, k: k - 1 }, ..case };
            let (a, b) = case.mats(data);
            let mut c = data.c.clone();
            let call = Call {
                precision: short.precision,
                dims: short.dims,
                a,
                b,
                c_stride: n + GAP,
                accumulate: short.accumulate,
                finish: None,
                limits: Limits::of(short.precision),
                dots: dots(short.precision),
            };
            call.run(None, &mut c, short.isa);
            c
        }),
        ("a transposed", |case, data| {
            let (a, b) = case.mats(data);
            let (mut c, dims) = (data.c.clone(), case.dims);
            let (c_stride, accumulate) = (dims.n + GAP, case.accumulate);
            let (precision, limits, a) = (case.precision, Limits::of(case.precision), a.t());
            let (finish, dots) = (None, dots(precision));
            let call = Call { precision, dims, a, b, c_stride, accumulate, finish, limits, dots };
            call.run(None, &mut c, case.isa);
            c
        }),
        ("accumulate ignored", |case, data| Case { accumulate: false, ..case }.compute(data)),
        ("last row dropped", |case, data| {
            let mut c = case.compute(data);
            let last = (case.dims.m - 1) * (case.dims.n + GAP);
            c[last..].copy_from_slice(&data.c[last..]);
            c
        }),
        ("written between the rows", |case, data| {
            let mut c = case.compute(data);
            c[case.dims.n] += 1.0;
            c
        }),
    ];
    for (m, n, k) in [(33, 37, 33), (40, 40, 40), (129, 70, 129)] {
        for (name, mutant) in mutants {
            let case = Case { accumulate: true, ..case(m, n, k) };
            let square = Case { dims: GemmDims { m, n, k: m }, ..case };
            let data = square.data();
            let error = square.error(&data, &mutant(square, &data));
            assert!(!(error <= TOLERANCE), "{name} passed with error {error:e}: {case:?}");
        }
    }
}
