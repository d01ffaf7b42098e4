//! Shapes and deliberately wrong kernels.

use super::Linear;
use super::reference::{self, Dims};
use crate::autograd::{Op, RunInfo};
use crate::ops::activation::Activation;
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(op: Linear) -> Vec<(&'static str, Box<dyn Op>)> {
    let mut wrong = vec![
        ("NaN output", Spoil::nan_output(op)),
        ("sign of dx", Spoil::sign_of_d_input(op, 0)),
        ("ignores accumulate", Spoil::ignores_accumulate(op)),
        ("weight gradient dropped", Spoil::drops_d_param(op, 0)),
    ];
    if op.bias {
        wrong.push(("bias gradient dropped", Spoil::drops_d_param(op, 1)));
        wrong.push((
            "bias forgotten",
            Spoil::forward_done(op, move |f| {
                let bias = f.params[1];
                for row in f.outputs[0].chunks_exact_mut(op.c_out) {
                    row.iter_mut().zip(bias).for_each(|(y, b)| *y -= b);
                }
            }),
        ));
    }
    if let Some(activation) = op.activation {
        let other =
            if activation == Activation::Silu { Activation::Gelu } else { Activation::Silu };
        wrong.push(("other activation", Box::new(Linear { activation: Some(other), ..op })));
        wrong.push((
            "activation's slope forgotten",
            Spoil::backward_begins(op, |b| b.saved[0].fill(8.0)), // every slope but ReLU²'s is 1 there
        ));
        wrong.push((
            "saves the output instead of pre",
            Spoil::forward_done(op, |f| f.saved[0].copy_from_slice(f.outputs[0])),
        ));
    }
    if op.residual {
        wrong.push((
            "residual added twice",
            Spoil::forward_done(op, |f| {
                let residual = f.inputs[1];
                f.outputs[0].iter_mut().zip(residual).for_each(|(y, r)| *y += r);
            }),
        ));
    }
    wrong
}

/// Every shape that the operation is judged on.
#[must_use]
pub fn cases() -> Vec<Case> {
    let shapes = [
        // n, i, o, bias, activation, residual
        (1, 1, 1, true, None, false),
        (1, 5, 3, false, None, true),
        (7, 13, 11, true, Some(Activation::Gelu), false),
        (67, 9, 31, true, Some(Activation::Relu), true),
        (130, 6, 17, false, Some(Activation::ReluSquared), false),
        (65, 20, 33, true, None, true),
        (3, 4, 700, true, Some(Activation::Silu), false),
        (33, 64, 96, true, Some(Activation::GeluTanh), true),
        (5, 24, 24, true, Some(Activation::Tanh), false),
    ];
    let case = |(n, c_in, c_out, bias, activation, residual)| {
        let op = Linear { bias, activation, residual, ..Linear::new(n, c_in, c_out) };
        let dims = Dims { n, i: c_in, o: c_out, activation };
        let optional = |list: &[Vec<f64>]| list.get(1).cloned().unwrap_or_default();
        Case {
            name: format!("linear/{n}x{c_in}x{c_out}/{activation:?}"),
            op: Box::new(op),
            ints: vec![],
            scale: 1.0,
            forward: Box::new(move |v| {
                let (b, r) = (optional(&v.params), optional(&v.inputs));
                vec![reference::forward(dims, &v.inputs[0], &v.params[0], &b, &r)]
            }),
            backward: Box::new(move |v, d| {
                let b = optional(&v.params);
                let (dx, dw, db) = reference::backward(dims, &v.inputs[0], &v.params[0], &b, &d[0]);
                let mut inputs = vec![dx, d[0].clone()];
                inputs.truncate(v.inputs.len());
                let mut params = vec![dw, db];
                params.truncate(v.params.len());
                Gradients { inputs, params }
            }),
            tolerance: 5e-6,
            wrong: wrong(op),
            run: RunInfo::default(),
        }
    };
    shapes.into_iter().map(case).collect()
}
