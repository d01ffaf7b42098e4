use super::*;
use crate::ops::harness::{Values, close, normal, ran, wide};
use crate::ops::linear::Linear;

#[test]
fn cases_hold() {
    cases::cases().iter().for_each(|case| case.check().unwrap());
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
    let read = Values::of(&[z.to_vec()], &params[..1]);
    let between = wide(&ran(&results, &read, &nothing, threads).outputs[0]);
    let mut last = ran(&sum, &Values::of(&[between], &params[1..]), dy, threads);
    let mut first = ran(&results, &read, &wide(&last.d_inputs[0]), threads);
    first.d_params.extend(last.d_params);
    (last.outputs.remove(0), first.d_inputs.remove(0), first.d_params)
}

#[test]
fn two_steps_are_the_projection() {
    let sizes = Sizes { n: 70, h: 5, d: 16, c: 48 };
    for bias in [false, true] {
        let linear = Linear { bias, ..Linear::new(70, 5 * 16, 48) };
        let (z, dy) = (normal(1, 70 * 5 * 16), normal(2, 70 * 48));
        let params: Vec<_> = linear.params().iter().map(|&n| normal(n as u64, n)).collect();
        let want = ran(&linear, &Values::of(std::slice::from_ref(&z), &params), &dy, 2);
        let (y, dz, d_params) = steps(sizes, &z, &params, &dy, 2);
        close("y", &y, &want.outputs[0], 3e-6);
        close("dz", &dz, &want.d_inputs[0], 3e-6);
        assert_eq!(d_params.len(), want.d_params.len());
        for (got, want) in d_params.iter().zip(&want.d_params) {
            close("d_params", got, want, 3e-6);
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
