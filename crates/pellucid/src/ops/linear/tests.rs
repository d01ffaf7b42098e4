use super::*;
use crate::backend::cpu::pool::Pool;
use crate::ops::harness::{Values, produce};
use crate::tensor::random::Random;

#[test]
fn cases_hold() {
    for case in cases() {
        case.check().unwrap();
    }
}

fn op(residual: bool) -> Linear {
    let activation = Some(Activation::Gelu);
    Linear { bias: true, activation, residual, ..Linear::new(70, 33, 45) }
}

fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(seed, 0);
    (0..n).map(|_| random.normal()).collect()
}

#[test]
fn recomputed_outputs_have_the_same_bits_and_inference_needs_no_saved_memory() {
    for residual in [false, true] {
        let op = op(residual);
        let pool = Pool::new(2);
        let (x, r) = (normal(1, 70 * 33), normal(2, 70 * 45));
        let (w, b) = (normal(3, 45 * 33), normal(4, 45));
        let mut pre = vec![f32::NAN; 70 * 45];
        let run = |saved: Option<&mut [f32]>, recompute: bool| {
            let mut y = vec![f32::NAN; 70 * 45];
            let operands = Forward {
                pool: &pool,
                run: Default::default(),
                inputs: if residual {
                    [&x[..], &r].into_iter().collect()
                } else {
                    [&x[..]].into_iter().collect()
                },
                ints: Default::default(),
                params: [&w[..], &b].into_iter().collect(),
                outputs: [&mut y[..]].into_iter().collect(),
                saved: saved.into_iter().collect(),
                scratch: &mut [],
            };
            if recompute { op.recompute(operands) } else { op.forward(operands) }.unwrap();
            y
        };
        let y = run(Some(&mut pre), false);
        assert_eq!(y, run(Some(&mut pre), true));
        assert_eq!(y, run(None, false));
        assert_eq!(y, run(Some(&mut []), false));
        assert_eq!(op.recompute_inputs(), if residual { 2 } else { 0 });
    }
}

#[test]
fn bias_gradients_do_not_depend_on_the_thread_count() {
    let op = Linear { bias: true, ..Linear::new(777, 3, 130) };
    let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<_>>();
    let values = Values {
        inputs: vec![wide(normal(5, 777 * 3))],
        params: vec![wide(normal(6, 130 * 3)), wide(normal(7, 130))],
        ints: vec![],
    };
    let dy = vec![wide(normal(8, 777 * 130))];
    let run = |t| produce(&op, &values, &dy, Default::default(), &Pool::new(t), None).d_params;
    let one = run(1);
    for threads in [2, 3, 5] {
        assert_eq!(one[1], run(threads)[1]);
    }
}
