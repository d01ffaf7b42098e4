//! Shapes and wrong kernels.

use super::{Activate, Activation, Gated, GatedDims, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

type Wrong = Vec<(&'static str, Box<dyn Op>)>;

fn wrong(right: Activate, activation: Activation) -> Wrong {
    let other = match activation {
        Activation::Gelu => Activation::GeluTanh,
        Activation::GeluTanh => Activation::Gelu,
        Activation::Relu => Activation::ReluSquared,
        Activation::ReluSquared | Activation::Silu | Activation::Tanh => Activation::Relu,
    };
    vec![
        ("another activation", Box::new(Activate { activation: other, ..right })),
        ("sign of dx", Spoil::sign_of_d_input(right, 0)),
        ("NaN output", Spoil::nan_output(right)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        ("the last element is left out", Box::new(Short { right, last: right.n - 1 })),
        (
            "slope of the input instead of the activation",
            Spoil::backward_done(right, |o| {
                let grad = o.d_inputs[0].as_mut().expect("a gradient");
                grad.data.copy_from_slice(o.d_outputs[0]);
            }),
        ),
    ]
}

/// Leaves the output's last element as it was.
#[derive(Debug)]
struct Short {
    right: Activate,
    last: usize,
}

impl Op for Short {
    fn name(&self) -> &'static str {
        self.right.name()
    }
    fn inputs(&self) -> Vec<usize> {
        self.right.inputs()
    }
    fn outputs(&self) -> Vec<usize> {
        self.right.outputs()
    }
    fn needs(&self) -> crate::autograd::Needs {
        self.right.needs()
    }
    fn forward(&self, mut o: crate::autograd::Forward<'_>) -> crate::error::Result<()> {
        let n = self.last;
        super::apply(self.right.activation, &o.inputs[0][..n], &mut o.outputs[0][..n]);
        Ok(())
    }
    fn backward(&self, o: crate::autograd::Backward<'_>) -> crate::error::Result<()> {
        self.right.backward(o)
    }
}

fn wrong_gated(right: Gated, activation: Activation) -> Wrong {
    let f = right.dims.f;
    let other = if activation == Activation::Silu { Activation::Gelu } else { Activation::Silu };
    vec![
        ("another activation", Box::new(Gated { activation: other, ..right })),
        ("sign of dx", Spoil::sign_of_d_input(right, 0)),
        ("NaN output", Spoil::nan_output(right)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        (
            "gradients of gate and up exchanged",
            Spoil::backward_done(right, move |o| {
                let grad = o.d_inputs[0].as_mut().expect("a gradient");
                grad.data.chunks_mut(2 * f).for_each(|row| row.rotate_left(f));
            }),
        ),
        (
            "gate not multiplied by up",
            Spoil::forward_done(right, move |o| {
                let rows = o.outputs[0].chunks_mut(f).zip(o.inputs[0].chunks(2 * f));
                rows.for_each(|(y, x)| super::apply(activation, &x[..f], y));
            }),
        ),
    ]
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for activation in Activation::ALL {
        // 9001 spans three units of work and a tail.
        for (n, scale) in [(1, 1.0), (31, 3.0), (1009, 1.5), (9001, 8.0)] {
            let op = Activate::new(n, activation).expect("valid");
            cases.push(Case {
                name: format!("activation/{activation:?}/{n}"),
                op: Box::new(op),
                ints: vec![],
                scale,
                forward: Box::new(move |v| vec![reference::forward(activation, &v.inputs[0])]),
                backward: Box::new(move |v, d| Gradients {
                    inputs: vec![reference::backward(activation, &v.inputs[0], &d[0])],
                    params: vec![],
                }),
                tolerance: 1e-6,
                wrong: if n == 1009 { wrong(op, activation) } else { vec![] },
                run: RunInfo::default(),
            });
        }
        for (n, f) in [(1, 1), (3, 17), (13, 65), (2, 1031)] {
            let dims = GatedDims { n, f };
            let op = Gated::new(dims, activation).expect("valid");
            cases.push(Case {
                name: format!("gated/{activation:?}/{n}x{f}"),
                op: Box::new(op),
                ints: vec![],
                scale: 1.5,
                forward: Box::new(move |v| {
                    vec![reference::gated_forward(activation, dims, &v.inputs[0])]
                }),
                backward: Box::new(move |v, d| Gradients {
                    inputs: vec![reference::gated_backward(activation, dims, &v.inputs[0], &d[0])],
                    params: vec![],
                }),
                tolerance: 1e-6,
                wrong: if n == 13 { wrong_gated(op, activation) } else { vec![] },
                run: RunInfo::default(),
            });
        }
    }
    cases
}
