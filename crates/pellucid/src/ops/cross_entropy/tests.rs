use super::*;
use crate::autograd::RunInfo;
use crate::backend::cpu::pool::Pool;
use crate::ops::harness::{Values, produce};

#[test]
fn agrees_with_the_reference_and_catches_wrong_kernels() {
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

#[test]
fn logits_of_a_chunk_stay_in_cache_unless_all_of_them_are_few() {
    assert_eq!(chunk(4096, 50257), (1024, 2048));
    assert_eq!(chunk(100, 50257), (128, 50257));
    assert_eq!(chunk(4096, 256), (1024, 256));
    assert_eq!(chunk(5, 256), (32, 256));
    assert_eq!(chunk(1, 10_000_000), (32, 65536));
}
