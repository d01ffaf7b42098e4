use super::*;
use crate::ops::harness::{Values, close, normal, ran, wide};
use crate::ops::norm::{LayerNorm, RmsNorm};

#[test]
fn cases_hold() {
    cases::cases().iter().for_each(|case| case.check().unwrap());
}

/// `(y, dx, gradients of the parameters)` of the three steps.
fn steps(
    dims: NormDims,
    (eps, centred): (f32, bool),
    x: &[f64],
    params: &[Vec<f64>],
    dy: &[f64],
    threads: usize,
) -> (Vec<f32>, Vec<f32>, Vec<Vec<f32>>) {
    let size = NormScale::new(dims, eps, centred).unwrap();
    let normalise = Normalise::new(dims, centred).unwrap();
    let affine = Affine::new(dims, params.len() == 2).unwrap();
    let nothing = vec![0.0; dims.n];
    let of_size = Values::of(&[x.to_vec()], &[]);
    let scale = wide(&ran(&size, &of_size, &nothing, threads).outputs[0]);
    let both = Values::of(&[x.to_vec(), scale], &[]);
    let between = wide(&ran(&normalise, &both, dy, threads).outputs[0]);
    let mut last = ran(&affine, &Values::of(&[between], params), dy, threads);
    let middle = ran(&normalise, &both, &wide(&last.d_inputs[0]), threads);
    let first = ran(&size, &of_size, &wide(&middle.d_inputs[1]), threads);
    let dx = middle.d_inputs[0].iter().zip(&first.d_inputs[0]).map(|(a, b)| a + b).collect();
    (last.outputs.remove(0), dx, last.d_params)
}

#[test]
fn three_steps_are_the_fused_norms() {
    for (n, c) in [(37, 67), (130, 32)] {
        let dims = NormDims { n, c };
        let fused: [(Box<dyn Op>, bool); 3] = [
            (Box::new(LayerNorm::new(dims, 1e-3, true).unwrap()), true),
            (Box::new(LayerNorm::new(dims, 1e-3, false).unwrap()), true),
            (Box::new(RmsNorm::new(dims, 1e-3).unwrap()), false),
        ];
        for (op, centred) in fused {
            // A mean that matters.
            let x: Vec<f64> = normal(1, n * c).iter().map(|x| x + 0.5).collect();
            let (x, dy) =
                (x.iter().map(|&x| f64::from(x as f32)).collect::<Vec<_>>(), normal(2, n * c));
            let params: Vec<_> = op.params().iter().map(|&c| normal(c as u64, c)).collect();
            let read = Values::of(std::slice::from_ref(&x), &params);
            let want = ran(op.as_ref(), &read, &dy, 2);
            let (y, dx, d_params) = steps(dims, (1e-3, centred), &x, &params, &dy, 2);
            close("y", &y, &want.outputs[0], 3e-6);
            close("dx", &dx, &want.d_inputs[0], 3e-6);
            assert_eq!(d_params.len(), want.d_params.len());
            for (got, want) in d_params.iter().zip(&want.d_params) {
                close("d_params", got, want, 3e-6);
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let dims = NormDims { n: 301, c: 37 };
    let (x, dy) = (normal(1, 301 * 37), normal(2, 301 * 37));
    let params = [normal(3, 37), normal(4, 37)];
    let one = steps(dims, (1e-5, true), &x, &params, &dy, 1);
    for threads in [2, 3, 7] {
        assert!(steps(dims, (1e-5, true), &x, &params, &dy, threads) == one, "{threads}");
    }
}

#[test]
fn impossible_sizes_and_eps_are_refused() {
    let (none, huge) = (NormDims { n: 0, c: 2 }, NormDims { n: usize::MAX, c: 2 });
    let error = Normalise::new(none, true).unwrap_err();
    assert!(error.kind() == Kind::Shape && error.to_string().contains("N=0, C=2"), "{error}");
    assert!(Normalise::new(huge, true).is_err());
    assert!(Affine::new(none, true).is_err() && Affine::new(huge, false).is_err());
    let error = NormScale::new(NormDims { n: 1, c: 2 }, 0.0, true).unwrap_err();
    assert!(error.to_string().contains("eps must be positive"), "{error}");
    assert!(NormScale::new(none, 1e-5, true).is_err());
}
