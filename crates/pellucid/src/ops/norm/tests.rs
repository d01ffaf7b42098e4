use super::*;
use crate::autograd::{Operands, RunInfo};
use crate::backend::cpu::pool::Pool;
use crate::ops::harness::produce;

#[test]
fn cases_hold() {
    for case in cases::cases() {
        case.check().unwrap();
    }
}

#[test]
fn impossible_sizes_and_eps_are_refused() {
    let dims = NormDims { n: 2, c: 0 };
    let error = LayerNorm::new(dims, f32::NAN, true).unwrap_err();
    assert_eq!(error.kind(), Kind::Shape);
    assert!(error.to_string().contains("N=2, C=0, eps=NaN"), "{error}");
    assert!(error.to_string().contains("eps must be positive"), "{error}");
    let error = RmsNorm::new(NormDims { n: 2, c: 3 }, 0.0).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(RmsNorm::new(NormDims { n: usize::MAX, c: 2 }, 1e-5).is_err());
}

/// Parameter gradients are summed in fixed blocks: 1, 2, 3 and 7 threads give the same bits.
#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let dims = NormDims { n: 301, c: 37 };
    let ops: [Box<dyn Op>; 2] = [
        Box::new(LayerNorm::new(dims, 1e-5, true).unwrap()),
        Box::new(RmsNorm::new(dims, 1e-5).unwrap()),
    ];
    for op in ops {
        let mut random = crate::tensor::random::Random::new(3, 0);
        let mut draw = |n: usize| (0..n).map(|_| f64::from(random.normal())).collect::<Vec<_>>();
        let values = crate::ops::harness::Values {
            inputs: vec![draw(301 * 37)],
            ints: vec![],
            params: op.params().into_iter().map(&mut draw).collect(),
        };
        let dy = vec![draw(301 * 37)];
        let run = RunInfo::default();
        let bits = |threads| {
            let p = produce(op.as_ref(), &values, &dy, run, &Pool::new(threads), None);
            let all = p.outputs.into_iter().chain(p.d_inputs).chain(p.d_params);
            all.flatten().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = bits(1);
        assert!([2, 3, 7].into_iter().all(|threads| bits(threads) == one));
    }
}

#[test]
fn recompute_gives_the_forward_passes_bits_from_saved_values() {
    let dims = NormDims { n: 7, c: 45 };
    let x: Vec<f32> = (0..7 * 45).map(|i| ((i * 31 % 97) as f32 - 40.0) / 11.0).collect();
    let (weight, bias) = (vec![0.7; 45], vec![-0.2; 45]);
    let pool = Pool::new(2);
    let ops: [Box<dyn Op>; 2] = [
        Box::new(LayerNorm::new(dims, 1e-5, true).unwrap()),
        Box::new(RmsNorm::new(dims, 1e-5).unwrap()),
    ];
    for op in ops {
        let mut saved: Vec<Vec<f32>> = op.saved().into_iter().map(|n| vec![0.0; n]).collect();
        let params: Operands<&[f32]> =
            [&weight[..], &bias[..]].into_iter().take(op.params().len()).collect();
        let (mut y, mut again) = (vec![0.0; x.len()], vec![f32::NAN; x.len()]);
        for (out, recompute) in [(&mut y, false), (&mut again, true)] {
            let operands = Forward {
                pool: &pool,
                run: RunInfo::default(),
                inputs: [&x[..]].into_iter().collect(),
                ints: Operands::new(),
                params: params.clone(),
                outputs: [&mut out[..]].into_iter().collect(),
                saved: saved.iter_mut().map(Vec::as_mut_slice).collect(),
                scratch: &mut [],
            };
            if recompute { op.recompute(operands) } else { op.forward(operands) }.unwrap();
        }
        assert_eq!(y, again);
    }
}

/// What a norm is for: scaling the input changes nothing; LayerNorm also ignores a shift.
#[test]
fn scale_and_shift_of_the_input_do_not_matter() {
    let dims = NormDims { n: 1, c: 64 };
    let run = |op: &dyn Op, f: &dyn Fn(f64) -> f64| {
        let x = (0..64).map(|i| f(f64::from(i * 29 % 64) - 31.0)).collect();
        let params = op.params().into_iter().map(|c| vec![1.0; c]).collect();
        let values = crate::ops::harness::Values { inputs: vec![x], ints: vec![], params };
        let dy = vec![vec![1.0; 64]];
        produce(op, &values, &dy, RunInfo::default(), &Pool::new(1), None).outputs.remove(0)
    };
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5);
    let layer = LayerNorm::new(dims, 1e-6, false).unwrap();
    let rms = RmsNorm::new(dims, 1e-6).unwrap();
    assert!(close(&run(&layer, &|x| x), &run(&layer, &|x| 8.0 * x + 100.0)));
    assert!(close(&run(&rms, &|x| x), &run(&rms, &|x| 8.0 * x)));
    assert!(!close(&run(&rms, &|x| x), &run(&rms, &|x| x + 100.0)));
}
