use super::*;
use crate::autograd::RunInfo;
use crate::backend::cpu::pool::Pool;
use crate::ops::harness::{Produced, Values, produce};
use crate::ops::linear::Linear;
use crate::tensor::random::Random;

#[test]
fn cases_hold() {
    cases::cases().iter().for_each(|case| case.check().unwrap());
}

fn normal(key: u64, n: usize) -> Vec<f64> {
    let mut random = Random::new(key, 0);
    (0..n).map(|_| f64::from(random.normal())).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

fn ran(op: &dyn Op, x: &[f64], params: &[Vec<f64>], d: &[f64], threads: usize) -> Produced {
    let values = Values { inputs: vec![x.to_vec()], ints: vec![], params: params.to_vec() };
    produce(op, &values, &[d.to_vec()], RunInfo::default(), &Pool::new(threads), None)
}

/// `(y, dz, gradients of W_O and, if any, the bias)` of the two steps.
fn steps(
    sizes: Sizes,
    z: &[f64],
    params: &[Vec<f64>],
    dy: &[f64],
    threads: usize,
) -> (Vec<f32>, Vec<f32>, Vec<Vec<f32>>) {
    let Sizes { n, h, d, c } = sizes;
    let results = HeadResults::new(n, h, d, c).unwrap();
    let sum = SumHeads::new(n, h, c, params.len() == 2).unwrap();
    let nothing = vec![0.0; n * h * c];
    let between = wide(&ran(&results, z, &params[..1], &nothing, threads).outputs[0]);
    let mut last = ran(&sum, &between, &params[1..], dy, threads);
    let mut first = ran(&results, z, &params[..1], &wide(&last.d_inputs[0]), threads);
    first.d_params.extend(last.d_params);
    (last.outputs.remove(0), first.d_inputs.remove(0), first.d_params)
}

fn close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= 3e-6 * largest, "{what}: {g} instead of {w}");
    }
}

#[test]
fn two_steps_are_the_projection() {
    let sizes = Sizes { n: 70, h: 5, d: 16, c: 48 };
    for bias in [false, true] {
        let linear = Linear { bias, ..Linear::new(70, 5 * 16, 48) };
        let (z, dy) = (normal(1, 70 * 5 * 16), normal(2, 70 * 48));
        let params: Vec<_> = linear.params().iter().map(|&n| normal(n as u64, n)).collect();
        let want = ran(&linear, &z, &params, &dy, 2);
        let (y, dz, d_params) = steps(sizes, &z, &params, &dy, 2);
        close("y", &y, &want.outputs[0]);
        close("dz", &dz, &want.d_inputs[0]);
        assert_eq!(d_params.len(), want.d_params.len());
        for (got, want) in d_params.iter().zip(&want.d_params) {
            close("d_params", got, want);
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let sizes = Sizes { n: 150, h: 3, d: 24, c: 40 };
    let (z, dy) = (normal(1, 150 * 72), normal(2, 150 * 40));
    let params = [normal(3, 72 * 40), normal(4, 40)];
    let one = steps(sizes, &z, &params, &dy, 1);
    for threads in [2, 3, 7] {
        assert!(steps(sizes, &z, &params, &dy, threads) == one, "{threads}");
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for (n, h, d, c) in
        [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0), (usize::MAX, 2, 1, 1)]
    {
        let error = HeadResults::new(n, h, d, c).unwrap_err();
        assert_eq!(error.kind(), Kind::Shape);
        assert!(error.to_string().contains(&format!("H={h}, D={d}")), "{error}");
        assert!(d == 0 || SumHeads::new(n, h, c, true).is_err());
    }
}
