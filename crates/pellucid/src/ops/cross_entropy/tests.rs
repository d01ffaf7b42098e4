use super::*;
use crate::autograd::RunInfo;
use crate::backend::cpu::pool::Pool;
use crate::ops::harness::{Values, produce};
use crate::tensor::random::Random;

#[test]
fn cases_hold() {
    for case in cases() {
        case.check().unwrap();
    }
}

#[test]
fn targets_out_of_range_are_refused() {
    let op = LinearCrossEntropy::new(3, 2, 5);
    let error = op.check(&[0, -100, 5]).unwrap_err().to_string();
    assert!(error.starts_with("cross-entropy: target 5 at row 2; targets are 0..5, or -100"));
    assert!(op.check(&[-1, 0, 0]).is_err());
    assert_eq!(op.check(&[4, -100, 0]).unwrap(), 2);
}

#[test]
fn with_every_row_ignored_loss_and_gradients_are_zero() {
    let op = LinearCrossEntropy { bias: true, ..LinearCrossEntropy::new(3, 2, 5) };
    let values = Values {
        inputs: vec![vec![1.0; 6]],
        params: vec![vec![0.5; 10], vec![0.1; 5]],
        ints: vec![vec![-100; 3]],
    };
    let run = RunInfo { grad_scale: 1.0, ..Default::default() };
    let p = produce(&op, &values, &[vec![1.0], vec![0.0; 3]], run, &Pool::new(1), None);
    let all = [p.outputs, p.d_inputs, p.d_params].concat().concat();
    assert!(all.iter().all(|&x| x == 0.0), "{all:?}");
}

#[test]
fn logits_far_from_zero_and_nan_logits_are_told_apart() {
    let op = LinearCrossEntropy::new(1, 1, 3);
    let run = RunInfo { grad_scale: 1.0, ..Default::default() };
    let loss = |w: [f64; 3], x: f64| {
        let values =
            Values { inputs: vec![vec![x]], params: vec![w.to_vec()], ints: vec![vec![1]] };
        produce(&op, &values, &[vec![1.0], vec![0.0]], run, &Pool::new(1), None).outputs[0][0]
    };
    assert!((loss([1.0, 1.0, -1.0], 1e4) - 2f32.ln()).abs() < 1e-5);
    assert!((loss([1.0, 0.0, -1.0], 1e4) - 1e4).abs() < 1e-2);
    assert!(loss([f64::NAN, 0.0, 1.0], 1.0).is_nan());
}

#[test]
fn minus_infinity_in_one_chunk_hides_nothing_in_another() {
    let run = RunInfo { grad_scale: 1.0, ..Default::default() };
    let loss = |w: [f64; 6]| {
        let op = LinearCrossEntropy { columns: 2, ..LinearCrossEntropy::new(1, 1, 6) };
        let values =
            Values { inputs: vec![vec![1.0]], params: vec![w.to_vec()], ints: vec![vec![4]] };
        produce(&op, &values, &[vec![1.0], vec![0.0]], run, &Pool::new(1), None).outputs[0][0]
    };
    let low = f64::NEG_INFINITY;
    assert!((loss([low, low, low, low, 1.0, 1.0]) - 2f32.ln()).abs() < 1e-6);
    assert!((loss([1.0, 1.0, low, low, 1.0, low]) - 3f32.ln()).abs() < 1e-6);
    assert!(loss([f64::NAN, f64::NAN, 1.0, 1.0, 1.0, 1.0]).is_nan());
    assert!(loss([1.0, 1.0, 1.0, 1.0, 1.0, f64::NAN]).is_nan());
}

