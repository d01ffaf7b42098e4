use super::*;
use crate::tensor::random::Random;
use quantise::float;

const FORMATS: [Format; 3] = [Format::Bf16, Format::Int8, Format::Int4];

fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(seed, 3);
    (0..n).map(|_| random.normal()).collect()
}

fn stored(format: Format, n: usize, k: usize, seed: u64) -> StoredMatrix {
    StoredMatrix::quantise(&Pool::new(2), format, (n, k), &normal(seed, n * k)).expect("finite")
}

/// The instruction sets of this machine.
fn sets() -> Vec<Isa> {
    let used = Features::get().used;
    let all = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx];
    all.into_iter().filter(|&isa| isa <= used && isa != Isa::Neon || isa == used).collect()
}

fn run(matrix: &StoredMatrix, isa: Isa, threads: usize, m: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; m * matrix.shape().0];
    matrix.product_on(isa, &Pool::new(threads), m, x, &mut y, None);
    y
}

/// What may be lost, as a part of `Σ |x·w|`, and the fixed point of x as a part of the group's largest |x|.
fn agrees(
    matrix: &StoredMatrix,
    isa: Isa,
    (m, x): (usize, &[f32]),
    w: &[f32],
    y: &[f32],
) -> Result<(), String> {
    let (n, k) = matrix.shape();
    let expected = reference::product((m, n, k), x, w);
    let bf16 = isa == Isa::Amx && m > FEW_ROWS;
    let fixed = matrix.format() != Format::Bf16 && m <= FEW_ROWS;
    let group = matrix.format().group();
    for i in 0..m {
        for j in 0..n {
            let (mut size, mut steps) = (0.0, 0.0);
            for (x, w) in x[i * k..][..k].chunks(group).zip(w[j * k..][..k].chunks(group)) {
                let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                let weights: f32 = w.iter().map(|w| w.abs()).sum();
                size += x.iter().zip(w).map(|(x, w)| (x * w).abs()).sum::<f32>();
                steps += largest / 65534.0 * weights;
            }
            let part = if bf16 { 1.0 / 128.0 } else { 2e-6 };
            let most = part * size + if fixed { 1.01 * steps } else { 0.0 } + 1e-30;
            let far = (f64::from(y[i * n + j]) - expected[i * n + j]).abs();
            if !(far <= f64::from(most)) {
                return Err(format!("({i}, {j}): {far} > {most}"));
            }
        }
    }
    Ok(())
}

const SHAPES: [(usize, usize); 9] =
    [(1, 1), (5, 7), (31, 33), (32, 128), (33, 127), (64, 129), (37, 260), (97, 64), (130, 801)];

#[test]
fn every_kernel_agrees_with_the_reference_at_odd_sizes() {
    for format in FORMATS {
        for (case, (n, k)) in SHAPES.into_iter().enumerate() {
            let matrix = stored(format, n, k, case as u64);
            let w = reference::weights(&matrix);
            for m in [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 40] {
                let x = normal(100 + case as u64, m * k);
                for isa in sets() {
                    let y = run(&matrix, isa, 2, m, &x);
                    let judged = agrees(&matrix, isa, (m, &x), &w, &y);
                    judged.unwrap_or_else(|e| panic!("{format:?} {isa:?} m={m} n={n} k={k} {e}"));
                }
            }
        }
    }
}

