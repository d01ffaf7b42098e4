//! Shapes and deliberately wrong kernels.

use super::LinearCrossEntropy;
use super::reference::{self, Dims};
use crate::autograd::{Backward, Forward, Needs, Op, RunInfo};
use crate::error::Result;
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(op: &LinearCrossEntropy, targets: &[i32]) -> Vec<(&'static str, Box<dyn Op>)> {
    let right = || op.clone();
    let smoothing = op.smoothing + 0.1;
    let z_loss = op.z_loss + 0.01;
    let mut wrong: Vec<(&'static str, Box<dyn Op>)> = vec![
        ("ignores accumulate", Spoil::ignores_accumulate(right())),
        ("sign of dx", Spoil::sign_of_d_input(right(), 0)),
        ("z-loss off", Box::new(LinearCrossEntropy { z_loss, ..right() })),
        ("NaN loss", Spoil::nan_output(right())),
        ("weight gradient dropped", Spoil::drops_d_param(right(), 0)),
        ("grad_scale forgotten", Spoil::backward_begins(right(), |b| b.run.grad_scale = 1.0)),
    ];
    if op.v > 1 {
        // With one column all of a row's probability is there, smoothed or not.
        wrong.push(("smoothing off", Box::new(LinearCrossEntropy { smoothing, ..right() })));
    }
    if op.n > 1 {
        let sum = |b: &mut Backward<'_>| b.run.grad_scale *= b.ints[0].len() as f32;
        wrong.push(("sum instead of mean", Spoil::backward_begins(right(), sum)));
    }
    if targets.contains(&op.ignore) {
        // A larger count than there are rows that count.
        let share = targets.iter().filter(|&&t| t != op.ignore).count() as f32 / op.n as f32;
        let all = move |b: &mut Backward<'_>| b.run.grad_scale *= share;
        wrong.push(("ignored rows counted", Spoil::backward_begins(right(), all)));
        let scored = |f: &mut Forward<'_>| f.outputs[1].iter_mut().for_each(|l| *l = l.max(0.1));
        wrong.push(("ignored rows scored", Spoil::forward_done(right(), scored)));
    }
    if op.bias {
        wrong.push(("bias gradient dropped", Spoil::drops_d_param(right(), 1)));
        let without = LinearCrossEntropy { bias: false, ..right() };
        wrong.push(("bias forgotten", Box::new(BiasForgotten(right(), without))));
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
    fn needs(&self) -> Needs {
        self.0.needs()
    }
    fn is_loss(&self) -> bool {
        true
    }
    fn forward(&self, mut f: Forward<'_>) -> Result<()> {
        f.params.truncate(1);
        self.1.forward(f)
    }
    fn backward(&self, mut b: Backward<'_>) -> Result<()> {
        b.params.truncate(1);
        self.1.backward(b)
    }
}

type Shape = (usize, usize, usize, f32, f32, bool, (usize, usize), usize, f32);

/// Only each tenth row counts.
const TENTH: usize = 10;

fn shapes() -> Vec<Shape> {
    let mut shapes = vec![
        // n, c, v, smoothing, z_loss, bias, rows and columns of a chunk, every which row is ignored (0: none), grad_scale
        (1, 1, 2, 0.0, 0.0, false, (32, 2), 0, 0.5),
        (5, 7, 11, 0.0, 0.0, false, (32, 4), 0, 0.25),
        (13, 8, 67, 0.1, 0.0, true, (4, 32), 3, 2.0),
        (9, 5, 131, 0.0, 1e-2, true, (2, 131), 4, 0.5),
        (33, 16, 257, 0.2, 1e-3, false, (32, 64), 2, 16.0),
        (6, 3, 5, 0.1, 1e-2, true, (3, 9), 0, 3.0),
        // One row in ten counts: they are moved side by side.
        (41, 6, 19, 0.1, 1e-2, true, (3, 8), TENTH, 2.0),
    ];
    // A few labels, and widths that fill no vector.
    shapes.extend((1..=8).map(|v| (7, 16 + 5 * v, v, 0.1, 1e-2, v % 3 != 0, (32, v), 3, 0.5)));
    shapes
}

/// Every shape that the operation is judged on.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, c, v, smoothing, z_loss, bias, (rows, columns), every, grad_scale) in shapes() {
        let ignore = -7;
        let target = |i: usize| {
            let ignored = every == TENTH && i % 10 != 4
                || (1..TENTH).contains(&every)
                    && (i.is_multiple_of(every) || (rows..2 * rows).contains(&i) && every == 4);
            if ignored { ignore } else { ((i * i + 3) % v) as i32 }
        };
        let targets: Vec<i32> = (0..n).map(target).collect();
        let op = LinearCrossEntropy {
            bias,
            smoothing,
            z_loss,
            ignore,
            rows,
            columns,
            ..LinearCrossEntropy::new(n, c, v)
        };
        let (smoothing, z_loss) = (f64::from(smoothing), f64::from(z_loss));
        let dims = Dims { n, c, v, smoothing, z_loss, ignore };
        let bias = |params: &[Vec<f64>]| params.get(1).cloned().unwrap_or_default();
        cases.push(Case {
            name: format!("cross_entropy/{n}x{c}x{v}/chunk{rows}x{columns}"),
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
