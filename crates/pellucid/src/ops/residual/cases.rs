//! Shapes and wrong kernels.

use super::{Residual, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(right: Residual) -> Vec<(&'static str, Box<dyn Op>)> {
    vec![
        ("NaN output", Spoil::nan_output(right)),
        ("sign of d_delta", Spoil::sign_of_d_input(right, 1)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        (
            "stream dropped",
            Spoil::forward_done(right, |o| o.outputs[0].copy_from_slice(o.inputs[1])),
        ),
        (
            "layer dropped",
            Spoil::forward_done(right, |o| o.outputs[0].copy_from_slice(o.inputs[0])),
        ),
        (
            "last element of d_delta left out",
            Spoil::backward_done(right, |o| {
                let grad = o.d_inputs[1].as_mut().expect("a gradient");
                *grad.data.last_mut().expect("an element") = 0.0;
            }),
        ),
    ]
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    [1, 31, 1009, 9001]
        .into_iter()
        .map(|n| {
            let op = Residual::new(n).expect("valid");
            Case {
                name: format!("residual/{n}"),
                op: Box::new(op),
                ints: vec![],
                scale: 2.0,
                forward: Box::new(|v| vec![reference::forward(&v.inputs[0], &v.inputs[1])]),
                backward: Box::new(|_, d| {
                    let (dx, d_delta) = reference::backward(&d[0]);
                    Gradients { inputs: vec![dx, d_delta], params: vec![] }
                }),
                tolerance: 3e-7,
                wrong: if n > 31 { wrong(op) } else { vec![] },
                run: RunInfo::default(),
            }
        })
        .collect()
}