/// Products of a few columns, and of widths that fill no tile, in bf16: near f32's, none NaN.
#[test]
fn a_few_labels_work_in_bf16() {
    let mut random = Random::new(21, 0);
    let mut normal = |n: usize| (0..n).map(|_| f64::from(random.normal())).collect::<Vec<_>>();
    for v in 1..=8 {
        for (n, c) in [(1, 3), (5, 17), (37, 72)] {
            let values = Values {
                inputs: vec![normal(n * c)],
                params: vec![normal(v * c), normal(v)],
                ints: vec![(0..n).map(|i| (i * 5 % v) as i32).collect()],
            };
            let produced = |precision| {
                let op = LinearCrossEntropy {
                    bias: true,
                    precision,
                    ..LinearCrossEntropy::new(n, c, v)
                };
                let run = RunInfo { grad_scale: 1.0, ..Default::default() };
                let dy = [vec![1.0], vec![0.0; n]];
                let p = produce(&op, &values, &dy, run, &Pool::new(2), None);
                [p.outputs, p.d_inputs, p.d_params].concat()
            };
            let (got, want) = (produced(Precision::Bf16), produced(Precision::F32));
            for (got, want) in got.iter().zip(&want) {
                let largest = want.iter().fold(0.1f32, |m, w| m.max(w.abs()));
                let close = |(g, w): (&f32, &f32)| (g - w).abs() <= 0.1 * largest;
                assert!(
                    got.iter().zip(want).all(close),
                    "V = {v}, {n}x{c}: {got:?}, in f32 {want:?}"
                );
            }
        }
    }
}

#[test]
fn logits_of_a_chunk_stay_in_cache_unless_all_of_them_are_few() {
    assert_eq!(chunk(4096, 50257), (1024, 2048));
    assert_eq!(chunk(100, 50257), (128, 50257));
    assert_eq!(chunk(4096, 256), (1024, 256));
    assert_eq!(chunk(5, 256), (32, 256));
    assert_eq!(chunk(1, 10_000_000), (32, 65536));
}

/// `cross_entropy(x @ w.T + b, y, label_smoothing=0.1, ignore_index=-100)` of torch 2.15 in f64, compared once: for
/// each V the loss, the sums of |dx| and |dw|, and the bias's first gradient. Operands as below.
#[test]
fn with_smoothing_bias_and_ignored_rows_it_is_torchs() {
    let known = [
        (1, 0.0, 0.0, 0.0, 0.0),
        (2, 1.606_078_72, 2.596_056_65, 1.948_946_28, 0.402_431_2),
        (3, 2.867_396_56, 4.320_235_84, 3.458_556_77, 0.404_325_4),
        (8, 2.864_369_63, 3.662_015_27, 4.008_746_97, 0.380_538_1),
        (13, 3.213_818_15, 3.097_918_52, 3.667_600_43, 0.128_492_9),
    ];
    let (n, c) = (9, 5);
    let list = |n: usize, f: fn(f64) -> f64| (0..n).map(|i| f(i as f64)).collect::<Vec<_>>();
    for (v, loss, dx, dw, db) in known {
        let values = Values {
            inputs: vec![list(n * c, |i| (1.3 * i).sin())],
            params: vec![
                list(v * c, |i| (0.7 * i).cos()),
                list(v, |i| 0.5 * (2.0 * i + 1.0).sin()),
            ],
            ints: vec![
                (0..n).map(|i| if i % 4 == 2 { -100 } else { ((i * i + 3) % v) as i32 }).collect(),
            ],
        };
        // All at once, and in chunks of rows and of columns.
        for (rows, columns) in [(32, v), (4, v), (2, 3), (32, 1)] {
            let op = LinearCrossEntropy {
                bias: true,
                smoothing: 0.1,
                rows,
                columns,
                ..LinearCrossEntropy::new(n, c, v)
            };
            let run = RunInfo { grad_scale: 1.0, ..Default::default() };
            let dy = [vec![1.0], vec![0.0; n]];
            let p = produce(&op, &values, &dy, run, &Pool::new(2), None);
            let total = |g: &[f32]| g.iter().map(|g| f64::from(g.abs())).sum::<f64>();
            let got = [
                f64::from(p.outputs[0][0]),
                total(&p.d_inputs[0]),
                total(&p.d_params[0]),
                f64::from(p.d_params[1][0]),
            ];
            for (got, want) in got.into_iter().zip([loss, dx, dw, db]) {
                let close = (got - want).abs() <= 3e-6;
                assert!(close, "V = {v}, chunks {rows}x{columns}: {got}, torch says {want}");
            }
        }
    }
}