/// Deliberately wrong readings of the same bytes; each must fail where the right one passes.
#[test]
fn wrong_kernels_are_caught() {
    let (n, k, m) = (37, 260, 3);
    let x = normal(7, m * k);
    for format in [Format::Int8, Format::Int4] {
        let matrix = stored(format, n, k, 5);
        let right = reference::weights(&matrix);
        let mut rows = vec![Row::default(); n];
        (0..n).for_each(|i| matrix.row(i, &mut rows[i]));
        let (offset, group) = (f32::from(format.offset()), format.group());
        let read = |f: &dyn Fn(&[Row], usize, usize) -> f32| -> Vec<f32> {
            (0..n * k).map(|i| f(&rows, i / k, i % k)).collect()
        };
        let code = |row: &Row, l: usize| f32::from(row.codes[l]) - offset;
        let scale = |row: &Row, g: usize| float(row.scales[g.min(row.scales.len() - 1)]);
        assert_eq!(read(&|r, j, l| code(&r[j], l) * scale(&r[j], l / group)), right);
        type Wrong<'a> = (&'a str, Box<dyn Fn(&[Row], usize, usize) -> f32 + 'a>);
        let wrong: Vec<Wrong<'_>> =
            vec![
                (
                    "offset forgotten",
                    Box::new(|r, j, l| f32::from(r[j].codes[l]) * scale(&r[j], l / group)),
                ),
                (
                    "scale of the next group",
                    Box::new(|r, j, l| code(&r[j], l) * scale(&r[j], l / group + 1)),
                ),
                (
                    "scale of the next row",
                    Box::new(|r, j, l| code(&r[j], l) * scale(&r[(j + 1) % n], l / group)),
                ),
                (
                    "neighbours in k exchanged",
                    Box::new(|r, j, l| code(&r[j], l ^ 1) * scale(&r[j], l / group)),
                ),
                (
                    "halves of a step exchanged",
                    Box::new(|r, j, l| {
                        let l = if l < 256 { l ^ 16 } else { l };
                        code(&r[j], l) * scale(&r[j], l / group)
                    }),
                ),
                (
                    "last value of k left out",
                    Box::new(|r, j, l| {
                        if l + 1 == k { 0.0 } else { code(&r[j], l) * scale(&r[j], l / group) }
                    }),
                ),
                ("NaN", Box::new(|_, _, _| f32::NAN)),
            ];
        for isa in sets() {
            assert!(agrees(&matrix, isa, (m, &x), &right, &run(&matrix, isa, 2, m, &x)).is_ok());
            for (name, f) in &wrong {
                let y = reference::product((m, n, k), &x, &read(f));
                let y: Vec<f32> = y.into_iter().map(|y| y as f32).collect();
                let judged = agrees(&matrix, isa, (m, &x), &right, &y);
                assert!(judged.is_err(), "{format:?}: {name} was not caught");
            }
        }
    }
}

#[test]
fn integers_have_the_same_bits_on_every_machine_and_with_any_company() {
    for format in FORMATS {
        let (n, k) = (101, 300);
        let matrix = stored(format, n, k, 9);
        let x = normal(10, 8 * k);
        for isa in sets() {
            let all = run(&matrix, isa, 1, 8, &x);
            if format != Format::Bf16 {
                assert_eq!(all, run(&matrix, Isa::Portable, 1, 8, &x), "{format:?} {isa:?}");
            }
            for threads in [2, 3] {
                assert_eq!(all, run(&matrix, isa, threads, 8, &x));
            }
            for m in 1..8 {
                assert_eq!(all[..m * n], run(&matrix, isa, 2, m, &x[..m * k])[..], "{isa:?} {m}");
            }
        }
    }
}

#[test]
fn nan_and_infinity_are_seen_in_their_row_only() {
    for format in FORMATS {
        let matrix = stored(format, 40, 70, 1);
        for bad in [f32::NAN, f32::INFINITY] {
            for m in [3, 40] {
                let mut x = normal(2, m * 70);
                x[70 + 5] = bad;
                for isa in sets() {
                    let y = run(&matrix, isa, 2, m, &x);
                    for (row, y) in y.chunks(40).enumerate() {
                        let finite = y.iter().all(|y| y.is_finite());
                        let none = y.iter().all(|y| !y.is_finite());
                        assert!(
                            if row == 1 { none } else { finite },
                            "{format:?} {isa:?} {m} {row}"
                        );
                    }
                }
            }
        }
        for bad in [f32::NAN, f32::INFINITY, -3.4e38] {
            let mut w = normal(3, 40 * 70);
            w[39 * 70 + 2] = bad;
            let error = StoredMatrix::quantise(&Pool::new(2), format, (40, 70), &w).unwrap_err();
            assert!(error.to_string().contains("element (39, 2)"), "{error}");
        }
    }
}

