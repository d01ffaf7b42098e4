//! Shapes and wrong kernels.

use super::{Scale, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(right: Scale) -> Vec<(&'static str, Box<dyn Op>)> {
    vec![
        ("NaN output", Spoil::nan_output(right)),
        ("sign of dx", Spoil::sign_of_d_input(right, 0)),
        ("divides", Box::new(Scale { factor: 1.0 / right.factor, ..right })),
        (
            "gradient not scaled",
            Spoil::backward_done(right, move |o| {
                let grad = o.d_inputs[0].as_mut().expect("a gradient");
                grad.data.iter_mut().for_each(|d| *d /= right.factor);
            }),
        ),
        (
            "gradient scaled twice",
            Spoil::backward_done(right, move |o| {
                let grad = o.d_inputs[0].as_mut().expect("a gradient");
                grad.data.iter_mut().for_each(|d| *d *= right.factor);
            }),
        ),
        (
            "the last element is left out",
            Spoil::forward_done(right, move |o| {
                let last = o.outputs[0].last_mut().expect("an element");
                *last /= right.factor;
            }),
        ),
    ]
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 0.5), (31, -3.0), (9001, 0.176_776_7)]
        .into_iter()
        .map(|(n, factor)| {
            let op = Scale::new(n, factor).expect("valid");
            let wide = f64::from(factor);
            Case {
                name: format!("scale/{n}"),
                op: Box::new(op),
                ints: vec![],
                scale: 2.0,
                forward: Box::new(move |v| vec![reference::scale(wide, &v.inputs[0])]),
                backward: Box::new(move |_, d| Gradients {
                    inputs: vec![reference::scale(wide, &d[0])],
                    params: vec![],
                }),
                tolerance: 3e-7,
                wrong: wrong(op),
                run: RunInfo::default(),
            }
        })
        .collect()
}
