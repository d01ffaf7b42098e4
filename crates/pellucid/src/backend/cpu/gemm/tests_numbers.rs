#![allow(clippy::print_stderr)]
//! Accuracy, special values and independence of neighbours.

use super::tests::*;
use super::*;

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
        // Past the test harness, which hides what passing tests print.
        let _ =
            std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED: no AMX\n"));
        return;
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
