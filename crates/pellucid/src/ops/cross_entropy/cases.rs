//! Shapes and deliberately wrong kernels.

use super::LinearCrossEntropy;
use super::reference::{self, Dims};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::wrong::Wrong;

/// What is wrong on any shape.
fn wrong_anywhere(op: &LinearCrossEntropy) -> Vec<(&'static str, Box<dyn Op>)> {
    vec![
        ("ignores accumulate", Wrong::new(op.clone()).ignores_accumulate().boxed()),
        (
            "grad_scale forgotten",
            Wrong::new(op.clone()).before_backward(|b| b.run.grad_scale = 1.0).boxed(),
        ),
        (
            "sign of dx",
            Wrong::new(op.clone())
                .before_backward(|b| b.d_inputs[0].as_mut().unwrap().accumulate = false)
                .after_backward(|b| {
                    b.d_inputs[0].as_mut().unwrap().data.iter_mut().for_each(|d| *d = -*d)
                })
                .boxed(),
        ),
        (
            "smoothing off",
            Box::new(LinearCrossEntropy { smoothing: op.smoothing + 0.1, ..op.clone() }),
        ),
        ("z-loss off", Box::new(LinearCrossEntropy { z_loss: op.z_loss + 0.01, ..op.clone() })),
        ("NaN loss", Wrong::new(op.clone()).after_forward(|f| f.outputs[0][0] = f32::NAN).boxed()),
        (
            "sum instead of mean",
            Wrong::new(op.clone())
                .before_backward(|b| b.run.grad_scale *= b.ints[0].len() as f32 + 1.0)
                .boxed(),
        ),
    ]
}

fn wrong(op: &LinearCrossEntropy, targets: &[i32]) -> Vec<(&'static str, Box<dyn Op>)> {
    let mut wrong = wrong_anywhere(op);
    if targets.contains(&op.ignore) {
        // Counts rows that should be left out: they are scored against target 0.
        let n = targets.len();
        let all: &'static [i32] = Box::leak(
            targets.iter().map(|&t| if t == op.ignore { 0 } else { t }).collect::<Vec<_>>().into(),
        );
        debug_assert_eq!(all.len(), n);
        wrong.push((
            "ignored rows counted",
            Wrong::new(op.clone())
                .before_forward(|f| f.ints[0] = all)
                .before_backward(|b| b.ints[0] = all)
                .boxed(),
        ));
    }
    if op.chunk < op.n {
        wrong.push((
            "only the last chunk reaches dw",
            Wrong::new(op.clone())
                .after_backward(|b| {
                    let half = b.d_params[0].as_mut().unwrap();
                    half.data.iter_mut().for_each(|d| *d *= 0.5);
                })
                .boxed(),
        ));
    }
    if op.bias {
        wrong.push((
            "bias gradient dropped",
            Wrong::new(op.clone())
                .after_backward(|b| b.d_params[1].as_mut().unwrap().data.fill(0.0))
                .boxed(),
        ));
        wrong.push(("bias forgotten", {
            let without = LinearCrossEntropy { bias: false, ..op.clone() };
            Box::new(BiasForgotten(op.clone(), without))
        }));
    }
    wrong
}

/// Computes losses without the bias.
#[derive(Debug)]
struct BiasForgotten(LinearCrossEntropy, LinearCrossEntropy);

impl Op for BiasForgotten {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn inputs(&self) -> Vec<usize> {
        self.0.inputs()
    }
    fn ints(&self) -> Vec<usize> {
        self.0.ints()
    }
    fn params(&self) -> Vec<usize> {
        self.0.params()
    }
    fn outputs(&self) -> Vec<usize> {
        self.0.outputs()
    }
    fn scratch(&self, threads: usize) -> usize {
        self.0.scratch(threads)
    }
    fn needs(&self) -> crate::autograd::Needs {
        self.0.needs()
    }
    fn is_loss(&self) -> bool {
        true
    }
    fn forward(&self, mut f: crate::autograd::Forward<'_>) -> crate::error::Result<()> {
        f.params.truncate(1);
        self.1.forward(f)
    }
    fn backward(&self, mut b: crate::autograd::Backward<'_>) -> crate::error::Result<()> {
        b.params.truncate(1);
        self.1.backward(b)
    }
}

/// Every shape that the operation is judged on.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let shapes = [
        // n, c, v, smoothing, z_loss, bias, chunk, every which row is ignored (0: none), grad_scale
        (1, 1, 2, 0.0, 0.0, false, 32, 0, 0.5),
        (5, 7, 11, 0.0, 0.0, false, 32, 0, 0.25),
        (13, 8, 67, 0.1, 0.0, true, 4, 3, 2.0),
        (9, 5, 131, 0.0, 1e-2, true, 2, 4, 0.5),
        (33, 16, 257, 0.2, 1e-3, false, 32, 2, 16.0),
        (6, 3, 5, 0.1, 1e-2, true, 3, 0, 3.0),
    ];
    for (n, c, v, smoothing, z_loss, bias, chunk, every, grad_scale) in shapes {
        let ignore = -7;
        let target = |i: usize| {
            let ignored =
                every > 0 && (i % every == 0 || (chunk..2 * chunk).contains(&i) && every == 4);
            if ignored { ignore } else { ((i * i + 3) % v) as i32 }
        };
        let targets: Vec<i32> = (0..n).map(target).collect();
        let op = LinearCrossEntropy {
            bias,
            smoothing,
            z_loss,
            ignore,
            chunk,
            ..LinearCrossEntropy::new(n, c, v)
        };
        let (smoothing, z_loss) = (f64::from(smoothing), f64::from(z_loss));
        let dims = Dims { n, c, v, smoothing, z_loss, ignore };
        let bias = |params: &[Vec<f64>]| params.get(1).cloned().unwrap_or_default();
        cases.push(Case {
            name: format!("cross_entropy/{n}x{c}x{v}/chunk{chunk}"),
            wrong: wrong(&op, &targets),
            op: Box::new(op),
            ints: vec![targets],
            scale: 1.0,
            forward: Box::new(move |x| {
                let b = bias(&x.params);
                let (loss, losses) =
                    reference::forward(dims, &x.inputs[0], &x.params[0], &b, &x.ints[0]);
                vec![vec![loss], losses]
            }),
            backward: Box::new(move |x, d| {
                let b = bias(&x.params);
                let (dx, dw, db) =
                    reference::backward(dims, &x.inputs[0], &x.params[0], &b, &x.ints[0], d[0][0]);
                let mut params = vec![dw, db];
                params.truncate(x.params.len());
                Gradients { inputs: vec![dx], params }
            }),
            tolerance: 1e-5,
            run: RunInfo { grad_scale, ..RunInfo::default() },
        });
    }
    cases
}
