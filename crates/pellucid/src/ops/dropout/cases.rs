//! Shapes and wrong kernels.

use super::{Dropout, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(right: Dropout) -> Vec<(&'static str, Box<dyn Op>)> {
    let Dropout { p, stream, .. } = right;
    vec![
        ("mask of another stream", Box::new(Dropout { stream: stream + 1, ..right })),
        ("another p", Box::new(Dropout { p: p + 0.01, ..right })),
        ("NaN output", Spoil::nan_output(right)),
        ("sign of dx", Spoil::sign_of_d_input(right, 0)),
        (
            "not scaled up",
            Spoil::forward_done(right, move |o| {
                o.outputs[0].iter_mut().for_each(|y| *y *= 1.0 - p);
            }),
        ),
        ("another mask in the backward pass", Spoil::backward_begins(right, |o| o.run.step += 1)),
        ("no mask in the backward pass", Spoil::backward_begins(right, |o| o.run.training = false)),
        (
            "output off by one place",
            Spoil::forward_done(right, move |o| {
                let y = &mut *o.outputs[0];
                y.rotate_right(1);
            }),
        ),
    ]
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    let on = RunInfo { training: true, seed: 0x0123_4567_89AB_CDEF, step: 3, grad_scale: 1.0 };
    let late = RunInfo { step: 0xFFFF_FFFF_FFFF, seed: u64::MAX, ..on };
    let list = [
        (1, 0.5, 0, on),
        (127, 0.1, 7, on),
        (2311, 0.2, 1, on),
        (1024, 0.9, u32::MAX, late),
        (129, 0.0, 1, on),
        (300, 0.5, 1, RunInfo { training: false, ..on }),
    ];
    list.into_iter()
        .map(|(n, p, stream, run)| {
            let op = Dropout::new(n, p, stream).expect("valid");
            Case {
                name: format!("dropout/{n}/{p}/{}", if run.training { "on" } else { "off" }),
                op: Box::new(op),
                ints: vec![],
                scale: 1.0,
                forward: Box::new(move |v| vec![reference::forward(run, p, stream, &v.inputs[0])]),
                backward: Box::new(move |_, d| Gradients {
                    inputs: vec![reference::backward(run, p, stream, &d[0])],
                    params: vec![],
                }),
                tolerance: 3e-7,
                wrong: if n == 2311 { wrong(op) } else { vec![] },
                run,
            }
        })
        .collect()
}
