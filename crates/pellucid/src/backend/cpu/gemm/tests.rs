#![allow(clippy::print_stderr)]
#![allow(clippy::neg_cmp_op_on_partial_ord)] // NaN must fail

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Largest error allowed, over Σ|a||b| + |c|: a few roundings of f32. A lost third term of an
/// operand costs 2^-18 or so.
const TOLERANCE: f64 = 3.0 / (1 << 23) as f64;

fn random(n: usize, seed: u64) -> Vec<f32> {
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
struct Case {
    dims: GemmDims,
    a_t: bool,
    b_t: bool,
    precision: Precision,
    isa: Isa,
    threads: usize,
    accumulate: bool,
    finish: bool,
    small_blocks: bool,
}

fn case(m: usize, n: usize, k: usize) -> Case {
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
struct Data {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

const GAP: usize = 3;

impl Case {
    fn data(&self) -> Data {
        let GemmDims { m, n, k } = self.dims;
        let size =
            |rows: usize, cols: usize, t| if t { cols * (rows + GAP) } else { rows * (cols + GAP) };
        Data {
            a: random(size(m, k, self.a_t), 1),
            b: random(size(k, n, self.b_t), 2),
            c: random(m * (n + GAP), 3),
        }
    }

    fn mats<'a>(&self, data: &'a Data) -> (Mat<'a>, Mat<'a>) {
        let mat = |x: &'a [f32], rows: usize, cols: usize, t: bool| {
            if t { Mat::rows(x, rows + GAP).t() } else { Mat::rows(x, cols + GAP) }
        };
        let GemmDims { m, n, k } = self.dims;
        (mat(&data.a, m, k, self.a_t), mat(&data.b, k, n, self.b_t))
    }

    /// The kernel under test.
    fn compute(&self, data: &Data) -> Vec<f32> {
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
        };
        call.run((self.threads > 0).then_some(&pool), &mut c, self.isa);
        for (i, count) in seen.iter().enumerate() {
            let expected = u32::from(self.finish && i % stride < self.dims.n);
            assert_eq!(count.load(Ordering::Relaxed), expected, "finish at {i}: {self:?}");
        }
        c
    }

    /// Largest error of `c`, over Σ|a||b| + |c|; infinite if something outside was written.
    fn error(&self, data: &Data, c: &[f32]) -> f64 {
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

fn isas() -> Vec<Isa> {
    let used = Features::get().used;
    let mut isas = vec![used, Isa::Portable];
    if used == Isa::Amx {
        isas.push(Isa::Avx512);
    } else {
        eprintln!("SKIPPED: no AMX");
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
            };
            call.run(None, &mut c, short.isa);
            c
        }),
        ("a transposed", |case, data| {
            let (a, b) = case.mats(data);
            let mut c = data.c.clone();
            let dims = case.dims;
            let (c_stride, accumulate) = (dims.n + GAP, case.accumulate);
            let (precision, limits) = (case.precision, Limits::of(case.precision));
            let call =
                Call { precision, dims, a: a.t(), b, c_stride, accumulate, finish: None, limits };
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

/// (rms, max) error over Σ|a||b| of a product without accumulation.
fn errors(case: &Case, data: &Data) -> (f64, f64) {
    let c = case.compute(data);
    let (a, b) = case.mats(data);
    let exact = reference::gemm(case.precision, case.dims, a, b, None);
    let absolute = |x: &[f32]| x.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let (a_abs, b_abs) = (absolute(a.data), absolute(b.data));
    let (a, b) = (Mat { data: &a_abs, ..a }, Mat { data: &b_abs, ..b });
    let scale = reference::gemm(Precision::F32, case.dims, a, b, None);
    let (mut squares, mut worst) = (0.0, 0.0_f64);
    for (i, (e, s)) in exact.iter().zip(&scale).enumerate() {
        let n = case.dims.n;
        let error = (f64::from(c[i / n * (n + GAP) + i % n]) - e).abs() / s;
        squares += error * error;
        worst = worst.max(error);
    }
    ((squares / exact.len() as f64).sqrt(), worst)
}

#[test]
fn f32_on_tiles_is_no_less_accurate_than_plain_f32() {
    if Features::get().used != Isa::Amx {
        return eprintln!("SKIPPED: no AMX");
    }
    for (m, n, k) in [(96, 96, 64), (96, 96, 384), (96, 96, 1536), (64, 64, 16384)] {
        for scaled in [false, true] {
            let case = case(m, n, k);
            let mut data = case.data();
            if scaled {
                // Rows, columns and every k of both operands by 2^-20 … 2^20.
                let exponents = random(2 * (m + n + k), 9);
                let power = |i: usize| 2_f32.powi((exponents[i] * 10.0).clamp(-20.0, 20.0) as i32);
                for (i, x) in data.a.iter_mut().enumerate() {
                    let (row, l) = (i / (k + GAP), i % (k + GAP));
                    *x *= power(row) * power((m + l) % exponents.len());
                }
                for (i, x) in data.b.iter_mut().enumerate() {
                    let (l, col) = (i / (n + GAP), i % (n + GAP));
                    *x *= power(m + k + l) * power((m + 2 * k + col) % exponents.len());
                }
            }
            let tiles = errors(&case, &data);
            let plain = errors(&Case { isa: Isa::Avx512, ..case }, &data);
            eprintln!(
                "({m}, {n}, {k}) scaled {scaled}: tiles rms {:.2e} max {:.2e}, plain f32 rms {:.2e} max {:.2e}",
                tiles.0, tiles.1, plain.0, plain.1
            );
            assert!(tiles.0 <= plain.0 && tiles.1 <= plain.1 * 1.1);
        }
    }
}

#[test]
fn nan_and_infinity_reach_their_rows_and_columns_only() {
    for isa in isas() {
        for precision in [Precision::F32, Precision::Bf16] {
            for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7F80_0001)]
            {
                for form in [false, true] {
                    let case = Case { a_t: form, b_t: form, isa, precision, ..case(50, 40, 70) };
                    let mut data = case.data();
                    let at = |i: usize, j: usize, rows: usize, cols: usize| {
                        if form { j * (rows + GAP) + i } else { i * (cols + GAP) + j }
                    };
                    data.a[at(41, 69, 50, 70)] = special;
                    data.b[at(3, 38, 70, 40)] = special;
                    let c = case.compute(&data);
                    for (i, row) in c.chunks_exact(43).enumerate() {
                        for (j, value) in row[..40].iter().enumerate() {
                            let touched = i == 41 || j == 38;
                            assert_eq!(
                                !value.is_finite(),
                                touched,
                                "{special} ({i}, {j}) {case:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn huge_and_subnormal_values() {
    for isa in isas() {
        let case = Case { isa, ..case(20, 20, 3) };
        let mut data = case.data();
        data.a.fill(0.0);
        data.b.fill(0.0);
        // One large product per element; and tiny ones that may be lost, but not made up.
        let (a_stride, b_stride) = (3 + GAP, 20 + GAP);
        for i in 0..20 {
            data.a[i * a_stride] = f32::MAX;
            data.b[i] = 0.125 * (i as f32 + 1.0) / 20.0;
            data.a[i * a_stride + 1] = 1e-40;
            data.b[b_stride + i] = 1e20;
        }
        let error = case.error(&data, &case.compute(&data));
        assert!(error <= TOLERANCE, "{error:e} {case:?}");
        data.a.iter_mut().for_each(|x| *x = if *x == f32::MAX { 0.0 } else { *x });
        for value in case.compute(&data).chunks_exact(23).flat_map(|row| &row[..20]) {
            assert!((0.0..=1.01e-20).contains(value), "{value:e} {case:?}");
        }
    }
}

#[test]
fn an_element_does_not_depend_on_its_neighbours_or_threads() {
    for precision in [Precision::F32, Precision::Bf16] {
        let whole = Case { precision, ..case(131, 163, 700) };
        let data = whole.data();
        let c = whole.compute(&data);
        if whole.isa == Isa::Amx {
            for threads in [0, 1, 3] {
                let other = Case { threads, ..whole }.compute(&data);
                assert!(c.iter().zip(&other).all(|(x, y)| x.to_bits() == y.to_bits()));
            }
            part_is_equal(&whole, &data, &c, 17..31, 5..90);
            part_is_equal(&whole, &data, &c, 130 - 9..130, 0..7);
        }
        let few = Case { dims: GemmDims { m: 8, ..whole.dims }, ..whole };
        let c = few.compute(&data);
        part_is_equal(&few, &data, &c, 3..4, 0..163);
        part_is_equal(&few, &data, &c, 1..8, 11..60);
    }
}

fn part_is_equal(case: &Case, data: &Data, c: &[f32], rows: Range<usize>, cols: Range<usize>) {
    let (a, b) = case.mats(data);
    let a = Mat { data: &a.data[rows.start * a.row_stride..], ..a };
    let b = Mat { data: &b.data[cols.start * b.col_stride..], ..b };
    let dims = GemmDims { m: rows.len(), n: cols.len(), k: case.dims.k };
    let mut part = vec![0.0; dims.m * dims.n];
    gemm(&Pool::new(2), case.precision, dims, a, b, &mut part, dims.n, false, None);
    let mut alone = vec![0.0; dims.m * dims.n];
    gemm_block(case.precision, dims, a, b, &mut alone, dims.n, false);
    for (i, row) in rows.enumerate() {
        for (j, col) in cols.clone().enumerate() {
            let bits = c[row * (case.dims.n + GAP) + col].to_bits();
            assert_eq!(part[i * dims.n + j].to_bits(), bits, "({row}, {col})");
            assert_eq!(alone[i * dims.n + j].to_bits(), bits, "({row}, {col}) alone");
        }
    }
}

#[test]
fn a_finish_may_compute_products_and_panic() {
    let pool = Pool::new(2);
    let (x, y) = (random(64 * 64, 1), random(64 * 64, 2));
    let dims = GemmDims { m: 64, n: 64, k: 64 };
    let (a, b) = (Mat::rows(&x, 64), Mat::rows(&y, 64));
    let product = |finish: Finish<'_>| {
        let mut c = vec![0.0; 64 * 64];
        gemm(&pool, Precision::F32, dims, a, b, &mut c, 64, false, finish);
        c
    };
    let plain = product(None);
    let nested = product(Some(&|_| {
        let mut c = vec![0.0; 64 * 64];
        gemm(&pool, Precision::F32, dims, a, b, &mut c, 64, false, None);
        assert_eq!(c, plain);
    }));
    assert_eq!(nested, plain);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        product(Some(&|_| std::panic::panic_any("mine")))
    }));
    assert_eq!(caught.expect_err("panicked").downcast_ref(), Some(&"mine"));
    assert_eq!(product(None), plain);
}