#[test]
fn extreme_sizes_are_stored_and_multiplied() {
    let pool = Pool::new(1);
    for format in FORMATS {
        for size in [0.0f32, 1e-38, 1e-20, 1.0, 1e30] {
            let w: Vec<f32> = normal(4, 33 * 65).iter().map(|w| w * size).collect();
            let matrix = StoredMatrix::quantise(&pool, format, (33, 65), &w).unwrap();
            let back = reference::weights(&matrix);
            let most = match format {
                // Parts of the largest of a group, about 4.
                Format::Bf16 => 5.0 / 256.0,
                Format::Int8 => 5.0 / 240.0,
                Format::Int4 => 0.5,
            };
            for (a, b) in w.iter().zip(&back) {
                assert!((a - b).abs() <= most * size.max(1e-35), "{format:?} {size} {a} {b}");
            }
            for scale in [0.0f32, 1e-36, 1e6] {
                let x: Vec<f32> = normal(5, 65).iter().map(|x| x * scale).collect();
                for isa in sets() {
                    let y = run(&matrix, isa, 1, 1, &x);
                    if scale > 1e-30 {
                        agrees(&matrix, isa, (1, &x), &back, &y).unwrap();
                    }
                    assert!(y.iter().all(|y| y.is_finite()));
                }
            }
        }
    }
}

#[test]
fn rows_come_back_as_they_were_given() {
    for format in FORMATS {
        let matrix = stored(format, 70, 161, 6);
        let mut row = Row::default();
        let mut store = Store::new(format, &[(70, 161), (3, 5)]);
        store.add_values(&Pool::new(1), format, (3, 5), &normal(2, 15)).unwrap();
        let copy = |i: usize, row: &mut Row| {
            matrix.row(i, row);
            Ok(())
        };
        store.add(&Pool::new(2), format, (70, 161), &copy).unwrap();
        assert!(store.add_values(&Pool::new(1), format, (3, 5), &normal(2, 15)).is_err());
        let again = store.finish().pop().unwrap();
        let bits = |m: &StoredMatrix| {
            m.memory[m.at / 4..][..m.bytes() / 4].iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert!(bits(&again) == bits(&matrix), "{format:?}");
        matrix.row(69, &mut row);
        assert_eq!((row.codes.len(), row.scales.len()), (161, format.scales(161)));
        let mut store = Store::new(format, &[(70, 161)]);
        let short = store.add(&Pool::new(1), format, (70, 161), &|i, row| {
            matrix.row(i, row);
            if i == 40 {
                row.codes.pop();
            }
            Ok(())
        });
        assert!(short.unwrap_err().to_string().contains("row 40 has 160 codes"));
    }
}

#[test]
fn the_finish_sees_every_element_once() {
    for (m, isa) in [1, 8, 40].into_iter().flat_map(|m| sets().into_iter().map(move |i| (m, i))) {
        let matrix = stored(Format::Int8, 333, 64, 8);
        let x = normal(11, m * 64);
        let bare = run(&matrix, isa, 2, m, &x);
        let mut y = vec![f32::NAN; m * 333];
        let add = |mut tile: super::super::gemm::Tile<'_>| {
            for i in 0..tile.rows.len() {
                tile.row_mut(i).iter_mut().for_each(|y| *y += 1.0);
            }
        };
        matrix.product_on(isa, &Pool::new(2), m, &x, &mut y, Some(&add));
        assert!(y.iter().zip(&bare).all(|(y, b)| *y == b + 1.0), "{isa:?} {m}");
    }
}
